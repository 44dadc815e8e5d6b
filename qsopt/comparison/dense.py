"""The dense models that an MoE is compared with: which kinds there are, and how each is made.

* `same-body`: the MoE's layers, hidden size and attention with one wide feed-forward layer, as the
  paper argues.
* `released`: the shape of released dense models (see `shapes`), with the MoE's own attention or
  with eight KV heads of 128.
* `named`: a model that exists; its size over the MoE's active parameters is q, a result.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from qsopt.arrays import Scalar, is_concrete, scalar
from qsopt.comparison.shapes import DenseShape, MatchAttention, released_shape, with_shape
from qsopt.comparison.twin import (
    aligned,
    check_size_factor,
    dense_twin,
    largest_q,
    rounded_width,
    smallest_q,
    width_of_size,
    with_dense_ffn,
)
from qsopt.errors import InputError
from qsopt.physics.parameters import parameter_count
from qsopt.programs import compiled
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
    check_q(model, q, kind)
    if kind.twin == "same-body":
        return dense_twin(model, q, exact=exact)
    size = scalar(q)
    if not is_concrete((model, size)):
        return _released(model, size, kind, exact)
    with jax.ensure_compile_time_eval():  # inside of a user's jit too: its layouts can be listed
        return _compiled_released(model, size, kind, exact)


def _released(model: Model, q: Scalar, kind: MatchKind, exact: bool) -> Model:
    size = q * parameter_count(model).active
    return with_sizes(model, match_shape(model, size, kind, exact=exact), kind)


_compiled_released = compiled(_released, static=("kind", "exact"))


def check_q(model: Model, q: Scalar, kind: MatchKind) -> None:
    """Refuse a concrete q so small that nothing is left for the feed-forward layers.

    Raises:
        InputError: with the least q.
    """
    check_size_factor(model, scalar(q), partial(_compiled_least_q, kind=kind))


def least_q(model: Model, kind: MatchKind) -> Scalar:
    """The smallest q of which a kind has a match; twice the tables of the narrowest released
    shape.
    """
    if kind.twin == "same-body":
        return smallest_q(model)
    tables = (2.0 - model.tied) * model.vocabulary * LEAST_HIDDEN
    return 2.0 * tables / parameter_count(model).active


_compiled_least_q = compiled(least_q, static=("kind",))


def match_shape(model: Model, size: Scalar, kind: MatchKind, *, exact: bool = True) -> DenseShape:
    """The shape of the dense model of a kind and a size.

    Args:
        model: the MoE.
        size: parameters, all tables counted.
        kind: any but `NAMED`.
        exact: whether sizes are whole.
    """
    if kind.twin == "same-body":
        width = width_of_size(model, size)
        width = rounded_width(width) if exact else width
        return DenseShape(model.hidden, model.layers, width, jnp.zeros_like(width))
    return released_shape(model, size, _attention(kind), exact=exact)


def with_sizes(model: Model, shape: DenseShape, kind: MatchKind) -> Model:
    """The dense model of a kind that has a shape."""
    if kind.twin == "same-body":
        return with_dense_ffn(model, shape.width)
    return with_shape(model, shape, _attention(kind))


def _attention(kind: MatchKind) -> MatchAttention:
    return "gqa8" if kind.attention == GQA8 else "same"


def relaxed_matches(model: Model, qs: ArrayLike, kind: MatchKind) -> Model:
    """Matches of real sizes for several q as one batch, aligned to the MoE's structure."""
    return _relaxed(model, jnp.asarray(qs), kind)


def _relaxed_batch(model: Model, qs: Float[Array, " cases"], kind: MatchKind) -> Model:
    sizes = qs * parameter_count(model).active

    def one(size: Scalar) -> Model:
        shape = match_shape(model, size, kind, exact=False)
        return aligned(with_sizes(model, shape, kind), model)

    return jax.vmap(one)(sizes)


_relaxed = compiled(_relaxed_batch, static=("kind",))


def bracket(model: Model, service: Service, kind: MatchKind) -> tuple[Scalar, Scalar]:
    """Between which values of q a match of a kind exists on a cluster."""
    return _bracket(model, service, kind)


def _bracket_of(model: Model, service: Service, kind: MatchKind) -> tuple[Scalar, Scalar]:
    return least_q(model, kind), largest_q(model, service.cluster, service.workload)


_bracket = compiled(_bracket_of, static=("kind",))


def size_factor(model: Model, dense: Model) -> Scalar:
    """q of a dense model that exists: its size over the MoE's active parameters.

    Raises:
        InputError: if it is no dense model.
    """
    if moe_layers(dense) is not None:
        raise InputError("the model given as dense has routed experts; name a dense model")
    return parameter_count(dense).total / parameter_count(model).active
