"""Both sides at their exact optimum at many points of one model at once: what the experiments on
the paper's claims share.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from qsopt.arrays import scalar
from qsopt.comparison.compare import verdict
from qsopt.comparison.opinions import opinions
from qsopt.comparison.twin import aligned, bracket, dense_twin, qs_numbers, relaxed_twins
from qsopt.deployments.capped import NO_CAP, ServedModel, within_cap
from qsopt.deployments.layouts import legal_layouts
from qsopt.deployments.optimum import Best, pick, same_length
from qsopt.physics.evaluate import Metrics, metrics
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service

CHUNK = 512
"""Layouts evaluated at once: one compilation for clusters of all sizes."""

BATCH = 8
"""Cases that one call of the compiled search takes."""

TWINS = 32
"""Twins that one call makes."""

HALVINGS = 16
"""Of the bracket of ln q, which spans a factor of some hundreds."""

Tree = TypeVar("Tree")


@dataclass(frozen=True)
class Point:
    """Where both sides are compared."""

    service: Service
    q: float
    cap: float = NO_CAP
    """Sequences that may decode at once in the whole cluster."""


class Optimum(eqx.Module):
    """A side in its best deployment, with the metrics of it (of the first one at its smallest batch
    where none is feasible).
    """

    best: Best
    metrics: Metrics


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
    whole = aligned(model, model)
    twins = exact_twins(model, [point.q for point in points])
    places: dict[tuple[object, ...], int] = {}
    for place, point in enumerate(points):  # the MoE is the same for every q
        places.setdefault(_without_q(point), place)
    moe = dict(
        zip(
            places,
            optima(model, [(whole, points[place]) for place in places.values()]),
            strict=True,
        )
    )
    dense = optima(dense_twin(model, points[0].q), [(twins[point.q], point) for point in points])
    return [
        Outcome(moe[_without_q(point)], side) for point, side in zip(points, dense, strict=True)
    ]


def exact_twins(model: Model, qs: Sequence[float]) -> dict[float, Model]:
    """The twin of whole width for each q, in the structure of the MoE."""
    known = sorted(set(qs))
    filled = np.array(known + known[-1:] * (-len(known) % TWINS))
    parts = [
        jax.tree.map(np.asarray, _twins(model, filled[at : at + TWINS]))
        for at in range(0, len(filled), TWINS)
    ]
    return {
        q: jax.tree.map(itemgetter(place % TWINS), parts[place // TWINS])
        for place, q in enumerate(known)
    }


@jax.jit
def _twins(model: Model, qs: Float[Array, " qs"]) -> Model:
    return jax.vmap(lambda q: aligned(dense_twin(model, q), model))(qs)


def _without_q(point: Point) -> tuple[object, ...]:
    return id(point.service), point.cap


def optima(like: Model, sides: Sequence[tuple[Model, Point]]) -> list[Optimum]:
    """The best legal deployment of each of several models of one structure that split as `like`
    does.
    """
    found: dict[int, Optimum] = {}
    of_size: dict[float, list[int]] = defaultdict(list)
    for place, (_, point) in enumerate(sides):
        of_size[float(point.service.cluster.devices)].append(place)
    for members in of_size.values():
        chunks = _chunks(_layouts(like, sides[members[0]][1].service))
        for start in range(0, len(members), BATCH):
            part = members[start : start + BATCH]
            cases = stacked(
                [_case(*sides[place]) for place in (*part, *part[-1:] * (BATCH - len(part)))]
            )
            solved = _solved(cases, chunks)
            found |= {
                place: jax.tree.map(itemgetter(row), solved) for row, place in enumerate(part)
            }
    return [found[place] for place in range(len(sides))]


def _layouts(like: Model, service: Service) -> Deployment:
    return legal_layouts(like, service.cluster, service.rules)


def _case(model: Model, point: Point) -> ServedModel:
    return ServedModel(model, point.service, point.cap)


def _chunks(layouts: Deployment) -> list[Deployment]:
    """The layouts in parts of one length, the last one filled up with its first."""
    parts = [
        jax.tree.map(itemgetter(slice(at, at + CHUNK)), layouts)
        for at in range(0, len(layouts.tensor), CHUNK)
    ]
    return [*parts[:-1], *same_length(parts[-1], at_least=CHUNK)]


def _solved(cases: ServedModel, chunks: Sequence[Deployment]) -> Optimum:
    """The best of all layouts for a batch of cases."""
    parts = jax.tree.map(
        lambda *leaves: np.stack(leaves), *[_best(cases, chunk) for chunk in chunks]
    )
    winner = np.argmax(parts.throughput, axis=0)
    best = jax.tree.map(lambda leaf: leaf[winner, np.arange(len(winner))], parts)
    return jax.tree.map(np.asarray, Optimum(best, _measured(cases, best.deployment)))


@jax.jit
def _best(cases: ServedModel, layouts: Deployment) -> Best:
    return jax.lax.map(
        lambda case: pick(jax.vmap(lambda layout: within_cap(case, layout))(layouts)), cases
    )


@jax.jit
@jax.vmap
def _measured(case: ServedModel, deployment: Deployment) -> Metrics:
    return metrics(case.model, case.service, deployment)


def stacked(records: Sequence[Tree]) -> Tree:
    """Records of one structure as one batch."""
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *records)


def summary(outcome: Outcome) -> dict[str, Any]:
    """What a table says of a point."""
    moe, dense = outcome.throughputs
    return {
        "verdict": outcome.verdict,
        "ratio": outcome.ratio,
        "moe_tokens_per_s": moe,
        "dense_tokens_per_s": dense,
        "moe_sequences": sequences(outcome.moe),
        "dense_sequences": sequences(outcome.dense),
    }


def sequences(side: Optimum) -> float:
    """Sequences that decode at once in the whole cluster, 0 where infeasible."""
    return (
        float(side.best.deployment.batch * side.metrics.replicas)
        if bool(side.best.feasible)
        else 0.0
    )


def law_values(model: Model, tokens: float | None) -> dict[str, float]:
    """q by every law that has a physical answer, uncorrected."""
    return {opinion.law: opinion.q for opinion in opinions(model, tokens) if opinion.q is not None}


def q_reaching(
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
    ends = np.array(
        [
            [float(end) for end in bracket(model, point.service.cluster, point.service.workload)]
            for point in points
        ]
    )
    like, wanted = dense_twin(model, 1.01 * ends[0, 0]), np.asarray(target)

    def reached(qs: np.ndarray) -> np.ndarray:
        twins = relaxed_twins(model, qs)
        each = [
            jax.tree.map(itemgetter(place), jax.tree.map(np.asarray, twins))
            for place in range(len(points))
        ]
        found = optima(like, list(zip(each, points, strict=True)))
        return np.array([float(side.best.throughput) for side in found])

    low, high = np.log(ends).T
    possible = (wanted > 0) & (reached(np.exp(low)) >= wanted)
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        enough = reached(np.exp(middle)) >= wanted
        low, high = np.where(enough, middle, low), np.where(enough, high, middle)
    return [
        float(np.exp(value)) if fine else None for value, fine in zip(low, possible, strict=True)
    ]


def active_share(model: Model) -> float:
    """s, with all tables counted."""
    return float(qs_numbers(model, scalar(1.0)).s)
