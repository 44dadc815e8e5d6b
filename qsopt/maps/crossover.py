"""Where along one input the verdict flips: every sign change of log(dense/moe), each side in its
own exact optimum.

A log grid is evaluated, made finer where the ratio comes near 1, and every interval whose ends
differ is divided until its ends agree to seven digits, or are neighbouring whole numbers. So all
sign changes that the grid separates come out, not only the first. Whole batches make the ratio
jump, so a smooth crossing may come as several close together.
"""

import itertools
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float

from qsopt.arrays import scalar
from qsopt.comparison.compare import verdict
from qsopt.comparison.dense import NAMED, check_q
from qsopt.errors import InputError, exactly
from qsopt.maps.axes import SHARES
from qsopt.maps.decode_samples import decode_measure
from qsopt.maps.pair import MatchedPair, Samples
from qsopt.maps.request_samples import request_measure
from qsopt.record import Result
from qsopt.spec.model import routed_layers

DecodeInput = Literal["context", "batch", "devices", "q", "bandwidth", "tpot"]
"""What may be moved of decode alone; batch is the sequences that decode at once in the whole
cluster, at most.
"""

RequestInput = Literal[
    "prompt", "answer", "cached", "ttft", "tpot", "load", "acceptance", "q", "bandwidth"
]
"""What may be moved of whole requests."""

SweptInput = Literal[DecodeInput, RequestInput]
"""What may be moved."""

WHOLE = ("batch", "devices")
"""Inputs that are whole numbers."""


class Grid(NamedTuple):
    """How closely an input is looked at."""

    points: int
    """Of the first grid."""
    finer: int
    """Parts that an interval is divided into."""
    width: float
    """Relative width of an interval at which a crossing is known well enough."""


DECODE_GRID = Grid(97, 8, 1e-7)
REQUEST_GRID = Grid(25, 3, 1e-3)
"""Coarser, as every value is a search over ways, layouts, batches and chunks."""

_ROUNDS = 60
"""Rounds of dividing at most."""


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
    values: Float[np.ndarray, " evaluated"]
    """These, ascending."""
    throughputs: Float[np.ndarray, "evaluated 2"]
    """Of the MoE and of its match at each, 0 where infeasible [tokens/s]."""


def crossovers(
    pair: MatchedPair, over: SweptInput, low: float, high: float, grid: Grid | None = None
) -> Crossovers:
    """All values of an input in [low, high] at which the verdict flips.

    Args:
        pair: both sides; the input's own value does not matter.
        over: the input.
        low: lower end of the range.
        high: upper end.
        grid: how closely it is looked at; as its kind of question needs if left out.

    Raises:
        InputError: if the model is dense, the range is not one, or q leaves the twin no
            feed-forward layers.
    """
    _check(pair, over, low, high)
    whole, requests = over in WHOLE, pair.on_requests
    grid = grid or (REQUEST_GRID if requests else DECODE_GRID)
    measure = request_measure(pair, over) if requests else decode_measure(pair, over, high)
    samples: Samples = {}
    new = _spaced(low, high, grid.points, whole)
    for _ in range(_ROUNDS):
        if not new:
            break
        samples |= measure(new)
        doubtful = _inside_doubtful(samples, whole, np.log(high / low) / grid.points, grid)
        new = [value for value in doubtful if value not in samples]
    return _crossovers(samples, whole)


def _check(pair: MatchedPair, over: SweptInput, low: float, high: float) -> None:
    routed_layers(pair.model, "a crossover needs a Mixture-of-Experts model")
    known = get_args(RequestInput if pair.on_requests else DecodeInput)
    if over not in known:
        other = "a context" if pair.on_requests else "a prompt and an answer"
        raise InputError(f"over = {over}: take one of {', '.join(known)}; or ask about {other}")
    if high > SHARES.get(over, np.inf):
        raise InputError(
            f"to = {exactly(high)}: {over} is a share, at most {exactly(SHARES[over])}"
        )
    if over == "acceptance" and float(pair.service.workload.tokens_per_step) <= 1.0:
        raise InputError("over = acceptance: nothing is drafted; give more tokens_per_step than 1")
    if not 0 < low < high < np.inf:
        raise InputError(
            f"from = {exactly(low)}, to = {exactly(high)}: give a range of positive numbers, "
            "the smaller first"
        )
    if over == "q" and pair.kind == NAMED:
        raise InputError("over = q: the size of a dense model that is named is its own")
    if pair.kind != NAMED:
        check_q(pair.model, scalar(low if over == "q" else pair.q), pair.kind)


# ---- where to look -------------------------------------------------------------------------------


def _spaced(low: float, high: float, points: int, whole: bool) -> list[float]:
    """Values between two ends, both included, evenly spaced in log."""
    values = np.geomspace(low, high, points)
    values[0], values[-1] = low, high
    if whole:
        values = np.unique(np.clip(np.round(values), np.ceil(low), np.floor(high)))
    return [float(value) for value in values]


def _inside_doubtful(samples: Samples, whole: bool, spacing: float, grid: Grid) -> list[float]:
    """Values inside the intervals that hide a flip, or may hide two."""
    values = []
    for low, high in itertools.pairwise(_decided(samples)):
        resolved = high - low <= 1.0 if whole else high <= low * (1.0 + grid.width)
        coarse = np.log(high / low) > 0.5 * spacing
        flips = verdict(*samples[low]) != verdict(*samples[high])
        if not resolved and (flips or (coarse and _near(samples[low], samples[high]))):
            values += _spaced(low, high, grid.finer + 1, whole)
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
    values = sorted(samples)
    low, high = (_end(value, *samples[value]) for value in (values[0], values[-1]))
    reached = np.array([samples[value] for value in values])
    return Crossovers(
        tuple(crossings), tuple(edges), low, high, len(samples), np.array(values), reached
    )


def _end(value: float, moe: float, dense: float) -> End:
    return End(value, dense / moe if moe and dense else None, verdict(moe, dense))
