"""The exact optimum of one side at every point of a grid, by branch and bound.

Throughput of a layout at its largest admissible batch only rises, or only falls, along most axes.
So in a block of points its value at the corner where it is largest bounds it from above, and the
value of any layout at the opposite corner bounds the optimum from below:

    max over the block of T(layout) = T(layout, best corner)
    min over the block of max_l T(l) >= max_l T(l, worst corner)

A layout whose upper bound is below the lower bound of a block can win nowhere inside and is dropped
there; the others are looked at in smaller blocks, and at last at every point. Along an axis without
a trend blocks are one point wide. A match of released shape has none along q, where its whole
layers and heads jump, and with them the layouts that it has.
"""

import itertools
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from qsopt.deployments.batches import chunks, length, take
from qsopt.deployments.best import EQUAL
from qsopt.maps.axes import CONSTANT, NO_TREND, RISES
from qsopt.maps.points import MapPoint
from qsopt.maps.replicas import axis_of_devices, optima_of_replicas
from qsopt.maps.sides import (
    BLOCKS,
    MOST_PAIRS,
    SLACK,
    Evaluations,
    MapSide,
    Optima,
    Reached,
    joined,
)
from qsopt.spec.workload import NO_LIMIT

MOST_AT_ONCE = 20_000
"""Points that one search ends with."""

FEW, TRIED, SAMPLES = 4, 32, 3
"""Layouts that are tried for a block's lower bound; more of them where nothing is known; and blocks
along an axis that are looked at first where the time per token is limited.
"""


@dataclass(frozen=True)
class _Pairs:
    """Layouts that may be best in blocks; sorted by block, and by layout in each."""

    x: Int[np.ndarray, " pairs"]
    """Block along the first axis."""
    y: Int[np.ndarray, " pairs"]
    """Block along the second."""
    layout: Int[np.ndarray, " pairs"]
    """Which of the side's layouts."""

    def take(self, kept: Bool[np.ndarray, " pairs"] | Int[np.ndarray, " kept"]) -> "_Pairs":
        return _Pairs(self.x[kept], self.y[kept], self.layout[kept])


Trends = tuple[int | None, int | None]
"""Of the throughput along both axes (see `axes`)."""


def optima(side: MapSide, points: MapPoint, trends: Trends) -> Optima:
    """The optimum at every point.

    Args:
        side: what is deployed.
        points: of the map, every number an array that begins with [x, y].
        trends: of the throughput along both axes.
    """
    shape = np.shape(points.cap)
    cut = tuple(slice(0, 1) if trend is CONSTANT else slice(None) for trend in trends)
    different = take(points, cut)
    axis = axis_of_devices(side, different)
    if axis is None:
        columns = _columns_at_once(side, np.shape(different.cap), trends)
        parts = [_Search(side, part, trends).run() for part in chunks(different, columns)]
        found = joined(parts, 0)
    else:
        found = optima_of_replicas(side, different, axis, trends[1 - axis])
    throughput, layout, batch = (
        np.broadcast_to(each, shape) for each in (found.throughput, found.layout, found.batch)
    )
    return Optima(throughput, layout, batch, found.evaluated)


def _columns_at_once(side: MapSide, shape: tuple[int, ...], trends: Trends) -> int:
    """Points along the first axis that one search takes, to bound memory."""
    wide_x, wide_y = (1 if trend == NO_TREND else BLOCKS[0] for trend in trends)
    blocks = MOST_PAIRS // (-(-shape[1] // wide_y) * length(side.layouts))
    return max(1, min(blocks * wide_x, MOST_AT_ONCE // shape[1]))


class _Search:
    """Branch and bound over a grid."""

    def __init__(self, side: MapSide, points: MapPoint, trends: Trends) -> None:
        self.side, self.trends = side, trends
        self.shape = np.shape(points.cap)
        self.points = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), points)
        """In one row, the second axis first."""
        self.evaluations = Evaluations(side, self.points)

    def run(self) -> Optima:
        """Blocks from wide to narrow, each time without the layouts that cannot win."""
        pairs = self._all_pairs(BLOCKS[0])
        lower = self._first_bounds(pairs)
        for width, finer in itertools.pairwise(BLOCKS):
            pairs, lower = self._narrowed(pairs, lower, width)
            pairs, lower = self._split(pairs, width, finer), self._spread(lower, width, finer)
        found = self._reached(pairs, BLOCKS[-1], lower[self._block(pairs, BLOCKS[-1])])
        return self._first_best(pairs, found.throughput, found.batch)

    def _widths(self, width: int) -> tuple[int, int]:
        """Points of a block along both axes."""
        x, y = (1 if trend == NO_TREND else width for trend in self.trends)
        return x, y

    def _counts(self, width: int) -> tuple[int, int]:
        """Blocks along both axes."""
        x, y = (
            -(-points // wide) for points, wide in zip(self.shape, self._widths(width), strict=True)
        )
        return x, y

    def _all_pairs(self, width: int) -> _Pairs:
        """Every layout in every block where the cluster holds it."""
        x, y, layout = np.indices((*self._counts(width), length(self.side.layouts))).reshape(3, -1)
        pairs = _Pairs(x, y, layout)
        devices = self.points.cluster.devices[self._corner(pairs, width, best=True)]
        return pairs.take(np.asarray(self.side.layouts.replica_devices)[layout] <= devices)

    def _corner(self, pairs: _Pairs, width: int, best: bool) -> Int[np.ndarray, " pairs"]:
        """The point of each pair's block at which throughput is largest, or smallest."""
        ends = []
        for block, wide, points, trend in zip(
            (pairs.x, pairs.y), self._widths(width), self.shape, self.trends, strict=True
        ):
            last = (trend == RISES) == best
            ends.append(np.minimum((block + 1) * wide, points) - 1 if last else block * wide)
        return ends[0] * self.shape[1] + ends[1]

    def _block(self, pairs: _Pairs, width: int) -> Int[np.ndarray, " pairs"]:
        """The number of each pair's block."""
        return pairs.x * self._counts(width)[1] + pairs.y

    def _reached(
        self,
        pairs: _Pairs,
        width: int,
        goal: Float[np.ndarray, " n"],
        best: bool = True,
        to_the_end: bool = True,
    ) -> Reached:
        """What each pair's layout reaches at a corner of its block, as far as that is a goal."""
        corner = self._corner(pairs, width, best)
        return self.evaluations.reached(corner, pairs.layout, goal * (1.0 - SLACK), to_the_end)

    def _narrowed(
        self, pairs: _Pairs, lower: Float[np.ndarray, " blocks"], width: int
    ) -> tuple[_Pairs, Float[np.ndarray, " blocks"]]:
        """The pairs whose upper bounds reach the lower bounds of their blocks, and these.

        The lower bound of a block is the best of the few layouts that are furthest at the corner
        where all are best, at the corner where they are worst.
        """
        block = self._block(pairs, width)
        upper = self._reached(pairs, width, lower[block], to_the_end=False)
        lower = self._raised(lower, pairs.take(_largest(upper.throughput, block, FEW)), width)
        may_win = (upper.at_most > 0.0) & (upper.at_most >= lower[block] * (1.0 - SLACK))
        return pairs.take(may_win), lower

    def _raised(
        self, lower: Float[np.ndarray, " blocks"], pairs: _Pairs, width: int
    ) -> Float[np.ndarray, " blocks"]:
        """The lower bounds of blocks after some layouts were tried where they are worst."""
        block = self._block(pairs, width)
        tried = self._reached(pairs, width, lower[block], best=False).throughput
        raised = lower.copy()
        np.maximum.at(raised, block, tried)
        return raised

    def _first_bounds(self, pairs: _Pairs) -> Float[np.ndarray, " blocks"]:
        """Lower bounds of the widest blocks to begin with: none where no time per token is limited,
        so that one evaluation of a layout tells all; else of the layouts that are the best in some
        of the blocks.
        """
        width, counts = BLOCKS[0], self._counts(BLOCKS[0])
        lower = np.zeros(np.prod(counts))
        if len(BLOCKS) == 1 or np.min(self.points.workload.tpot_limit) >= NO_LIMIT:
            return lower
        some = [np.linspace(0, count - 1, SAMPLES).astype(int) for count in counts]
        sample = pairs.take(np.isin(pairs.x, some[0]) & np.isin(pairs.y, some[1]))
        leaders = self._leaders(sample, lower, width)
        return self._raised(lower, pairs.take(np.isin(pairs.layout, leaders)), width)

    def _leaders(
        self, pairs: _Pairs, lower: Float[np.ndarray, " blocks"], width: int
    ) -> Int[np.ndarray, " leaders"]:
        """The layouts that are the best where blocks are worst."""
        block = self._block(pairs, width)
        once = self._reached(pairs, width, lower[block], best=False, to_the_end=False)
        first = pairs.take(_largest(once.at_most, block, TRIED))
        goals = self._raised(lower, first, width)
        found = self._reached(pairs, width, goals[block], best=False).throughput
        return np.unique(pairs.layout[_largest(found, block, FEW)])

    def _split(self, pairs: _Pairs, width: int, finer: int) -> _Pairs:
        """The same layouts in the smaller blocks that make up each block."""
        (wide_x, wide_y), (fine_x, fine_y) = self._widths(width), self._widths(finer)
        parts = wide_x // fine_x, wide_y // fine_y
        i, j = (step.ravel() for step in np.indices(parts))
        x = (pairs.x[:, None] * parts[0] + i).ravel()
        y = (pairs.y[:, None] * parts[1] + j).ravel()
        layout = np.repeat(pairs.layout, len(i))
        counts = self._counts(finer)
        order = np.lexsort((layout, y, x))
        return _Pairs(x[order], y[order], layout[order]).take(
            (x < counts[0])[order] & (y < counts[1])[order]
        )

    def _spread(
        self, lower: Float[np.ndarray, " blocks"], width: int, finer: int
    ) -> Float[np.ndarray, " finer"]:
        """The same lower bounds for the smaller blocks that make up each block."""
        spread = lower.reshape(self._counts(width))
        sizes = zip(self._widths(width), self._widths(finer), self._counts(finer), strict=True)
        for axis, (wide, fine, count) in enumerate(sizes):
            spread = np.take(spread, np.arange(count) * fine // wide, axis)
        return spread.ravel()

    def _first_best(
        self, pairs: _Pairs, value: Float[np.ndarray, " n"], batch: Float[np.ndarray, " n"]
    ) -> Optima:
        """The first layout of each point within `EQUAL` of its best, as `best.pick` takes it."""
        point, count = pairs.x * self.shape[1] + pairs.y, self.shape[0] * self.shape[1]
        most = np.zeros(count)
        np.maximum.at(most, point, value)
        good = np.flatnonzero((value > 0.0) & (value >= most[point] * (1.0 - EQUAL)))
        first, where = np.unique(point[good], return_index=True)
        chosen = good[where]
        throughput, layout, sequences = np.zeros(count), np.full(count, -1), np.zeros(count)
        throughput[first], layout[first] = value[chosen], pairs.layout[chosen]
        sequences[first] = batch[chosen]
        return Optima(
            throughput.reshape(self.shape),
            layout.reshape(self.shape),
            sequences.reshape(self.shape),
            self.evaluations.count,
        )


def _largest(
    values: Float[np.ndarray, " n"], block: Int[np.ndarray, " n"], count: int
) -> Int[np.ndarray, " some"]:
    """Places of the few largest values of every block; blocks ascend."""
    order = np.lexsort((-values, block))
    starts = np.searchsorted(block, block)
    return np.sort(order[np.arange(len(block)) - starts < count])
