"""Shadow prices and multipliers against choosing the design anew with the limit moved."""

from functools import cache

import equinox as eqx
import numpy as np
import pytest
from search_problems import problem

from qsopt.search.evaluator import Evaluator
from qsopt.search.optimize import Solution, optimize
from qsopt.search.polish import Polished, polished
from qsopt.search.prices import reference_q
from qsopt.search.refine import polished_at
from qsopt.search.relaxed import Relaxed, relaxed_problem

MOVE = 0.01

PROBLEMS = {
    "memory and quality": problem(),
    "time and quality": problem(tpot=0.02),
    "total": problem("4xmi300x", 1024.0, tpot=0.02, most_total=3.6e10),
    "active": problem(most_active=9e9),
}

LEAVES = {
    "memory": (lambda r: r.service.cluster.accelerator.memory_bytes, 1e9),
    "tpot": (lambda r: r.service.workload.tpot_limit, 1e-3),
    "quality": (lambda r: r.ceilings.quality, None),
    "total_parameters": (lambda r: r.ceilings.total, 1e9),
    "active_parameters": (lambda r: r.ceilings.active, 1e9),
    "bandwidth": (lambda r: r.service.cluster.accelerator.bandwidth, 1e9),
}


@cache
def found(name: str) -> Solution:
    return optimize(PROBLEMS[name], certify=0)


def reached(relaxed: Relaxed, solution: Solution) -> Polished:
    """The relaxed optimum in the answer's layout, chosen anew."""
    best = solution.best
    assert best is not None
    end = polished(
        relaxed, best.architecture | {"batch": float(best.deployment.batch)}, best.deployment
    )
    assert end is not None
    return end


@pytest.mark.parametrize("name", PROBLEMS)
def test_prices_are_what_a_moved_limit_brings(name):
    """Within 2 % where the limit binds, and nothing where it does not; the limit moved by 1 %
    either way.
    """
    solution, evaluator = found(name), Evaluator.for_problem(PROBLEMS[name])
    relaxed = relaxed_problem(evaluator)
    for price in solution.shadow_prices:
        leaf, unit = LEAVES[price.constraint]
        unit = unit or evaluator.admission.reference_size / reference_q(
            PROBLEMS[name], evaluator.admission
        )
        here = float(np.asarray(leaf(relaxed)))
        ends = [
            np.exp(
                reached(eqx.tree_at(leaf, relaxed, np.asarray(here * f)), solution).log_objective
            )
            for f in (1 - MOVE, 1 + MOVE)
        ]
        brought = (ends[1] - ends[0]) / (2 * MOVE * here / unit)
        assert price.multiplier == pytest.approx(brought, rel=0.02, abs=1e-9), price.constraint
        if price.constraint != "bandwidth":
            assert price.active == (abs(brought) > 1e-9), price.constraint


def test_the_problems_make_every_limit_bind_and_spare_it():
    active = {
        name: {price.constraint for price in found(name).shadow_prices if price.active}
        for name in PROBLEMS
    }
    asked = {name: {price.constraint for price in found(name).shadow_prices} for name in PROBLEMS}
    for constraint in ("memory", "tpot", "quality", "total_parameters", "active_parameters"):
        assert any(constraint in active[name] for name in PROBLEMS), constraint
    assert any("memory" in asked[name] - active[name] for name in PROBLEMS)


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_polished_design_keeps_the_limits_and_is_no_worse(name):
    solution, evaluator = found(name), Evaluator.for_problem(PROBLEMS[name])
    end = reached(relaxed_problem(evaluator), solution)
    assert end.residual < 1e-5
    answer = evaluator.designs(
        np.array([[solution.best.architecture[each.name] for each in PROBLEMS[name].architecture]])
    )
    again = polished_at(evaluator, relaxed_problem(evaluator), answer)
    assert again.log_objective == pytest.approx(end.log_objective, abs=1e-6)
    assert end.log_objective >= np.log(solution.value) - 1e-12
