"""Both sides at their exact optimum at many points of one model at once, and the q that gives a
throughput: what the experiments on the paper's claims share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from qsopt.arrays import scalar
from qsopt.comparison.compare import verdict
from qsopt.comparison.dense import SAME_BODY, bracket, relaxed_matches
from qsopt.comparison.opinions import opinions
from qsopt.comparison.twin import aligned, dense_twin, qs_numbers
from qsopt.deployments.batches import in_batches, take
from qsopt.deployments.capped import NO_CAP, Optimum, ServedModel, optima
from qsopt.spec.model import Model
from qsopt.spec.service import Service

TWINS = 32
"""Twins that one call makes."""

HALVINGS = 16
"""Of the bracket of ln q, which spans a factor of some hundreds."""


@dataclass(frozen=True)
class Point:
    """Where both sides are compared."""

    service: Service
    q: float
    cap: float = NO_CAP
    """Sequences that may decode at once in the whole cluster."""

    def served(self, model: Model) -> ServedModel:
        """A model on what is given here."""
        return ServedModel(model, self.service, self.cap)


@dataclass(frozen=True)
class Outcome:
    """Both sides at one point."""

    moe: Optimum
    dense: Optimum

    @property
    def throughputs(self) -> tuple[float, float]:
        """Of the MoE and of its twin, 0 where infeasible [tokens/s]."""
        return float(self.moe.best.throughput), float(self.dense.best.throughput)

    @property
    def ratio(self) -> float | None:
        """Throughput of dense over MoE; None where a side is infeasible."""
        moe, dense = self.throughputs
        return dense / moe if moe and dense else None

    @property
    def verdict(self) -> str:
        """Who wins."""
        return verdict(*self.throughputs)


def outcomes(model: Model, points: Sequence[Point]) -> list[Outcome]:
    """Both sides at each point, in their order; twins have a whole width."""
    whole, twins = aligned(model, model), exact_twins(model, [point.q for point in points])
    firsts: dict[tuple[object, ...], Point] = {}
    for point in points:
        firsts.setdefault(_without_q(point), point)
    optimum = optima([point.served(whole) for point in firsts.values()], model)
    moe = dict(zip(firsts, optimum, strict=True))
    dense = optima(
        [point.served(twins[point.q]) for point in points], dense_twin(model, points[0].q)
    )
    return [
        Outcome(moe[_without_q(point)], side) for point, side in zip(points, dense, strict=True)
    ]


def exact_twins(model: Model, qs: Sequence[float]) -> dict[float, Model]:
    """The twin of whole width for each q, in the structure of the MoE."""
    distinct = sorted(set(qs))
    twins = in_batches(partial(_twins, model), np.array(distinct), TWINS)
    return {q: take(twins, place) for place, q in enumerate(distinct)}


@jax.jit
def _twins(model: Model, qs: Float[Array, " qs"]) -> Model:
    return jax.vmap(lambda q: aligned(dense_twin(model, q), model))(qs)


def _without_q(point: Point) -> tuple[object, ...]:
    """What the MoE depends on: it is the same for every q."""
    return id(point.service), point.cap


def summary(outcome: Outcome) -> dict[str, Any]:
    """What a table says of a point."""
    moe, dense = outcome.throughputs
    return {
        "verdict": outcome.verdict,
        "ratio": outcome.ratio,
        "moe_tokens_per_s": moe,
        "dense_tokens_per_s": dense,
        "moe_sequences": float(outcome.moe.sequences),
        "dense_sequences": float(outcome.dense.sequences),
    }


def law_values(model: Model, tokens: float | None) -> dict[str, float]:
    """q by every law that has a physical answer, uncorrected."""
    return {opinion.law: opinion.q for opinion in opinions(model, tokens) if opinion.q is not None}


def q_of_throughput(
    model: Model, points: Sequence[Point], target: Sequence[float]
) -> list[float | None]:
    """The q at which the twin's throughput falls to a target at each point, to 1e-4, for a twin of
    real width.

    Throughput falls with q, but in steps where whole batches change: then it is the q of the step.
    None where even the smallest twin is slower, or the target is 0.

    Args:
        model: the MoE.
        points: clusters, workloads and efficiencies; their q is not used.
        target: throughput of the dense side [tokens/s].
    """
    ends = [bracket(model, point.service, SAME_BODY) for point in points]
    low, high = np.log(np.array(ends, dtype=float)).T
    like, wanted = dense_twin(model, 1.01 * np.exp(low[0])), np.asarray(target)

    def throughputs(log_q: np.ndarray) -> np.ndarray:
        twins = relaxed_matches(model, np.exp(log_q), SAME_BODY)
        cases = [point.served(take(twins, place)) for place, point in enumerate(points)]
        return np.array([float(side.best.throughput) for side in optima(cases, like)])

    possible = (wanted > 0) & (throughputs(low) >= wanted)
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        enough = throughputs(middle) >= wanted
        low, high = np.where(enough, middle, low), np.where(enough, high, middle)
    return [
        float(np.exp(value)) if fine else None for value, fine in zip(low, possible, strict=True)
    ]


def active_share(model: Model) -> float:
    """s, with all tables counted."""
    return float(qs_numbers(model, scalar(1.0)).s)
