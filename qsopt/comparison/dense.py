"""The dense models that an MoE is compared with: which kinds there are, and how each is made.

* `same-body`: the MoE's layers, hidden size and attention with one wide feed-forward layer, as the
  paper argues.
* `released`: the shape of released dense models (see `shapes`), with the MoE's own attention or
  with eight KV heads of 128.
* `named`: a model that exists; its size over the MoE's active parameters is q, a result.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from qsopt.arrays import Scalar, scalar
from qsopt.comparison import shapes
from qsopt.comparison.twin import (
    aligned,
    dense_twin,
    largest_q,
    smallest_q,
    twin_width,
    with_dense_ffn,
)
from qsopt.errors import InputError
from qsopt.physics.accounting import parameter_count
from qsopt.spec.model import Model, moe_layers
from qsopt.spec.service import Service

Twin = Literal["same-body", "released"]
"""Kinds that are made for an MoE."""

SAME, GQA8, OWN = "same", "gqa8", "own"
"""Attention of a match: the MoE's, eight KV heads of 128, or that of a named model."""

LEAST_HIDDEN = 256.0
"""No released shape is narrower."""


@dataclass(frozen=True)
class MatchKind:
    """Which dense model: its shape, and its attention."""

    twin: str
    attention: str = SAME

    @property
    def text(self) -> str:
        """In words."""
        if self.twin == "named":
            return "the named dense model"
        if self.twin == "same-body":
            return "same body"
        return f"released shape, {'8 KV heads' if self.attention == GQA8 else 'same attention'}"


SAME_BODY = MatchKind("same-body")
RELEASED, RELEASED_GQA8 = MatchKind("released"), MatchKind("released", GQA8)
NAMED = MatchKind("named", OWN)


def match_kind(twin: str, attention: str) -> MatchKind:
    """The kind of these names.

    Raises:
        InputError: if there is no such kind.
    """
    if twin not in get_args(Twin):
        raise InputError(f"twin = {twin}: take one of {', '.join(get_args(Twin))}")
    if attention not in (SAME, GQA8):
        raise InputError(f"twin_attention = {attention}: take {SAME} or {GQA8}")
    if twin == "same-body" and attention != SAME:
        raise InputError("twin_attention is for a twin of released shape; take --twin released")
    return SAME_BODY if twin == "same-body" else MatchKind(twin, attention)


def kinds_of(model: Model) -> tuple[MatchKind, ...]:
    """The kinds that an MoE has: one with an encoder has no match of released shape."""
    return (SAME_BODY, RELEASED, RELEASED_GQA8) if model.encoder is None else (SAME_BODY,)


def dense_match(model: Model, q: Scalar, kind: MatchKind, *, exact: bool = True) -> Model:
    """The dense model of a kind with q times the active parameters.

    Args:
        model: the MoE.
        q: size factor.
        kind: any but `NAMED`.
        exact: whether sizes are whole; their derivatives are those of the real ones either way.

    Raises:
        InputError: if q is so small that nothing is left for the feed-forward layers.
    """
    if kind.twin == "same-body":
        return dense_twin(model, q, exact=exact)
    return _released(model, scalar(q), kind, exact)


def _released(model: Model, q: Scalar, kind: MatchKind, exact: bool) -> Model:
    size = q * parameter_count(model).active
    attention: shapes.MatchAttention = "gqa8" if kind.attention == GQA8 else "same"
    return shapes.released(model, size, attention, exact=exact)


def relaxed_matches(model: Model, qs: ArrayLike, kind: MatchKind) -> Model:
    """Matches of real sizes for several q as one batch, aligned to the MoE's structure."""
    return _relaxed(model, jnp.asarray(qs), kind)


def _one_relaxed(model: Model, q: Scalar, kind: MatchKind) -> Model:
    if kind.twin == "same-body":
        return aligned(with_dense_ffn(model, twin_width(model, q)), model)
    return aligned(_released(model, q, kind, exact=False), model)


def _relaxed_batch(model: Model, qs: Float[Array, " cases"], kind: MatchKind) -> Model:
    return jax.vmap(lambda q: _one_relaxed(model, q, kind))(qs)


_relaxed = jax.jit(_relaxed_batch, static_argnums=2)


def bracket(model: Model, service: Service, kind: MatchKind) -> tuple[Scalar, Scalar]:
    """Between which values of q a match of a kind exists on a cluster."""
    return _bracket(model, service, kind)


def _bracket_of(model: Model, service: Service, kind: MatchKind) -> tuple[Scalar, Scalar]:
    high = largest_q(model, service.cluster, service.workload)
    if kind.twin == "same-body":
        return smallest_q(model), high
    count = parameter_count(model)
    tables = (2.0 - model.tied) * model.vocabulary * LEAST_HIDDEN
    return 2.0 * tables / count.active, high


_bracket = jax.jit(_bracket_of, static_argnums=2)


def size_factor(model: Model, dense: Model) -> Scalar:
    """q of a dense model that exists: its size over the MoE's active parameters.

    Raises:
        InputError: if it is no dense model.
    """
    if moe_layers(dense) is not None:
        raise InputError("the model given as dense has routed experts; name a dense model")
    return parameter_count(dense).total / parameter_count(model).active
