"""A model as an architecture of a body, where it is one."""

import equinox as eqx
import jax
import numpy as np

from qsopt.errors import InputError
from qsopt.proposals.architecture import as_row
from qsopt.proposals.bodies import GROUPED, Body
from qsopt.proposals.configs import model_of
from qsopt.spec.layers import DenseFfn, Gqa, Mla, MoeFfn
from qsopt.spec.model import Model


def row_of(model: Model, body: Body) -> np.ndarray | None:
    """The architecture whose config makes this model, layers that only draft aside; None if there
    is none.
    """
    guess = near_row(model, body)
    if guess is None:
        return None
    try:
        made = model_of(guess, body)
    except InputError:
        return None
    if jax.tree.structure(made) != jax.tree.structure(model):
        return None
    plain = eqx.tree_at(lambda m: m.draft_layers, model, made.draft_layers)
    pairs = zip(jax.tree.leaves(made), jax.tree.leaves(plain), strict=True)
    return guess if all(np.isclose(float(a), float(b), rtol=1e-9) for a, b in pairs) else None


def near_row(model: Model, body: Body) -> np.ndarray | None:
    """The architecture with the sizes of a model, whatever its norms and biases; None where its
    layers are of more kinds.
    """
    kinds = [layers.kind for layers in model.decoder.attention]
    routed = [group for group in model.decoder.ffn if isinstance(group.kind, MoeFfn)]
    plain = [group for group in model.decoder.ffn if isinstance(group.kind, DenseFfn)]
    if len(kinds) != 1 or len(routed) > 1 or len(plain) > 1 or model.encoder is not None:
        return None
    kind = kinds[0]
    if not isinstance(kind, Gqa if body.attention == GROUPED else Mla):
        return None
    kv = kind.kv_heads if isinstance(kind, Gqa) else kind.kv_rank
    common = {"layers": model.layers, "hidden": model.hidden, "kv": kv}
    if not routed:
        width = plain[0].kind.width
        own = {"experts": 1, "top_k": 1, "shared": 0, "leading": 0, "width": width}
        return as_row({**common, **own})
    moe = routed[0].kind
    assert isinstance(moe, MoeFfn)
    own = {
        "experts": moe.experts,
        "top_k": moe.top_k,
        "shared": moe.shared_experts,
        "leading": plain[0].count if plain else 0,
        "width": moe.width,
    }
    return as_row({**common, **own})
