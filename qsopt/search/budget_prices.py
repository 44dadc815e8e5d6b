"""Shadow prices of budgets: d objective / d budget, the design chosen anew.

At the relaxed optimum in the answer's layout, with real replicas, the multiplier l of a constraint
g <= 0 says how the optimum f (the log of the objective) answers to its limit, d f / d log limit =
l. The devices n stand in several formulas at once and bring d f - sum_i l_i d g_i (the envelope
theorem); a dollar an hour brings as many of them as it pays for. A cost is of all n devices: the
log of it moves by d log n - d f.
"""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qsopt.arrays import Scalar
from qsopt.programs import compiled
from qsopt.search.budgets import (
    RENTAL,
    TRAINING,
    UNITS,
    BudgetPrice,
    rental_of,
    taken,
)
from qsopt.search.polish import LIMITS, SHARP, Polished
from qsopt.search.problem import UNITS as OBJECTIVE_UNITS
from qsopt.search.problem import DesignProblem
from qsopt.search.relaxed import Relaxed, joined, terms_of
from qsopt.search.solution import Answer, objective_value
from qsopt.spec.deployment import Deployment

NOTHING = 1e-9
"""Elasticity that is rounding."""


def budget_prices(
    problem: DesignProblem, relaxed: Relaxed, optimum: Polished | None, answer: Answer
) -> tuple[BudgetPrice, ...]:
    """Every budget that was given, in the order of its fields."""
    given = problem.budgets.given
    if not given:
        return ()
    devices = float(answer.metrics.replicas) * float(answer.deployment.replica_devices)
    used = taken(problem.service, devices, answer.model, problem.tokens)
    slopes = _slopes(problem, relaxed, optimum)
    unit = OBJECTIVE_UNITS[problem.objective]
    return tuple(
        BudgetPrice(
            name, limit, used[name], UNITS[name], slopes[name], unit, None, slopes[name] != 0
        )
        for name, limit in given.items()
    )


def _slopes(problem: DesignProblem, relaxed: Relaxed, optimum: Polished | None) -> dict[str, float]:
    """d objective / d budget of each that was given; 0 where it does not bind."""
    given = dict.fromkeys(problem.budgets.given, 0.0)
    if optimum is None:
        return given
    value = objective_value(problem, optimum.log_objective)
    sense = -1.0 if problem.objective == "cost" else 1.0
    if TRAINING in given:
        elasticity = optimum.multipliers[TRAINING]
        given[TRAINING] = sense * elasticity * value / problem.budgets.training_flops + 0.0
    binding = binding_devices(problem)
    if binding is None:
        return given
    elasticity = sense * _elasticity_of_devices(relaxed, optimum) + (sense < 0)
    if abs(elasticity) > NOTHING:
        slope = elasticity * value / float(problem.service.cluster.devices)
        given[binding] = slope / (rental_of(problem.service) if binding == RENTAL else 1.0)
    return given


def binding_devices(problem: DesignProblem) -> str | None:
    """The budget without which there would be more devices; None where there is none, or two."""
    if problem.unlimited is None:
        return None
    most = problem.budgets.devices_of(problem.unlimited)
    least = min(most.values())
    tight = [name for name, devices in most.items() if devices == least]
    return tight[0] if len(tight) == 1 and tight[0] != "cluster" else None


def _elasticity_of_devices(relaxed: Relaxed, optimum: Polished) -> float:
    """d log objective / d log devices of the design chosen anew."""
    values = {name: np.asarray(value) for name, value in optimum.values.items()}
    slopes = np.asarray(_slopes_in_devices(relaxed, values, optimum.layout))  # pyright: ignore[reportArgumentType]
    multipliers = np.array([optimum.multipliers[name] for name in LIMITS])
    bound = multipliers > 0
    return float(slopes[0] - multipliers[bound] @ slopes[1:][bound])


@compiled
def _slopes_in_devices(
    relaxed: Relaxed, values: Mapping[str, Scalar], layout: Deployment
) -> Float[Array, " all"]:
    """Derivatives of the log objective and of all log ratios in the log of the devices."""

    def outputs(log_devices: Scalar) -> Array:
        on = eqx.tree_at(lambda r: r.service.cluster.devices, relaxed, jnp.exp(log_devices))
        return joined(terms_of(on, values, layout, jnp.asarray(SHARP)))

    return jax.jacfwd(outputs)(jnp.log(jnp.asarray(relaxed.service.cluster.devices)))
