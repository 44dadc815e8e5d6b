"""What a proposal keeps of its reference: the kind of attention, vocabulary and number formats.

No quality law here prices attention, so a search holds it: head size and KV heads, or the ranks of
latents, are the reference's, and query heads are as many per hidden size. A reference whose layers
mix several kinds of attention, or have windows, states or biases, has no plain class to be written
as; its proposals get grouped heads of its own head size instead, and say so.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from qsopt.arrays import Scalar
from qsopt.errors import InputError
from qsopt.spec.formats import Format, format_name, number_format
from qsopt.spec.layers import NO_WINDOW, Attention, Gqa, Mla
from qsopt.spec.model import Model, Precision, moe_layers

GROUPED, LATENT = "grouped", "latent"
"""Kinds of attention that proposals have."""

HEAD_DIM, KV_HEADS, VOCABULARY = 128, 8, 151936
"""Of a proposal without a reference: those of Qwen3's dense models (arXiv 2505.09388)."""

EVEN = 8
"""Query heads are a multiple of this, so that they can be split."""


@dataclass(frozen=True)
class Body:
    """What proposals have in common."""

    attention: Literal["grouped", "latent"]
    head_dim: int
    """Of grouped heads; of the part of a latent head without position."""
    kv: int
    """KV heads, or the rank of the latents of keys and values."""
    heads_over_hidden: float
    """Query heads per unit of hidden size."""
    vocabulary: int
    precision: str
    """Format of all weights but tables: `bf16` or `fp8_block`; `mxfp4` is of experts alone."""
    kv_cache: str = "bf16"
    normed: bool = True
    """Whether each head of query and key has a norm."""
    tied: bool = False
    q_rank: int = 0
    rope_dim: int = 0
    v_dim: int = 0
    groups: int = 1
    """Groups of experts for node-limited routing."""
    top_groups: int = 1
    replaced: tuple[str, ...] = ()
    """What of the reference is not kept, in words."""

    @property
    def kv_step(self) -> int:
        """Query heads come in multiples of this."""
        return int(np.lcm(EVEN, self.kv)) if self.attention == GROUPED else EVEN

    def formats(self, sparse: Scalar) -> Precision:
        """Formats of a model with this body: of its experts alone where they are mxfp4; a dense
        model then is in fp8.

        Args:
            sparse: 1 for an MoE, 0 for a dense model.
        """
        wide, cache = number_format("bf16"), number_format(self.kv_cache)
        if self.precision != "mxfp4":
            own = number_format(self.precision)
            return Precision(own, own, own, wide, cache)
        fp8 = number_format("fp8_block")
        common = _either(sparse, wide, fp8)
        return Precision(common, common, _either(sparse, number_format("mxfp4"), fp8), wide, cache)


def _either(sparse: Scalar, moe: Format, dense: Format) -> Format:
    return jax.tree.map(lambda one, other: jnp.where(sparse > 0, one, other), moe, dense)


def plain_body(precision: str = "bf16") -> Body:
    """The body where nobody names one."""
    return Body(GROUPED, HEAD_DIM, KV_HEADS, 1.0 / HEAD_DIM, VOCABULARY, precision)


def body_of(model: Model) -> Body:
    """What proposals keep of a model.

    Raises:
        InputError: if it is an encoder-decoder model.
    """
    if model.encoder is not None:
        raise InputError("the reference has an encoder: proposals are decoders; name one of these")
    kinds = [layers.kind for layers in model.decoder.attention]
    precision, kept = _precision(model)
    common = {
        "vocabulary": int(float(model.vocabulary)),
        "precision": precision,
        "tied": bool(float(model.tied)),
    }
    if len(kinds) == 1 and isinstance(kinds[0], Mla) and _is_plain_latent(kinds[0]):
        return Body(**_latent(kinds[0], model), **common, replaced=kept)
    if len(kinds) == 1 and isinstance(kinds[0], Gqa) and _is_plain(kinds[0]):
        return Body(**_grouped(kinds[0], model), **common, replaced=kept)
    return Body(**_stand_in(kinds, model), **common, replaced=(*kept, _NOT_PLAIN))


_NOT_PLAIN = (
    "the attention of the reference has no class of its own to be written as: grouped heads of its "
    "size stand for it"
)


def _precision(model: Model) -> tuple[str, tuple[str, ...]]:
    """The format of the routed experts, or of the dense layers, as far as it can be written."""
    own = model.precision
    weights = own.ffn if moe_layers(model) is None else own.experts
    name = format_name(weights)
    if name in ("bf16", "fp8_block", "mxfp4"):
        return name, ()
    near = "fp8_block" if float(weights.bytes) < 1.5 else "bf16"
    return near, (f"weights of the reference are {name}: proposals are written in {near}",)


def _is_plain(kind: Gqa) -> bool:
    extras = (kind.output_gate, kind.cross, kind.index_heads, 1.0 - kind.projected)
    plain = float(kind.window) >= NO_WINDOW and kind.inputs is None
    return plain and not any(float(each) for each in extras)


def _is_plain_latent(kind: Mla) -> bool:
    return not any(float(each) for each in (kind.index_heads, kind.direct, kind.output_rank))


def _grouped(kind: Gqa, model: Model) -> dict:
    heads, hidden = float(kind.heads), float(model.hidden)
    norms = float(kind.small) - hidden
    return {
        "attention": GROUPED,
        "head_dim": int(float(kind.head_dim)),
        "kv": int(float(kind.kv_heads)),
        "heads_over_hidden": heads / hidden,
        "normed": norms == 2.0 * float(kind.head_dim),
    }


def _latent(kind: Mla, model: Model) -> dict:
    moe = moe_layers(model)
    return {
        "attention": LATENT,
        "head_dim": int(float(kind.nope_dim)),
        "kv": int(float(kind.kv_rank)),
        "heads_over_hidden": float(kind.heads) / float(model.hidden),
        "q_rank": int(float(kind.q_rank)),
        "rope_dim": int(float(kind.rope_dim)),
        "v_dim": int(float(kind.v_dim)),
        "groups": 1 if moe is None else int(float(moe.groups)),
        "top_groups": 1 if moe is None else int(float(moe.top_groups)),
    }


def _stand_in(kinds: list[Attention], model: Model) -> dict:
    """Grouped heads for attention that cannot be written."""
    grouped = next((kind for kind in kinds if isinstance(kind, Gqa)), None)
    if grouped is not None:
        return {**_grouped(grouped, model), "normed": True}
    return {
        "attention": GROUPED,
        "head_dim": HEAD_DIM,
        "kv": KV_HEADS,
        "heads_over_hidden": 1.0 / HEAD_DIM,
    }
