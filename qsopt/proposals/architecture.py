"""An architecture as a few whole numbers, and the model that it is.

All architectures of a body make models of one structure, a group of dense and a group of routed
layers of which either may be empty, so that one compiled function takes thousands of them. Leading
dense layers are as wide as what a token uses of a routed one (DeepSeek-V3: 18,432 = 9 x 2,048).

Norms and biases are those of the classes that `configs` writes: Llama, Qwen3, Mixtral, Qwen3-MoE,
GLM-4-MoE for shared experts beside grouped heads, DeepSeek-V3 and Youtu for latents.
"""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from qsopt.arrays import Scalar, number
from qsopt.proposals.bodies import GROUPED, Body
from qsopt.proposals.measures import STEP
from qsopt.record import Record
from qsopt.spec.layers import DenseFfn, Gqa, Layers, Mla, MoeFfn, Stack
from qsopt.spec.model import Model

COLUMNS = ("layers", "hidden", "kv", "experts", "top_k", "shared", "leading", "width")
"""The numbers of an architecture in the order of a row of a table."""


class Architecture(Record):
    """What is chosen."""

    layers: Scalar = number()
    hidden: Scalar = number()
    kv: Scalar = number()
    """KV heads, or the rank of latents."""
    experts: Scalar = number()
    """Routed experts of a layer; 1 for a dense model."""
    top_k: Scalar = number()
    shared: Scalar = number()
    """Shared experts, as wide as routed ones."""
    leading: Scalar = number()
    """Dense layers before the routed ones; 0 for a dense model, all of whose layers are."""
    width: Scalar = number()
    """Of an expert; of a dense model, of its feed-forward layers."""


def as_row(values: Mapping[str, float]) -> np.ndarray:
    """A row of a table."""
    return np.array([float(values[name]) for name in COLUMNS])


def from_rows(rows: Any) -> Architecture:
    """A table of architectures as one batch, or one row as one."""
    return Architecture(*(rows[..., place] for place in range(len(COLUMNS))))


def is_dense(rows: np.ndarray) -> np.ndarray:
    """Whether a token uses every expert: one expert, or k = E, is a dense model."""
    table = np.asarray(rows)
    return table[..., COLUMNS.index("experts")] <= table[..., COLUMNS.index("top_k")]


def query_heads(hidden: Scalar, body: Body, kv: Scalar) -> Scalar:
    """Query heads: the reference's per hidden size, in whole groups."""
    step = body.kv_step if body.attention != GROUPED else jnp.maximum(kv, 8.0)
    return step * jnp.maximum(jnp.round(hidden * body.heads_over_hidden / step), 1.0)


def built(one: Architecture, body: Body) -> Model:
    """The model of an architecture; differentiable in its numbers but the heads."""
    sparse = jnp.where(one.experts > one.top_k, 1.0, 0.0)
    routed = sparse * (one.layers - one.leading)
    active = (one.top_k + one.shared) * one.width
    dense = DenseFfn(jnp.where(sparse > 0, active, one.width), 3.0, one.hidden)
    return Model(
        decoder=Stack(
            (Layers(one.layers, _attention(one, body, sparse)),),
            (Layers(one.layers - routed, dense), Layers(routed, _experts(one, body))),
        ),
        precision=body.formats(sparse),
        hidden=one.hidden,
        vocabulary=float(body.vocabulary),
        layers=one.layers,
        tied=float(body.tied),
        small=one.hidden,
    )


def _attention(one: Architecture, body: Body, sparse: Scalar) -> Gqa | Mla:
    heads = query_heads(one.hidden, body, one.kv)
    if body.attention == GROUPED:
        normed = jnp.where(has_norms(one, body, sparse), 2.0 * body.head_dim, 0.0)
        return Gqa(heads, one.kv, float(body.head_dim), small=one.hidden + normed)
    ranks = body.q_rank, body.head_dim, body.rope_dim, body.v_dim
    q_rank, nope, rope, value = map(float, ranks)
    return Mla(heads, q_rank, one.kv, nope, rope, value, small=one.hidden + q_rank + one.kv)


def has_norms(one: Architecture, body: Body, sparse: Scalar):
    """Whether heads have norms: the reference's do, or only a class that has them has leading
    dense layers without shared experts.
    """
    return body.normed | ((sparse > 0) & (one.leading > 0) & (one.shared == 0))


def has_router_bias(one: Architecture, body: Body):
    """Whether the class of an MoE has a bias for each expert in its router."""
    return (one.shared > 0) | (body.attention != GROUPED)


def _experts(one: Architecture, body: Body) -> MoeFfn:
    bias = jnp.where(has_router_bias(one, body), one.experts, 0.0)
    limited = has_limited_routing(one, body)
    return MoeFfn(
        experts=one.experts,
        top_k=one.top_k,
        width=one.width,
        shared_experts=one.shared,
        shared_width=jnp.where(one.shared > 0, one.width, 0.0),
        groups=jnp.where(limited, float(body.groups), 1.0),
        top_groups=jnp.where(limited, float(body.top_groups), 1.0),
        small=one.hidden + bias,
    )


def has_limited_routing(one: Architecture, body: Body):
    """Whether the reference's limited routing has room for a token's experts."""
    room = body.top_groups * one.experts / body.groups
    whole = one.experts % body.groups == 0
    return (body.groups > 1) & whole & (one.top_k <= room)


def padded(model: Model) -> Model:
    """A concrete model with one group of dense and one of routed layers, of which either may be
    empty, as `built` makes it.
    """
    groups = model.decoder.ffn
    dense = [group for group in groups if isinstance(group.kind, DenseFfn)]
    routed = [group for group in groups if isinstance(group.kind, MoeFfn)]
    width = float(STEP)
    dense = dense or [Layers(0.0, DenseFfn(width, 3.0))]
    routed = routed or [Layers(0.0, MoeFfn(1.0, 1.0, width))]
    return eqx.tree_at(lambda m: m.decoder.ffn, model, (*dense, *routed))


def trimmed(model: Model) -> Model:
    """The same concrete model without empty groups, as a config makes it."""
    kept = tuple(group for group in model.decoder.ffn if float(group.count) > 0)
    return eqx.tree_at(lambda m: m.decoder.ffn, model, kept, is_leaf=lambda x: x is kept)
