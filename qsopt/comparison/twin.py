"""The dense model of the same quality: same layers, attention and vocabulary, one gated
feed-forward width for all layers.

    s = N_active / N_total,  q = N_dense / N_active,  q s = N_dense / N_total

with all embedding tables counted in every N. The twin's width f solves base + L (3 h f + h) = q
N_active, where base is everything outside the feed-forward layers and h the norm of each. The exact
twin takes the nearest multiple of 128.
"""

from collections.abc import Callable
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from qsopt.arrays import Scalar, is_concrete, number, scalar
from qsopt.errors import InputError
from qsopt.physics.layer_weights import ffn_gemms as gemms
from qsopt.physics.layer_weights import weights
from qsopt.physics.parameters import compiled_parameter_count, parameter_count
from qsopt.programs import compiled
from qsopt.record import Record
from qsopt.spec.hardware import Cluster
from qsopt.spec.layers import DenseFfn, Layers, MoeFfn, Stack
from qsopt.spec.model import Model, Precision, moe_layers, stacks
from qsopt.spec.workload import Workload

WIDTH_STEP = 128.0
"""Widths of exact twins are multiples of this, as kernels want them."""


class QsNumbers(Record):
    """The numbers of the qs criterion."""

    s: Scalar = number()
    """Share of the parameters that a token activates."""
    q: Scalar = number()
    """Size of the quality-matched dense model in units of the active parameters."""

    @property
    def qs(self) -> Scalar:
        """Size of the dense model in units of the MoE's total; below 1 the MoE is structurally
        disadvantaged.
        """
        return self.q * self.s


def geometric_q(model: Model) -> Scalar:
    """q = s^(-1/2): the dense model of the geometric mean of total and active parameters.

    A rule of thumb without derivation (A. Jiang, Stanford CS25, "Demystifying Mixtral of Experts",
    2024).
    """
    count = parameter_count(model)
    return jnp.sqrt(count.total / count.active)


def qs_numbers(model: Model, q: Scalar) -> QsNumbers:
    """s, q and qs of a model with all tables counted."""
    count = compiled_parameter_count(model)
    return QsNumbers(count.active / count.total, q)


def twin_width(model: Model, q: Scalar) -> Scalar:
    """Feed-forward width at which the twin has q N_active parameters, as a real number (negative
    where q is too small).
    """
    return width_of_size(model, q * parameter_count(model).active)


def width_of_size(model: Model, size: Scalar) -> Scalar:
    """The same for a size [parameters]."""
    count = parameter_count(model)
    layers = sum(group.count for stack in stacks(model) for group in stack.ffn)
    base = count.attention + count.input_table + count.head + model.small
    base += sum(
        group.distinct * group.kind.small for stack in stacks(model) for group in stack.attention
    )
    per_layer = (size - base) / layers - model.hidden
    return per_layer / weights(gemms(model.hidden, scalar(1.0), scalar(3.0)))


def dense_twin(model: Model, q: object, *, exact: bool = True) -> Model:
    """The quality-matched dense model of an MoE.

    Args:
        model: the MoE.
        q: size factor.
        exact: round the width to the nearest multiple of 128, with the derivative of the real width
            (see `rounded_width`); False leaves it real, as the relaxed model wants it.

    Raises:
        InputError: if q is so small that nothing is left for the feed-forward layers.
    """
    size = scalar(q)
    check_size_factor(model, size, _smallest_q)
    width = _twin_width(model, size)
    return with_dense_ffn(model, rounded_width(width) if exact else width)


def check_size_factor(model: Model, q: Scalar, smallest: Callable[[Model], Scalar]) -> None:
    """Refuse a concrete q so small that nothing is left for the feed-forward layers.

    Args:
        model: the MoE.
        q: size factor.
        smallest: the least q of a model.

    Raises:
        InputError: with the least q.
    """
    if not is_concrete((model, q)):
        return
    with jax.ensure_compile_time_eval():
        least = float(smallest(model))
    if not float(q) >= least:
        raise InputError(
            f"q = {float(q):g} leaves the dense twin no feed-forward layers: with its attention "
            f"and embeddings it needs at least q = {least:.4g}"
        )


@compiled
def rounded_width(width: Scalar) -> Scalar:
    """The nearest multiple of `WIDTH_STEP`, with the derivative of the width itself.

    The straight-through rule of every rounding here (see `smooth`): what follows from q has the
    slope of the twin of real width, of which the exact one is the nearest neighbour.
    """
    steps = jnp.maximum(jnp.round(width / WIDTH_STEP), 1.0)
    return lax.stop_gradient(WIDTH_STEP * steps) + (width - lax.stop_gradient(width))


_twin_width = compiled(twin_width)


def smallest_q(model: Model) -> Scalar:
    """The q whose twin has a feed-forward width of one step."""
    at = twin_width(model, scalar(0.0)), twin_width(model, scalar(1.0))
    return (WIDTH_STEP - at[0]) / (at[1] - at[0])


_smallest_q = compiled(smallest_q)


def largest_q(model: Model, cluster: Cluster, workload: Workload) -> Scalar:
    """A q whose twin no deployment can hold: its feed-forward layers alone outgrow the cluster's
    memory.
    """
    capacity = cluster.devices * cluster.accelerator.memory_bytes * workload.utilization
    at = twin_width(model, scalar(0.0)), twin_width(model, scalar(1.0))
    layers = sum(group.count for group in model.decoder.ffn)
    width = capacity / (
        layers
        * weights(gemms(model.hidden, scalar(1.0), scalar(3.0)))
        * model.precision.experts.bytes
    )
    return (width - at[0]) / (at[1] - at[0])


def with_dense_ffn(model: Model, width: Scalar) -> Model:
    """The model with gated dense feed-forward layers of one width, in the format that its experts
    had.
    """

    def dense(stack: Stack) -> Stack:
        count = sum(group.count for group in stack.ffn)
        return Stack(stack.attention, (Layers(count, DenseFfn(width, 3.0, model.hidden)),))

    encoder = None if model.encoder is None else dense(model.encoder)
    return Model(
        decoder=dense(model.decoder),
        precision=with_format_of_experts(model),
        hidden=model.hidden,
        vocabulary=model.vocabulary,
        layers=model.layers,
        tied=model.tied,
        small=model.small,
        encoder=encoder,
    )


def with_format_of_experts(model: Model) -> Precision:
    """The formats of a dense match: its feed-forward layers are stored as the experts were."""
    precision = model.precision
    if moe_layers(model) is None:
        return precision
    return eqx.tree_at(lambda p: p.ffn, precision, precision.experts)


def aligned(model: Model, like: Model) -> Model:
    """The same model with layer kinds of zero count added, so that its structure is that of an MoE
    and its twin at once.

    Two models aligned to the same MoE share one compilation.
    """

    def padded(stack: Stack, pattern: Stack) -> Stack:
        dense = tuple(group for group in stack.ffn if isinstance(group.kind, DenseFfn))
        routed = tuple(group for group in stack.ffn if isinstance(group.kind, MoeFfn))
        if not routed:
            routed = tuple(
                Layers(0.0, group.kind) for group in pattern.ffn if isinstance(group.kind, MoeFfn)
            )
        wanted = max(1, sum(isinstance(group.kind, DenseFfn) for group in pattern.ffn))
        spare = tuple(Layers(0.0, DenseFfn(WIDTH_STEP, 3.0)) for _ in range(wanted - len(dense)))
        return Stack(stack.attention, dense + spare + routed)

    encoder = (
        None
        if model.encoder is None or like.encoder is None
        else padded(model.encoder, like.encoder)
    )
    decoder = padded(model.decoder, like.decoder)
    return replace(model, decoder=decoder, encoder=encoder)
