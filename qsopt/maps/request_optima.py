"""The best way of serving of one side at every point of a map over requests, and what its search
knows of rows.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from qsopt.deployments.best import EQUAL
from qsopt.maps.request_rows import Shares
from qsopt.serving.candidates import ALTERNATING, WRITER, Candidates

Values = Float[np.ndarray, " rows"]
Places = Int[np.ndarray, " rows"]


@dataclass(frozen=True)
class RequestOptima:
    """The best way of one side at every point."""

    throughput: Float[np.ndarray, "x y"]
    """Output tokens of the cluster, 0 where nothing keeps the limits [tokens/s]."""
    writes: Int[np.ndarray, "x y"]
    """Which candidate writes answers, -1 where nothing keeps the limits."""
    reads: Int[np.ndarray, "x y"]
    """Which one reads prompts; the same where one pool does both."""
    units: Float[np.ndarray, "x y"]
    """Batch units of what writes."""
    shares: Shares
    evaluated: int
    """Candidates that were tried at a batch and a point."""

    @property
    def way(self) -> Int[np.ndarray, "x y"]:
        """Of `ways.SEARCHED`; -1 where nothing keeps the limits."""
        kind = self.shares.every.kind[self.writes]
        way = np.where(kind == WRITER, 2, np.where(kind == ALTERNATING, 1, 0))
        return np.where(self.writes < 0, -1, way)

    @property
    def candidates(self) -> Candidates:
        """Every way, layout and chunk that was looked at."""
        return self.shares.every

    @property
    def chunked(self) -> Bool[np.ndarray, "x y"]:
        """Whether prompts are read in chunks of a size that was chosen; else in every step as many
        tokens as a mean step needs.
        """
        return self.shares.chunked[self.reads]

    @property
    def chunk_share(self) -> Float[np.ndarray, "x y"]:
        """Tokens of an attention rank in a forward that reads, over those read of a prompt."""
        return np.exp2(self.shares.exponent[self.reads].astype(float))


class BlockRows(NamedTuple):
    """Candidates in blocks, or at points."""

    x: Places
    y: Places
    candidate: Places

    def take(self, kept: np.ndarray) -> "BlockRows":
        """Some of them."""
        return BlockRows(self.x[kept], self.y[kept], self.candidate[kept])


class Reached(NamedTuple):
    """What rows serve at a corner."""

    upper: Values
    """No less than each serves, in units of its kind: requests/s of the cluster, or of a pool's
    replica.
    """
    value: Values
    """What is known to be allowed, the same."""
    units: Values
    ttft: Values
    devices: Values


def take_best(
    best: list[np.ndarray], point: Places, value: Values, writes: Places, reads: Places
) -> None:
    """Where a value beats what is best so far by more than rounding, it takes its place; of equals
    the first.
    """
    most = np.zeros(len(best[0]))
    np.maximum.at(most, point, value)
    better = (value > best[0][point] * (1.0 + EQUAL)) & (value >= most[point] * (1.0 - EQUAL))
    rows = np.flatnonzero(better)[::-1]
    best[1][point[rows]], best[2][point[rows]] = writes[rows], reads[rows]
    best[0][point[rows]] = value[rows]


def values_at(values: np.ndarray, rows: Places, nothing: float) -> np.ndarray:
    """Values of rows; `nothing` where a place has no row (-1), as everywhere on a grid of which no
    row is left.
    """
    found = np.full(len(rows), nothing, values.dtype)
    there = rows >= 0
    found[there] = values[rows[there]]
    return found


def largest(key: Places, score: Values, count: int) -> Places:
    """Of the rows of every key the few with the largest scores, those without a bound last."""
    order = np.lexsort((np.where(np.isfinite(score), -score, 0.0), key))
    first = np.concatenate([[True], np.diff(key[order]) != 0])
    places = np.arange(len(order))
    rank = places - np.maximum.accumulate(np.where(first, places, 0))
    return np.sort(order[(rank < count) & (score[order] > 0.0)])
