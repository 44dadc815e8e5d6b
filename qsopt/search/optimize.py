"""The whole search: relax, descend from many starts, round, improve exactly, and say how good the answer is."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from qsopt.deployment import Deployment
from qsopt.evaluate import Metrics, compiled_metrics
from qsopt.model import Model
from qsopt.search.architecture import reference_value, with_architecture
from qsopt.search.certificate import Certificate, enumerate_grid
from qsopt.search.clock import CompileClock
from qsopt.search.conflicts import Conflict, coarse, conflicts
from qsopt.search.constraints import ARCHITECTURE_LIMITS, DEPLOYMENT_LIMITS, Ceilings
from qsopt.search.dense import Curve
from qsopt.search.gradient import BROKEN, ROUNDS, STEPS, Found, Relaxed, descend, spread
from qsopt.search.inputs import Design
from qsopt.search.judge import Judge, Verdicts
from qsopt.search.problem import DesignProblem
from qsopt.search.rounding import improved, near_layouts, rounded
from qsopt.search.sensitivity import Sensitivity, ShadowPrice, sensitivity
from qsopt.search.variables import ARCHITECTURE
from qsopt.units import SECONDS_PER_HOUR

STARTS = 64
"""Starts of the relaxed search."""

TAKEN = 16
"""Relaxed points that are rounded."""

APART = 0.02
"""Distance, of the way between a variable's bounds, from which on two relaxed architectures are two."""

ENUMERATED = 1e7
"""Designs that a certificate enumerates unless told otherwise."""

UNLIMITED = 1e18
"""A ceiling that no model reaches [parameters]."""


@dataclass(frozen=True)
class Answer:
    """A legal design that keeps every constraint."""

    model: Model
    deployment: Deployment
    metrics: Metrics
    architecture: dict[str, float]
    """Values of the free architecture variables."""


@dataclass(frozen=True)
class Solution:
    """What `optimize` found."""

    best: Answer | None
    """None where no design keeps the constraints."""
    value: float
    """Of the objective at the best design; NaN without one."""
    relaxed_value: float
    """Of the objective at the relaxed optimum; NaN if no start kept the constraints."""
    certificate: Certificate | None
    """None if none was asked for, or there is no answer."""
    sensitivity: Sensitivity | None
    shadow_prices: tuple[ShadowPrice, ...]
    multipliers: dict[str, float]
    """Of every constraint in log form at the relaxed optimum: d log objective / d log limit."""
    conflicts: tuple[Conflict, ...]
    """Why there is no answer; empty where there is one."""
    starts: int
    evaluations: int
    """Exact designs scored by the search, and relaxed ones; the certificate's not counted."""
    seconds: dict[str, float]
    """compile (an upper bound), search (all but the certificate, compilation included), certify."""


def optimize(problem: DesignProblem, seed: int = 0, starts: int = STARTS, certify: float = ENUMERATED) -> Solution:
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
    answer = _legal(judge, relaxed, found)
    evaluations = judge.evaluations + starts * ROUNDS * STEPS
    details = _details(judge, answer, relaxed, found)
    searched = time.perf_counter() - began
    certificate = None
    if answer is not None and certify > 0:
        answer, certificate = _certified(judge, answer, certify)
        if certificate.gap > 0:
            details = _details(judge, answer, relaxed, found)
    seconds = {"compile": clock.seconds, "search": searched, "certify": time.perf_counter() - began - searched}
    return Solution(**details, certificate=certificate, starts=starts, evaluations=evaluations, seconds=seconds)


# ---- relaxed ---------------------------------------------------------------------------------------------------------


def search_relaxed(judge: Judge, seed: int, starts: int) -> tuple[Found, Relaxed]:
    """The relaxed search from many starts."""
    relaxed = _relaxed(judge)
    points, ways = spread(starts, len(relaxed.names), seed)
    return jax.tree.map(np.asarray, descend(relaxed, jnp.asarray(points), jnp.asarray(ways))), relaxed


def _relaxed(judge: Judge) -> Relaxed:
    problem = judge.problem
    judge.curve = _curve(judge) if problem.objective == "advantage" else None
    free = [each for each in problem.variables if each.free]
    bounds = np.array([each.range for each in free]).reshape(-1, 2)
    return Relaxed(
        reference=problem.reference,
        service=problem.service,
        law=problem.law,
        ceilings=Ceilings(judge.admission.least_size, min(problem.most_total, UNLIMITED), min(problem.most_active, UNLIMITED)),
        curve=judge.curve,
        tokens=np.asarray(float(problem.tokens)),
        fixed={each.name: np.asarray(each.low) for each in problem.variables if not each.free},
        low=bounds[:, 0],  # pyright: ignore[reportArgumentType]
        high=bounds[:, 1],  # pyright: ignore[reportArgumentType]
        is_architecture=np.array([each.name in ARCHITECTURE for each in free]),  # pyright: ignore[reportArgumentType]
        names=tuple(each.name for each in free),
        per_user=problem.objective == "per_user",
        sense=np.asarray(-1.0 if problem.minimize else 1.0),
    )


def _curve(judge: Judge) -> Curve:
    """The dense side's optimum over the widths that admissible twins can have."""
    rows = judge.admission.narrowest(coarse(judge.admission))
    widths = judge.admission.sizes(rows)[:, 4] if len(rows) else np.array([128.0])
    return judge.dense.curve(float(widths.min()), float(widths.max()))


# ---- legal -----------------------------------------------------------------------------------------------------------


def _legal(judge: Judge, relaxed: Relaxed, found: Found) -> Verdicts | None:
    """The best legal design that rounding and improvement reach; a coarse grid is tried where rounding finds none."""
    taken = [relaxed.values(found.points[index]) for index in _diverse(relaxed, found)]
    values = [{name: float(value) for name, value in each.items()} for each in jax.tree.map(np.asarray, taken)]
    names = [each.name for each in judge.problem.architecture]
    points = np.array([[each[name] for name in names] for each in values]).reshape(len(values), len(names))
    near = rounded(judge, points, near_layouts(judge.scorer.layouts, values))
    if near is None or not np.isfinite(near.merits).any():
        near = _coarse(judge)
    return None if near is None else improved(judge, near)


def _diverse(relaxed: Relaxed, found: Found) -> list[int]:
    """Starts to be rounded: the best first, passing over those whose architecture is that of a better one."""
    order = [int(index) for index in np.argsort(found.merits, kind="stable")]
    kept: list[int] = []
    for index in order:
        columns = found.points[:, relaxed.is_architecture]
        if all(np.abs(columns[index] - columns[other]).max(initial=0.0) > APART for other in kept):
            kept.append(index)
    rest = [index for index in order if index not in kept]
    return (kept + rest)[:TAKEN]


def _coarse(judge: Judge) -> Verdicts | None:
    rows = judge.admission.narrowest(coarse(judge.admission))
    if not len(rows):
        return None
    smallest = np.argsort(judge.admission.sizes(rows)[:, 2], kind="stable")[:256]
    judged = judge.judge(rows[smallest])
    return judged if np.isfinite(judged.merits).any() else None


def _certified(judge: Judge, answer: Verdicts, limit: float) -> tuple[Verdicts, Certificate]:
    """The answer, or what enumeration found better, and how far the search was from it."""
    listed = enumerate_grid(judge, answer, limit)
    optimum = listed.best if listed.best is not None and listed.best.merits[0] > answer.merits[0] else answer
    gap = float(optimum.merits[0] - answer.merits[0])
    relative = gap if judge.problem.objective == "advantage" else -np.expm1(-gap)
    value = value_of(judge.problem, float(optimum.merits[0]))
    return optimum, Certificate(listed.enumerated, listed.grid, value, float(relative), listed.complete)


# ---- what is told ----------------------------------------------------------------------------------------------------


def value_of(problem: DesignProblem, merit: float) -> float:
    """The objective in its own unit, from the log that is maximised."""
    if problem.objective == "advantage":
        return -merit if problem.minimize else merit
    reached = float(np.exp(merit))
    if problem.objective != "cost":
        return reached
    cluster = problem.service.cluster
    price = float(cluster.accelerator.price_per_hour) * float(cluster.devices) / SECONDS_PER_HOUR
    return price / reached * 1e6 if reached > 0 else float("nan")


def _details(judge: Judge, answer: Verdicts | None, relaxed: Relaxed, found: Found) -> dict:
    problem, first = judge.problem, int(np.argmin(found.merits))
    kept = found.merits[first] < BROKEN
    multipliers = _multipliers(found, first)
    told = {
        "relaxed_value": value_of(problem, -float(found.merits[first])) if kept else float("nan"),
        "multipliers": multipliers,
    }
    if answer is None:
        nothing = {"best": None, "value": float("nan"), "sensitivity": None, "shadow_prices": ()}
        return {**told, **nothing, "conflicts": conflicts(judge)}
    best = _answer(problem, answer)
    slopes = sensitivity(
        Design(best.model, problem.service.cluster, problem.service.workload, best.deployment, problem.service.efficiency)
    )
    prices = (*slopes.shadow_prices, *_quality_price(judge, best, multipliers))
    value = value_of(problem, float(answer.merits[0]))
    return {**told, "best": best, "value": value, "sensitivity": slopes, "shadow_prices": prices, "conflicts": ()}


def _multipliers(found: Found, index: int) -> dict[str, float]:
    names = (DEPLOYMENT_LIMITS, ARCHITECTURE_LIMITS)
    return {
        name: float(value)
        for group, values in zip(names, found.multipliers, strict=True)
        for name, value in zip(group, values[index], strict=True)
    }


def _quality_price(judge: Judge, best: Answer, multipliers: Mapping[str, float]) -> tuple[ShadowPrice, ...]:
    """What asking for one more unit of the reference's q costs, from the multiplier of the relaxed optimum."""
    problem = judge.problem
    if not (problem.keep_quality and problem.architecture and problem.objective in ("throughput", "cost")):
        return ()
    active = float(judge.admission.sizes(_reference_row(problem))[0, 3])
    q = judge.admission.reference_size / active
    price = -multipliers["quality"] * float(best.metrics.throughput) / q
    return (ShadowPrice("quality", price, "unit of q of the reference", multipliers["quality"] > 0),)


def _reference_row(problem: DesignProblem) -> Float[np.ndarray, "1 variables"]:
    return np.array([[reference_value(problem.reference, each.name) for each in problem.architecture]])


def _answer(problem: DesignProblem, answer: Verdicts) -> Answer:
    values = {each.name: float(value) for each, value in zip(problem.architecture, answer.rows[0], strict=True)}
    model = with_architecture(problem.reference, {name: np.asarray(value) for name, value in values.items()})  # pyright: ignore[reportArgumentType]
    deployment = jax.tree.map(lambda leaf: np.asarray(leaf)[0], answer.best.deployment)
    service = problem.service
    reached = compiled_metrics(model, service.cluster, service.workload, deployment, service.efficiency)
    return Answer(model, deployment, reached, values)
