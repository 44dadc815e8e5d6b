"""Dense models in the shape in which dense models are released: deep rather than wide.

A released dense model of N parameters has hidden size over layers and feed-forward width over
hidden size near

    h / L = 126.4 (N / 10^11)^0.062,    f / h = 3.41  (of a gated layer; 2/3 of an ungated width)

fitted by least squares in logs to the dense models of the catalog, 7 to 406 billion parameters (the
page on dense matches has the table; spread 21 % and 29 %). With both ratios given, the size is a
cubic in h, tables, attention and norms included, and h solves it exactly. Exact models have whole
layers, a hidden size that is a multiple of 128, and the multiple of 128 for the width that comes
nearest to the size; they carry the derivatives of the real shape (straight-through).

Attention is the MoE's own, layer by layer (`same`), or grouped with eight KV heads of 128
(`gqa8`), as most released dense models have it.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from qsopt.arrays import EXACT, Scalar, number
from qsopt.comparison.twin import WIDTH_STEP, with_format_of_experts
from qsopt.physics import smooth
from qsopt.physics.parameters import parameter_count
from qsopt.record import Record
from qsopt.spec.layers import Attention, DenseFfn, Gqa, Layers, Stack, with_count
from qsopt.spec.model import Model

MatchAttention = Literal["same", "gqa8"]
"""Attention of a dense match: the MoE's own, or eight KV heads of 128."""

HIDDEN_OVER_LAYERS = 126.4
"""At 1e11 parameters."""

HIDDEN_OVER_LAYERS_GROWTH = 0.0624
"""d log(h / L) / d log N."""

WIDTH_OVER_HIDDEN = 3.41
"""Of a gated feed-forward layer."""

HEAD_DIM, KV_HEADS = 128.0, 8.0
"""Of `gqa8`."""

RELEASED_RATIOS = (80.0, 192.0)
"""Range of h / L over the catalog's dense models."""

_NEWTON_STEPS = 12
"""From a start within a factor of two, in log h, to rounding."""


class DenseShape(Record):
    """The sizes in which dense models of one kind differ."""

    hidden: Scalar = number()
    layers: Scalar = number()
    width: Scalar = number()
    """Of a gated feed-forward layer."""
    heads: Scalar = number()
    """Query heads of `gqa8`."""


def hidden_over_layers(size: Scalar) -> Scalar:
    """h / L of a released dense model of so many parameters."""
    return HIDDEN_OVER_LAYERS * (size / 1e11) ** HIDDEN_OVER_LAYERS_GROWTH


def released(
    model: Model,
    size: Scalar,
    attention: MatchAttention = "same",
    *,
    exact: bool = True,
    ratio: Scalar | None = None,
) -> Model:
    """The dense model of a size in released shape.

    Args:
        model: the MoE, whose vocabulary, formats and, for `same`, attention it takes.
        size: parameters, all tables counted.
        attention: of which kind.
        exact: whether sizes are whole.
        ratio: h / L; that of released models if left out.
    """
    return with_shape(
        model, released_shape(model, size, attention, exact=exact, ratio=ratio), attention
    )


def released_shape(
    model: Model,
    size: Scalar,
    attention: MatchAttention = "same",
    *,
    exact: bool = True,
    ratio: Scalar | None = None,
) -> DenseShape:
    """The sizes of that model."""
    softness = EXACT if exact else 1.0
    ratio = hidden_over_layers(size) if ratio is None else ratio
    real = _hidden(model, size, attention, ratio)
    layers = smooth.rounded(real / ratio, jnp.maximum(jnp.round(real / ratio), 1.0), softness)
    steps = jnp.maximum(jnp.round(real / WIDTH_STEP), 1.0)
    hidden = smooth.rounded(real, WIDTH_STEP * steps, softness)
    heads = smooth.rounded(hidden / HEAD_DIM, _whole_heads(hidden), softness)
    bare = with_shape(model, DenseShape(hidden, layers, jnp.zeros_like(hidden), heads), attention)
    width = (size - parameter_count(bare).total) / (3.0 * hidden * layers)
    steps = jnp.maximum(jnp.round(width / WIDTH_STEP), 1.0)
    width = smooth.rounded(width, WIDTH_STEP * steps, softness)
    return DenseShape(hidden, layers, width, heads)


def _whole_heads(hidden: Scalar) -> Scalar:
    """Query heads in whole groups, so that they can be split."""
    return KV_HEADS * jnp.maximum(jnp.round(hidden / (HEAD_DIM * KV_HEADS)), 1.0)


def _hidden(model: Model, size: Scalar, attention: MatchAttention, ratio: Scalar) -> Scalar:
    """The hidden size at which the shape has the size, by Newton's method in logs; the last step
    carries the derivative of the solution (implicit function theorem).
    """

    def excess(log_hidden: Scalar, model: Model, size: Scalar, ratio: Scalar) -> Scalar:
        hidden = jnp.exp(log_hidden)
        width = WIDTH_OVER_HIDDEN * hidden
        shape = DenseShape(hidden, hidden / ratio, width, hidden / HEAD_DIM)
        shaped = with_shape(model, shape, attention)
        return jnp.log(parameter_count(shaped).total / size)

    def newton(log_hidden: Scalar, *rest: object) -> Scalar:
        value, slope = jax.value_and_grad(excess)(log_hidden, *rest)
        return log_hidden - value / lax.stop_gradient(slope)

    fixed = lax.stop_gradient((model, size, ratio))
    start = jnp.log(fixed[1] * fixed[2] / (3.0 * WIDTH_OVER_HIDDEN + 4.0)) / 3.0
    solved = lax.fori_loop(0, _NEWTON_STEPS, lambda _, at: newton(at, *fixed), start)
    at = lax.stop_gradient(solved)
    slope = jax.grad(excess)(at, *fixed)
    return jnp.exp(at - excess(at, model, size, ratio) / lax.stop_gradient(slope))


def with_shape(model: Model, shape: DenseShape, attention: MatchAttention) -> Model:
    """The dense model of a shape, everything else the MoE's."""
    kinds = model.decoder.attention
    if attention == "same":
        share = shape.layers / model.layers
        stacked = tuple(with_count(each, each.count * share) for each in kinds)
    else:
        grouped: Attention = Gqa(shape.heads, KV_HEADS, HEAD_DIM, small=shape.hidden)
        stacked = (Layers(shape.layers, grouped),)
    ffn = Layers(shape.layers, DenseFfn(shape.width, 3.0, shape.hidden))
    return Model(
        decoder=Stack(stacked, (ffn,)),
        precision=with_format_of_experts(model),
        hidden=shape.hidden,
        vocabulary=model.vocabulary,
        layers=shape.layers,
        tied=model.tied,
        small=shape.hidden,
    )
