"""The comparison: an MoE against its quality-matched dense twin, each in its own best legal
deployment and batch.

Both sides get the same cluster, context, formats, utilization and TPOT limit. The ratio is
throughput of dense over MoE.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

from qsopt.arrays import Scalar, is_concrete, number
from qsopt.comparison.break_even import break_even
from qsopt.comparison.dense import SAME_BODY, MatchKind, dense_match
from qsopt.comparison.duel import Duel, Optima, dense_optima, moe_optima
from qsopt.comparison.penalties import Penalties, shapley
from qsopt.comparison.twin import QsNumbers, aligned, qs_numbers
from qsopt.deployments.batches import Tree
from qsopt.deployments.best import Best
from qsopt.deployments.request import closest
from qsopt.physics.evaluate import Metrics, compiled_metrics
from qsopt.programs import compiled
from qsopt.record import Record, Result
from qsopt.slopes.inputs import Design
from qsopt.slopes.sensitivity import compiled_at_limit
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model, routed_layers
from qsopt.spec.service import Service

COMPARED = "compare needs a Mixture-of-Experts model; use evaluate for a dense one"
"""What a dense model is told that is to be compared."""

TIE = 1e-6
"""Relative difference of throughput below which neither side wins."""


class Side(Record):
    """One side of a comparison in its best deployment."""

    model: Model = eqx.field(repr=False)
    deployment: Deployment
    metrics: Metrics = eqx.field(repr=False)
    feasible: Bool[Array, ""]
    """Whether any deployment keeps the limits."""
    throughput: Scalar = number()
    """Cluster throughput, 0 where nothing is feasible [tokens/s]."""


class Comparison(Result, Record):
    """Both sides, and what separates them."""

    _first = ("verdict",)

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


def settle(
    model: Model,
    service: Service,
    q: Scalar,
    kind: MatchKind = SAME_BODY,
    named: Model | None = None,
    moe: Optima | None = None,
) -> tuple[Comparison, Duel]:
    """The comparison of an MoE with one dense match, and the duel behind it.

    The search is exact: all legal layouts, each with its largest admissible batch. Both sides'
    metrics, and with them the ratio, have derivatives with respect to q, workload, hardware and
    efficiencies: those at their best deployments, whose batch follows the limit that binds.
    Penalties and break-even are constants to a derivative.

    Args:
        model: the MoE, concrete.
        service: what both sides are deployed for.
        q: size factor of the dense match.
        kind: which match.
        named: the match itself where it is a model that exists.
        moe: the MoE's side, where it is known already.

    Raises:
        InputError: if the model has no routed experts, or q leaves the match no feed-forward
            layers.
    """
    routed_layers(model, COMPARED)
    match = dense_match(model, q, kind) if named is None else named
    fixed = _constant(service)
    moe = moe_optima(model, fixed) if moe is None else moe
    duel = Duel(moe, dense_optima(model, fixed, _constant(q), kind, _constant(match)), kind)
    chosen = [_chosen(side, fixed) for side in (duel.moe, duel.dense)]
    reached = [
        _metrics(aligned(side, model), service, best.deployment)
        for side, best in zip((model, match), chosen, strict=True)
    ]
    flip = break_even(model, fixed, duel)
    return _comparison((model, match), tuple(chosen), tuple(reached), duel, q, flip), duel


def _metrics(model: Model, service: Service, deployment: Deployment) -> Metrics:
    """Of a side; for a derivative the batch follows the limit that binds."""
    if not is_concrete((model, service)):
        deployment = compiled_at_limit(Design(model, service.priced, deployment))
    return compiled_metrics(model, service.priced, deployment)


def _constant(tree: Tree) -> Tree:
    """The same numbers, of which a derivative sees nothing; where all are concrete, placed once
    where they are computed with.
    """
    if is_concrete(tree):
        with jax.ensure_compile_time_eval():  # concrete inside of a user's trace too
            return _placed(tree)
    return jax.tree.map(lambda leaf: leaf if is_concrete(leaf) else lax.stop_gradient(leaf), tree)


@compiled
def _placed(tree: Tree) -> Tree:
    return tree


def _chosen(side: Optima, service: Service) -> Best:
    """The best deployment of a side as things are; where none keeps the limits, the one that comes
    closest.
    """
    if is_concrete(side.best) and not bool(side.best.feasible):
        return closest(side.model, service, side.layouts)
    return side.best


@compiled
def _comparison(
    models: tuple[Model, Model],
    chosen: tuple[Best, Best],
    reached: tuple[Metrics, Metrics],
    duel: Duel,
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
    penalties = shapley(duel.moe.worlds, duel.dense.worlds)
    both = moe.feasible & dense.feasible
    ratio = jnp.where(both, dense.throughput / jnp.where(both, moe.throughput, 1.0), jnp.nan)
    return Comparison(moe, dense, qs_numbers(models[0], q), penalties, ratio, break_even_q)
