"""The q at which a verdict flips: where the throughput of the dense match crosses the MoE's.

A larger match is slower in every layout. So the interval in which it crosses is cut into equal
parts (in ln q) again and again, and a layout that is not ahead of the MoE at the lower end of an
interval is so nowhere inside, and is dropped there.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from qsopt.arrays import Scalar, is_concrete
from qsopt.comparison.dense import NAMED, bracket, relaxed_matches
from qsopt.comparison.duel import Duel
from qsopt.deployments.batches import CHUNK, length, same_length, take
from qsopt.deployments.best import Best
from qsopt.deployments.contest import TIED
from qsopt.deployments.optimum import CASES, of_each_case, searched
from qsopt.programs import compiled
from qsopt.spec.counterfactual import ACTUAL
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service

ROUNDS = 9
"""Refinements, each by a factor of CASES - 1: to 1e-7 of the bracket in ln q."""


def break_even(model: Model, service: Service, duel: Duel) -> Scalar:
    """The q at which the throughput of the match of real sizes, which falls with q, crosses the
    MoE's; NaN if it does not, or the match is named.
    """
    target = duel.moe.best.throughput
    if duel.kind == NAMED:
        return jnp.nan * target
    layouts = duel.dense.layouts
    low, high = bracket(model, service, duel.kind)
    crossed = target > 0.0
    always = of_each_case(ACTUAL), of_each_case(service.efficiency)
    for _ in range(ROUNDS):
        qs = _between(low, high)
        matches = relaxed_matches(model, qs, duel.kind)
        found = searched(matches, service, layouts, *always, near=TIED)
        low, high, crossed, first = _narrowed(qs, found.best, target, crossed)
        if length(layouts) > CHUNK and is_concrete(found):
            layouts = _ahead(layouts, found.throughputs[int(first)] > target)
    return _midpoint(low, high, crossed)


def _ahead(layouts: Deployment, ahead: Bool[Array, " layouts"]) -> Deployment:
    """The layouts that are ahead at the lower end, if any, in a length that is compiled anyway."""
    kept = np.asarray(ahead)
    (shorter,) = same_length(take(layouts, kept if kept.any() else slice(0, 1)), at_least=CHUNK)
    return shorter


@compiled
def _between(low: Scalar, high: Scalar) -> Array:
    return jnp.exp(jnp.linspace(jnp.log(low), jnp.log(high), CASES))


@compiled
def _narrowed(
    qs: Array, reached: Best, target: Scalar, crossed: Bool[Array, ""]
) -> tuple[Scalar, Scalar, Bool[Array, ""], Int[Array, ""]]:
    """The interval in which the throughput crosses the target, whether it has crossed so far, and
    the place of the interval's lower end.
    """
    ahead = jnp.sum(reached.throughput > target)
    first = jnp.clip(ahead - 1, 0, CASES - 2)
    return qs[first], qs[first + 1], crossed & (ahead > 0) & (ahead < CASES), first


@compiled
def _midpoint(low: Scalar, high: Scalar, crossed: Bool[Array, ""]) -> Scalar:
    return jnp.where(crossed, jnp.sqrt(low * high), jnp.nan)
