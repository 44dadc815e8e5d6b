"""What no other design beats in two measures at once, and designs that differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from qsopt.proposals.points import Point

SPEED, QUALITY, TRAINING = "speed", "quality", "training"
"""What throughput per device is shown against: tokens/s of a user, the size of the dense model of
the same quality, and training compute.
"""

APART = 0.3
"""Distance in logs of total and active parameters, layers and hidden size, from which on designs
differ.
"""


@dataclass(frozen=True)
class Front:
    """Designs of one family that no other of it beats."""

    family: str
    points: tuple[Point, ...]
    """The most throughput first."""


def front(points: Sequence[Point], measure: str) -> tuple[Point, ...]:
    """Points that no other equals or beats in throughput and in a measure."""
    feasible = [each for each in points if each.throughput > 0]
    ordered = sorted(feasible, key=lambda each: (-each.throughput, -merit(each, measure), each.key))
    kept: list[Point] = []
    for each in ordered:
        if not kept or merit(each, measure) > merit(kept[-1], measure) * (1.0 + _SAME):
            kept.append(each)
    return tuple(kept)


_SAME = 0.01
"""Relative gain in the measure below which a point of the front is none of its own."""


def merit(point: Point, measure: str) -> float:
    """The more, the better."""
    if measure == SPEED:
        return 1.0 / point.tpot
    if measure == QUALITY:
        return float(point.quality.dense_size)
    return 1.0 / float(point.quality.training_flops)


def diverse(points: Sequence[Point], count: int, apart: float = APART) -> list[Point]:
    """The best points that differ from each other, the most throughput first."""
    chosen: list[Point] = []
    for each in sorted(points, key=lambda point: (-point.throughput, point.key)):
        if len(chosen) == count or not each.throughput > 0:
            break
        if all(distance(each, other) >= apart for other in chosen):
            chosen.append(each)
    return chosen


def distance(one: Point, other: Point) -> float:
    """Between two architectures; of two families it is infinite."""
    if one.family != other.family:
        return float("inf")
    return float(np.linalg.norm(_place(one) - _place(other)))


def _place(point: Point) -> np.ndarray:
    layers, hidden = point.row[0], point.row[1]
    return np.log([float(point.quality.total), float(point.quality.active), layers, hidden])


@dataclass(frozen=True)
class Segment:
    """A part of the front over speed in which one family serves most per device."""

    low: float
    """Tokens/s of a user above which it leads [tokens/s]."""
    high: float
    """Up to which it does [tokens/s]."""
    family: str


def leaders(fronts: Sequence[Front]) -> tuple[Segment, ...]:
    """Which family serves most at each speed of a user, from 0 to the fastest design: at a speed a
    family has the best of its designs that are as fast or faster. Of equals the one that leads
    before goes on.
    """
    speeds = sorted({merit(each, SPEED) for front in fronts for each in front.points})
    found: list[Segment] = []
    for low, high in pairwise([0.0, *speeds]):
        rates = {front.family: _most_at(front, high) for front in fronts}
        most, before = max(rates.values()), found[-1].family if found else None
        ahead = before is not None and rates[before] == most
        family = before if ahead else max(rates, key=lambda name: rates[name])
        assert family is not None
        if family == before:
            found[-1] = Segment(found[-1].low, high, family)
        else:
            found.append(Segment(low, high, family))
    return tuple(found)


def _most_at(front: Front, speed: float) -> float:
    """Throughput of the best design that is so fast, 0 without one [tokens/s]."""
    fast = (each.throughput for each in front.points if merit(each, SPEED) >= speed)
    return max(fast, default=0.0)
