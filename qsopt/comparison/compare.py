"""The comparison: an MoE against its quality-matched dense twin, each in its own best legal
deployment and batch.

Both sides get the same cluster, context, formats, utilization and TPOT limit. The ratio is
throughput of dense over MoE.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool

from qsopt.arrays import Scalar, is_concrete, number
from qsopt.comparison.penalties import DENSE_WORLDS, WORLDS, Penalties, shapley
from qsopt.comparison.twin import (
    QsNumbers,
    aligned,
    bracket,
    dense_twin,
    qs_numbers,
    relaxed_twins,
)
from qsopt.deployments.layouts import legal_layouts
from qsopt.deployments.optimum import Best, Tree, best_of_each, repeated, same_length
from qsopt.deployments.request import closest
from qsopt.errors import InputError
from qsopt.physics.evaluate import Metrics, compiled_metrics
from qsopt.record import Record, Result
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model, moe_layers
from qsopt.spec.service import Service

TIE = 1e-6
"""Relative difference of throughput below which neither side wins."""

CASES = WORLDS.reuse.size
"""Models that one call of the compiled search takes."""

ROUNDS = 9
"""Refinements of the break-even q, each by a factor of CASES - 1: to 1e-7 of the bracket in ln q.
"""


class Side(Record):
    """One side of a comparison in its best deployment."""

    model: Model
    deployment: Deployment
    metrics: Metrics
    feasible: Bool[Array, ""]
    """Whether any deployment keeps the limits."""
    throughput: Scalar = number()
    """Cluster throughput, 0 where nothing is feasible [tokens/s]."""


class Comparison(Result, Record):
    """Both sides, and what separates them."""

    moe: Side
    dense: Side
    numbers: QsNumbers
    """s, q and qs."""
    penalties: Penalties
    """Factors of the ratio; NaN where a side is infeasible."""
    ratio: Scalar = number()
    """Throughput of dense over MoE; NaN where a side is infeasible."""
    break_even_q: Scalar = number()
    """q at which the verdict flips, for a twin of real width; NaN where none does."""

    @property
    def verdict(self) -> str:
        """Who wins (concrete values only)."""
        return verdict(float(self.moe.throughput), float(self.dense.throughput))


def verdict(moe: float, dense: float) -> str:
    """Who wins, by the throughput of both sides, 0 where a side is infeasible [tokens/s]."""
    if not (moe and dense):
        return (
            "both infeasible"
            if not (moe or dense)
            else "moe infeasible"
            if not moe
            else "dense infeasible"
        )
    if abs(dense / moe - 1.0) <= TIE:
        return "tie"
    return "dense wins" if dense > moe else "moe wins"


class Duel(eqx.Module):
    """Both sides aligned to one structure, their layouts, and the best of each in every world."""

    sides: tuple[Model, Model]
    layouts: tuple[Deployment, ...]
    moe: Best
    """In each of `penalties.WORLDS`."""
    dense: Best
    """In each of `penalties.DENSE_WORLDS`, and repeated."""

    @property
    def throughputs(self) -> tuple[Scalar, Scalar]:
        """Of the MoE and of its twin as things are, 0 where infeasible [tokens/s]."""
        return self.moe.throughput[0], self.dense.throughput[0]


def duel(model: Model, twin: Model, service: Service) -> Duel:
    """The best deployments of an MoE and its twin in every world, exactly."""
    layouts = same_length(
        legal_layouts(model, service.cluster, service.rules),
        legal_layouts(twin, service.cluster, service.rules),
    )
    sides = (aligned(model, model), aligned(twin, model))
    return Duel(
        sides,
        layouts,
        best_of_each(repeated(sides[0], CASES), service, layouts[0], WORLDS),
        best_of_each(repeated(sides[1], CASES), service, layouts[1], _DENSE_CASES),
    )


def settle(model: Model, service: Service, q: Scalar) -> tuple[Comparison, Duel]:
    """The comparison of an MoE with its dense twin, and the duel behind it.

    The search is exact: all legal layouts, each with its largest admissible batch. Both sides'
    metrics, and with them the ratio, have derivatives with respect to q, workload, hardware and
    efficiencies: those at their best deployments, which stay as they are. Penalties and break-even
    are constants to a derivative.

    Args:
        model: the MoE, concrete.
        service: what both sides are deployed for.
        q: size factor of the dense twin.

    Raises:
        InputError: if the model has no routed experts, or q leaves the twin no feed-forward layers.
    """
    if moe_layers(model) is None:
        raise InputError(
            "the model is dense: compare needs a Mixture-of-Experts model; use evaluate for a "
            "dense one"
        )
    twin, fixed = dense_twin(model, q), _constant(service)
    found = duel(model, _constant(twin), fixed)
    chosen = [
        _chosen(side, fixed, layouts, best)
        for side, layouts, best in zip(
            found.sides, found.layouts, (found.moe, found.dense), strict=True
        )
    ]
    reached = [
        compiled_metrics(aligned(side, model), service, best.deployment)
        for side, best in zip((model, twin), chosen, strict=True)
    ]
    flip = _break_even(model, fixed, found.layouts[1], found.throughputs[0])
    return _comparison((model, twin), tuple(chosen), tuple(reached), found, q, flip), found


def _constant(tree: Tree) -> Tree:
    """The same numbers, of which a derivative sees nothing."""
    return jax.tree.map(lambda leaf: leaf if is_concrete(leaf) else lax.stop_gradient(leaf), tree)


def _chosen(side: Model, service: Service, layouts: Deployment, best: Best) -> Best:
    """The best deployment of a side as things are; where none keeps the limits, the one that comes
    closest.
    """
    first = _first(best)
    if is_concrete(first) and not bool(first.feasible):
        return closest(side, service, layouts)
    return first


@jax.jit
def _first(best: Best) -> Best:
    return jax.tree.map(lambda leaf: leaf[0], best)


_DENSE_CASES = jax.tree.map(
    lambda values: np.pad(values, (0, CASES - len(values)), mode="edge"), DENSE_WORLDS
)


@jax.jit
def _comparison(
    models: tuple[Model, Model],
    chosen: tuple[Best, Best],
    reached: tuple[Metrics, Metrics],
    found: Duel,
    q: Scalar,
    break_even_q: Scalar,
) -> Comparison:
    moe, dense = (
        Side(
            model,
            best.deployment,
            result,
            best.feasible,
            jnp.where(best.feasible, result.throughput, 0.0),
        )
        for model, best, result in zip(models, chosen, reached, strict=True)
    )
    penalties = shapley(found.moe.throughput, found.dense.throughput[: DENSE_WORLDS.reuse.size])
    both = moe.feasible & dense.feasible
    ratio = jnp.where(both, dense.throughput / jnp.where(both, moe.throughput, 1.0), jnp.nan)
    return Comparison(moe, dense, qs_numbers(models[0], q), penalties, ratio, break_even_q)


def _break_even(model: Model, service: Service, layouts: Deployment, target: Scalar) -> Scalar:
    """The q at which the twin's throughput, which falls with q, crosses `target`; NaN if it does
    not.
    """
    low, high = bracket(model, service.cluster, service.workload)
    crossed = target > 0.0
    for _ in range(ROUNDS):
        qs = _between(low, high)
        reached = best_of_each(relaxed_twins(model, qs), service, layouts)
        low, high, crossed = _narrowed(qs, reached, target, crossed)
    return _midpoint(low, high, crossed)


@jax.jit
def _between(low: Scalar, high: Scalar) -> Array:
    return jnp.exp(jnp.linspace(jnp.log(low), jnp.log(high), CASES))


@jax.jit
def _narrowed(
    qs: Array, reached: Best, target: Scalar, crossed: Bool[Array, ""]
) -> tuple[Scalar, Scalar, Bool[Array, ""]]:
    """The interval in which the throughput crosses the target, and whether it has crossed so
    far.
    """
    ahead = jnp.sum(reached.throughput > target)
    first = jnp.clip(ahead - 1, 0, CASES - 2)
    return qs[first], qs[first + 1], crossed & (ahead > 0) & (ahead < CASES)


@jax.jit
def _midpoint(low: Scalar, high: Scalar, crossed: Bool[Array, ""]) -> Scalar:
    return jnp.where(crossed, jnp.sqrt(low * high), jnp.nan)
