"""The whole search: relax, descend from many starts, round, improve exactly, and say how good the
answer is.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qsopt.physics.evaluate import compiled_metrics
from qsopt.precision import in_float64, same_precision
from qsopt.search.ahead import prepare_judge, prepare_polish
from qsopt.search.architecture import with_architecture
from qsopt.search.certificate import Certificate, enumerate_grid
from qsopt.search.clock import CompileClock
from qsopt.search.conflicts import conflicts
from qsopt.search.gradient import BROKEN, ROUNDS, STEPS, Found, descend, spread
from qsopt.search.judge import Judge, Verdicts
from qsopt.search.legal import Legal, legal, polished_at
from qsopt.search.prices import shadow_prices
from qsopt.search.problem import DesignProblem
from qsopt.search.relaxed import Relaxed, relaxed_problem
from qsopt.search.solution import Answer, Solution, value_of
from qsopt.sensitivity.inputs import Design
from qsopt.sensitivity.slopes import sensitivity

STARTS = 64
"""Starts of the relaxed search."""

ENUMERATED = 1e7
"""Designs that a certificate enumerates unless told otherwise."""


@in_float64
def optimize(
    problem: DesignProblem, seed: int = 0, starts: int = STARTS, certify: float = ENUMERATED
) -> Solution:
    """The best legal design of a problem.

    Args:
        problem: what is wanted (see `design_problem`).
        seed: of the starts.
        starts: of the relaxed search.
        certify: designs that may be enumerated to certify the answer; 0 for no certificate.
    """
    began, clock = time.perf_counter(), CompileClock()
    judge = Judge.of(problem)
    found, relaxed = search_relaxed(judge, seed, starts)
    reached = legal(judge, relaxed, found)
    evaluations = judge.evaluations + starts * ROUNDS * STEPS
    told = _told(judge, found, reached)
    searched = time.perf_counter() - began
    certificate = None
    if reached.answer is not None and certify > 0:
        better, certificate = _certified(judge, reached.answer, certify)
        if certificate.gap > 0:
            beside = None if problem.minimize else polished_at(judge, relaxed, better)
            told = _told(judge, found, replace(reached, answer=better, beside=beside))
    seconds = {
        "compile": clock.seconds,
        "search": searched,
        "certify": time.perf_counter() - began - searched,
    }
    return Solution(
        **told, certificate=certificate, starts=starts, evaluations=evaluations, seconds=seconds
    )


def search_relaxed(judge: Judge, seed: int, starts: int) -> tuple[Found, Relaxed]:
    """The relaxed search from many starts, while what comes after it is compiled."""
    with ThreadPoolExecutor(1, initializer=same_precision()) as beside:
        beside.submit(prepare_judge, judge)
        relaxed = relaxed_problem(judge)
        if not judge.problem.minimize:
            beside.submit(prepare_polish, relaxed)
        points, ways = spread(starts, len(relaxed.names), seed)
        found = descend(relaxed, jnp.asarray(points), jnp.asarray(ways))
    return jax.tree.map(np.asarray, found), relaxed


def _certified(judge: Judge, answer: Verdicts, limit: float) -> tuple[Verdicts, Certificate]:
    """The answer, or what enumeration found better, and how far the search was from it."""
    listed = enumerate_grid(judge, answer, limit)
    optimum = (
        listed.best
        if listed.best is not None and listed.best.merits[0] > answer.merits[0]
        else answer
    )
    gap = float(optimum.merits[0] - answer.merits[0])
    relative = gap if judge.problem.objective == "advantage" else -np.expm1(-gap)
    value = value_of(judge.problem, float(optimum.merits[0]))
    return optimum, Certificate(
        listed.enumerated, listed.grid, value, float(relative), listed.complete
    )


# ---- what is told --------------------------------------------------------------------------------


def _told(judge: Judge, found: Found, reached: Legal) -> dict[str, Any]:
    """Fields of the solution that do not depend on how it was certified."""
    problem, first = judge.problem, int(np.argmin(found.merits))
    kept = found.merits[first] < BROKEN
    everything_real = value_of(problem, -float(found.merits[first])) if kept else float("nan")
    if reached.answer is None:
        nothing = {"best": None, "sensitivity": None, "shadow_prices": (), "multipliers": {}}
        values = {
            "value": float("nan"),
            "relaxed_value": float("nan"),
            "all_real_value": everything_real,
        }
        return {**nothing, **values, "conflicts": conflicts(judge)}
    best, service, merit = (
        _answer(problem, reached.answer),
        problem.service,
        float(reached.answer.merits[0]),
    )
    optimum = reached.beside
    slopes = sensitivity(Design(best.model, service, best.deployment))
    prices = slopes.shadow_prices
    if optimum is not None and problem.objective != "advantage":
        prices = shadow_prices(problem, judge.admission, optimum)
    return {
        "best": best,
        "value": value_of(problem, merit),
        "relaxed_value": everything_real
        if problem.minimize
        else value_of(problem, max(merit, reached.most)),
        "all_real_value": everything_real,
        "sensitivity": slopes,
        "shadow_prices": prices,
        "multipliers": {} if optimum is None else optimum.multipliers,
        "conflicts": (),
    }


def _answer(problem: DesignProblem, answer: Verdicts) -> Answer:
    values = {
        each.name: float(value)
        for each, value in zip(problem.architecture, answer.rows[0], strict=True)
    }
    model = with_architecture(
        problem.reference, {name: np.asarray(value) for name, value in values.items()}
    )  # pyright: ignore[reportArgumentType]
    deployment = jax.tree.map(lambda leaf: np.asarray(leaf)[0], answer.best.deployment)
    service = problem.service
    reached = compiled_metrics(model, service, deployment)
    return Answer(model, deployment, reached, values)
