"""The whole search: relax, descend from many starts, round, improve exactly, and say how good the
answer is.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from threading import Event
from typing import Any

import jax.numpy as jnp
import numpy as np

from qsopt.deployments.batches import in_numpy
from qsopt.errors import InputError, check_count, check_seed, exactly
from qsopt.interrupts import keeping
from qsopt.physics.evaluate import compiled_metrics
from qsopt.precision import in_float64, same_precision
from qsopt.search.ahead import prepare_polish, prepare_scores, prepare_slopes
from qsopt.search.architecture import with_architecture
from qsopt.search.budget_prices import budget_prices
from qsopt.search.certificate import Certificate, Enumeration, enumerate_grid, enumerate_whole
from qsopt.search.clock import CompileClock
from qsopt.search.conflicts import conflicts
from qsopt.search.evaluator import Designs, Evaluator
from qsopt.search.gradient import BROKEN, ROUNDS, STEPS, Ends, descend, spread
from qsopt.search.prices import shadow_prices
from qsopt.search.problem import DesignProblem
from qsopt.search.refine import Refined, polished_at, refine
from qsopt.search.relaxed import Relaxed, relaxed_problem
from qsopt.search.solution import Answer, Solution, objective_value
from qsopt.search.variables import row_values
from qsopt.slopes.inputs import Design
from qsopt.slopes.sensitivity import sensitivity

STARTS = 64
"""Starts of the relaxed search."""

ENUMERATED = 1e7
"""Designs that a certificate enumerates where nothing else is asked for."""


Found = Callable[[Answer, float, int], None]
"""Told a design, what the objective is there, and of how many designs it is the best."""


def nobody(design: Answer, value: float, designs: int) -> None:
    """Tells nobody."""


MOST_STARTS = 4096
"""Starts take memory together."""

MOST_ENUMERATED = 1e9
"""At some million designs a second on two cores."""


@in_float64
def optimize(
    problem: DesignProblem,
    seed: int = 0,
    starts: int = STARTS,
    certify: float | None = None,
    found: Found = nobody,
) -> Solution:
    """The best legal design of a problem on a decode step.

    Args:
        problem: the question (see `design_problem`).
        seed: of the starts.
        starts: of the relaxed search.
        certify: designs that may be enumerated to certify the answer, `ENUMERATED` if left out; 0
            for no certificate. An interrupt of the enumeration leaves the answer without one.
        found: told the best design, what the objective is there and of how many designs, as soon
            as all of a grid of at most `ENUMERATED` are scored: while the relaxed search goes on.

    Raises:
        InputError: if the seed, the starts or the designs are out of range.
    """
    certify = ENUMERATED if certify is None else certify
    check_counts(seed, starts, certify)
    began, clock = time.perf_counter(), CompileClock()
    evaluator, stop = Evaluator.for_problem(problem), Event()
    with ThreadPoolExecutor(1, initializer=same_precision()) as beside, setting(stop):
        whole = beside.submit(_whole_grid, problem, min(certify, ENUMERATED), stop, found)
        ends, relaxed = search_relaxed(evaluator, seed, starts, beside)
        refined = refine(evaluator, relaxed, ends)
        evaluations = evaluator.evaluations + starts * ROUNDS * STEPS
        fields = _solution_fields(evaluator, relaxed, ends, refined)
        searched = time.perf_counter() - began
        certificate = None
        if refined.answer is not None and certify > 0:
            better, certificate = _certified(evaluator, refined.answer, certify, whole)
            if certificate is not None and certificate.gap > 0:
                optimum = None if problem.minimize else polished_at(evaluator, relaxed, better)
                refined = replace(refined, answer=better, beside=optimum)
                fields = _solution_fields(evaluator, relaxed, ends, refined)
    seconds = {
        "compile": clock.seconds,
        "search": searched,
        "certify": time.perf_counter() - began - searched,
    }
    return Solution(
        **fields, certificate=certificate, starts=starts, evaluations=evaluations, seconds=seconds
    )


def check_counts(seed: int, starts: int, certify: float) -> None:
    """Refuse numbers that no search has.

    Raises:
        InputError: if the seed, the starts or the designs are out of range.
    """
    check_seed(seed)
    check_count("starts", starts, 1, MOST_STARTS, ", as all descend together in memory")
    if not 0 <= certify <= MOST_ENUMERATED:
        raise InputError(
            f"certify = {exactly(certify)}: give 0 to {MOST_ENUMERATED:g} designs, as more would "
            f"take hours"
        )


@contextmanager
def setting(stop: Event) -> Iterator[None]:
    """A block at whose end others are asked to stop."""
    try:
        yield
    finally:
        stop.set()


def _whole_grid(
    problem: DesignProblem, limit: float, stop: Event, found: Found
) -> Enumeration | None:
    """All of the grid where it is small enough, and its best design told."""
    evaluator = Evaluator.for_problem(problem)
    prepare_scores(evaluator)
    listed = enumerate_whole(evaluator, limit, stop)
    if listed is not None and listed.best is not None:
        value = objective_value(problem, float(listed.best.merits[0]))
        found(_answer(problem, listed.best), value, listed.enumerated)
    return listed


def search_relaxed(
    evaluator: Evaluator, seed: int, starts: int, beside: ThreadPoolExecutor | None = None
) -> tuple[Ends, Relaxed]:
    """The relaxed search from many starts, while what comes after it is compiled in a thread."""
    prepared = [] if beside is None else [beside.submit(prepare_slopes, evaluator)]
    relaxed = relaxed_problem(evaluator)
    if beside is not None and not evaluator.problem.minimize:
        prepared.append(beside.submit(prepare_polish, relaxed))
    points, ways = spread(starts, len(relaxed.names), seed)
    ends = descend(relaxed, jnp.asarray(points), jnp.asarray(ways))
    wait(prepared)
    return in_numpy(ends), relaxed


def _certified(
    evaluator: Evaluator, answer: Designs, limit: float, whole: Future[Enumeration | None]
) -> tuple[Designs, Certificate | None]:
    """The answer, or the better one that enumeration meets, and how far the search was from it; no
    certificate where an interrupt ends the enumeration.
    """
    try:
        with keeping():
            listed = whole.result() or enumerate_grid(evaluator, answer, limit)
    except KeyboardInterrupt:
        return answer, None
    optimum = answer
    if listed.best is not None and listed.best.merits[0] > answer.merits[0]:
        optimum = listed.best
    gap = float(optimum.merits[0] - answer.merits[0])
    relative = gap if evaluator.problem.objective == "advantage" else -np.expm1(-gap)
    value = objective_value(evaluator.problem, float(optimum.merits[0]))
    return optimum, Certificate(
        listed.enumerated, listed.grid, value, float(relative), listed.complete
    )


# ---- the solution --------------------------------------------------------------------------------


def _solution_fields(
    evaluator: Evaluator, relaxed: Relaxed, ends: Ends, refined: Refined
) -> dict[str, Any]:
    """Fields of the solution that do not depend on how it was certified."""
    problem, cost = evaluator.problem, float(ends.costs[ends.best_index])
    all_real = objective_value(problem, -cost) if cost < BROKEN else float("nan")
    if refined.answer is None:
        return {
            "best": None,
            "value": float("nan"),
            "relaxed_value": float("nan"),
            "all_real_value": all_real,
            "sensitivity": None,
            "shadow_prices": (),
            "multipliers": {},
            "budgets": (),
            "conflicts": conflicts(evaluator),
        }
    best, merit = _answer(problem, refined.answer), float(refined.answer.merits[0])
    reached = objective_value(problem, max(merit, refined.log_objective))
    slopes = sensitivity(Design(best.model, problem.service, best.deployment))
    prices, optimum = slopes.shadow_prices, refined.beside
    if optimum is not None and problem.objective != "advantage":
        prices = shadow_prices(problem, evaluator.admission, optimum)
    return {
        "best": best,
        "value": objective_value(problem, merit),
        "relaxed_value": all_real if problem.minimize else reached,
        "all_real_value": all_real,
        "sensitivity": slopes,
        "shadow_prices": prices,
        "multipliers": {} if optimum is None else optimum.multipliers,
        "budgets": budget_prices(problem, relaxed, optimum, best),
        "conflicts": (),
    }


def _answer(problem: DesignProblem, design: Designs) -> Answer:
    """The record of the design that answers."""
    values, deployment = row_values(problem.architecture, design.rows[0]), design.deployment
    model = with_architecture(
        problem.reference,
        {name: np.asarray(value) for name, value in values.items()},  # pyright: ignore[reportArgumentType]
    )
    return Answer(model, deployment, compiled_metrics(model, problem.service, deployment), values)
