"""Where along one input the verdict flips: every sign change of log(dense/moe), each side in its
own exact optimum.

A log grid is evaluated, made finer where the ratio comes near 1, and every interval whose ends
differ is divided until its ends agree to seven digits, or are neighbouring whole numbers. So all
sign changes that the grid separates come out, not only the first. Whole batches make the ratio
jump, so a smooth crossing may come as several close together.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qsopt.arrays import Scalar, scalar
from qsopt.comparison.compare import verdict
from qsopt.comparison.dense import NAMED, SAME_BODY, MatchKind, check_q, dense_match
from qsopt.comparison.twin import aligned
from qsopt.deployments.batches import in_numpy, length, repeat, same_length, take
from qsopt.deployments.capped import ServedModel, best_throughputs
from qsopt.deployments.layouts import layouts_of_any, legal_layouts
from qsopt.errors import InputError
from qsopt.maps.points import SERVICE_NUMBERS
from qsopt.record import Result
from qsopt.spec.model import Model, routed_layers
from qsopt.spec.service import Service

SweptInput = Literal["context", "batch", "devices", "q", "bandwidth"]
"""What may be moved; batch is the sequences that decode at once in the whole cluster, at most."""

WHOLE = ("batch", "devices")
"""Inputs that are whole numbers."""

POINTS = 97
"""Of the first grid."""

FINER = 8
"""Parts that an interval is divided into."""

WIDTH = 1e-7
"""Relative width of an interval at which a crossing is known well enough."""

_ROUNDS = 60
"""Rounds of dividing at most."""

Samples = dict[float, tuple[float, float]]
"""Throughputs of MoE and dense by value of the input, 0 where infeasible [tokens/s]."""


@dataclass(frozen=True)
class Crossing:
    """A flip of the verdict between two sides that both fit."""

    value: float
    """Of the input; of a whole one, the first with the new verdict."""
    direction: str
    """Who wins above it: `to dense` or `to moe`."""


@dataclass(frozen=True)
class Edge:
    """Where a side stops or starts to fit."""

    value: float
    """Of the input."""
    below: str
    """Verdict below the value."""
    above: str
    """Verdict above it."""


@dataclass(frozen=True)
class End:
    """The comparison at one end of the range."""

    value: float
    """Of the input."""
    ratio: float | None
    """Throughput of dense over MoE; None where a side is infeasible."""
    verdict: str
    """Who wins."""


@dataclass(frozen=True, repr=False)
class Crossovers(Result):
    """All flips in a range."""

    crossings: tuple[Crossing, ...]
    """Ascending."""
    edges: tuple[Edge, ...]
    """Ascending."""
    at_low: End
    """The lower end of the range."""
    at_high: End
    """The upper."""
    evaluated: int
    """Values of the input at which both optima were computed."""


@dataclass(frozen=True)
class MatchedPair:
    """An MoE and its dense match, and what both are deployed for."""

    model: Model
    """The MoE."""
    service: Service
    """Cluster, workload and efficiencies of both."""
    q: float
    """Size of the match over the active parameters of the MoE."""
    kind: MatchKind = SAME_BODY
    """Which match."""
    named: Model | None = None
    """The match itself where it is a model that exists."""

    @property
    def dense(self) -> Model:
        """The match.

        Raises:
            InputError: if q leaves it no feed-forward layers.
        """
        return (
            dense_match(self.model, scalar(self.q), self.kind) if self.named is None else self.named
        )


def crossovers(pair: MatchedPair, over: SweptInput, low: float, high: float) -> Crossovers:
    """All values of an input in [low, high] at which the verdict flips.

    Args:
        pair: both sides; the input's own value does not matter.
        over: the input.
        low: lower end of the range.
        high: upper end.

    Raises:
        InputError: if the model is dense, the range is not one, or q leaves the twin no
            feed-forward layers.
    """
    _check(pair, over, low, high)
    whole = over in WHOLE
    measure = _measure(pair, over, high)
    samples: Samples = {}
    new = _grid(low, high, POINTS, whole)
    for _ in range(_ROUNDS):
        if not new:
            break
        samples |= measure(new)
        doubtful = _inside_doubtful(samples, whole, np.log(high / low) / POINTS)
        new = [value for value in doubtful if value not in samples]
    return _crossovers(samples, whole)


def _check(pair: MatchedPair, over: SweptInput, low: float, high: float) -> None:
    routed_layers(pair.model, "a crossover needs a Mixture-of-Experts model")
    if over not in get_args(SweptInput):
        raise InputError(f"over = {over}: take one of {', '.join(get_args(SweptInput))}")
    if not 0 < low < high < np.inf:
        raise InputError(
            f"from = {low:g}, to = {high:g}: give a range of positive numbers, the smaller first"
        )
    if over == "q" and pair.kind == NAMED:
        raise InputError("over = q: the size of a dense model that is named is its own")
    if pair.kind != NAMED:
        check_q(pair.model, scalar(low if over == "q" else pair.q), pair.kind)


# ---- both optima at many values ------------------------------------------------------------------


def _measure(pair: MatchedPair, over: SweptInput, high: float) -> Callable[[list[float]], Samples]:
    """A function from values of the input to the throughputs of MoE and dense."""
    cluster = pair.service.cluster
    if over == "devices":  # smaller clusters have no replica of the larger layouts
        cluster = eqx.tree_at(lambda c: c.devices, cluster, scalar(np.floor(high)))
    rules = pair.service.rules
    moe = legal_layouts(pair.model, cluster, rules)
    fixed = None if over == "q" else layouts_of_any([pair.dense], cluster, rules)

    def samples(values: list[float]) -> Samples:
        sides = _cases(pair, over, np.array(values))
        dense = layouts_of_any(_singles(sides[1].model), cluster, rules) if fixed is None else fixed
        throughputs = (
            best_throughputs(cases, listed).tolist()
            for cases, listed in zip(sides, same_length(moe, dense), strict=True)
        )
        return dict(zip(values, zip(*throughputs, strict=True), strict=True))

    return samples


def _singles(models: Model) -> list[Model]:
    return [take(models, place) for place in range(length(models))]


def _cases(
    pair: MatchedPair, over: SweptInput, values: Float[np.ndarray, " n"]
) -> tuple[ServedModel, ServedModel]:
    """Batches of cases of the MoE and of its match, the input moved."""
    moe = repeat(ServedModel(aligned(pair.model, pair.model), pair.service), len(values))
    if over == "q":
        matches = in_numpy(_matches(pair.model, values, pair.kind))  # pyright: ignore[reportArgumentType]
        return moe, ServedModel(matches, moe.service, moe.cap)
    dense = repeat(ServedModel(aligned(pair.dense, pair.model), pair.service), len(values))
    number = _number(over)
    return eqx.tree_at(number, moe, values), eqx.tree_at(number, dense, values)


def _number(over: SweptInput) -> Callable[[ServedModel], Scalar]:
    """The number of a case that an input is."""
    if over == "batch":
        return lambda case: case.cap
    return lambda case: SERVICE_NUMBERS[over](case.service)


@partial(jax.jit, static_argnums=2)
def _matches(model: Model, qs: Float[Array, " n"], kind: MatchKind) -> Model:
    """Exact matches of several q, in the structure of the MoE."""
    return jax.vmap(lambda q: aligned(dense_match(model, q, kind), model))(jnp.asarray(qs))


# ---- where to look -------------------------------------------------------------------------------


def _grid(low: float, high: float, points: int, whole: bool) -> list[float]:
    """Values between two ends, both included, evenly spaced in log."""
    values = np.geomspace(low, high, points)
    values[0], values[-1] = low, high
    if whole:
        values = np.unique(np.clip(np.round(values), np.ceil(low), np.floor(high)))
    return [float(value) for value in values]


def _inside_doubtful(samples: Samples, whole: bool, spacing: float) -> list[float]:
    """Values inside the intervals that hide a flip, or may hide two."""
    values = []
    for low, high in itertools.pairwise(_decided(samples)):
        resolved = high - low <= 1.0 if whole else high <= low * (1.0 + WIDTH)
        coarse = np.log(high / low) > 0.5 * spacing
        flips = verdict(*samples[low]) != verdict(*samples[high])
        if not resolved and (flips or (coarse and _near(samples[low], samples[high]))):
            values += _grid(low, high, FINER + 1, whole)
    return values


def _decided(samples: Samples) -> list[float]:
    """Values at which there is no tie, ascending."""
    return [value for value in sorted(samples) if verdict(*samples[value]) != "tie"]


def _near(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether the log ratio is as close to 0 as it moves within the interval, so that it may touch
    it inside.
    """
    if not (all(one) and all(other)):
        return False
    first, second = np.log(one[1] / one[0]), np.log(other[1] / other[0])
    return min(abs(first), abs(second)) <= 2.0 * abs(first - second)


def _crossovers(samples: Samples, whole: bool) -> Crossovers:
    """Crossings and edges between neighbours that differ."""
    crossings, edges = [], []
    for low, high in itertools.pairwise(_decided(samples)):
        below, above = verdict(*samples[low]), verdict(*samples[high])
        if below == above:
            continue
        value = high if whole else float(np.sqrt(low * high))
        if all(samples[low]) and all(samples[high]):
            crossings.append(Crossing(value, f"to {above.removesuffix(' wins')}"))
        else:
            edges.append(Edge(value, below, above))
    ends = (_end(value, *samples[value]) for value in (min(samples), max(samples)))
    return Crossovers(tuple(crossings), tuple(edges), *ends, evaluated=len(samples))


def _end(value: float, moe: float, dense: float) -> End:
    return End(value, dense / moe if moe and dense else None, verdict(moe, dense))
