"""The exact optimum of one side at every point of a grid, by bounds.

Throughput of a layout at its largest admissible batch only rises, or only falls, along most axes.
So in a block of points its value at the corner where it is largest bounds it from above, and the
value of any layout at the opposite corner bounds the optimum from below. A layout whose upper bound
is below the lower bound of a block can win nowhere inside and is dropped there; the others are
looked at in smaller blocks, and at last at every point. Along an axis without a trend blocks are
one point wide.
"""

import itertools
from dataclasses import dataclass
from functools import partial
from operator import itemgetter

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from qsopt.deployments.capped import within_cap
from qsopt.deployments.optimum import EQUAL, at_largest_batch
from qsopt.maps.axes import CONSTANT, NO_TREND, RISES
from qsopt.maps.condition import Condition, case_at
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service

BLOCKS = (16, 8, 4, 2, 1)
"""Widths of the blocks, each a multiple of the next."""

CHUNK = 8192
"""Layouts at a point that one call of the compiled function takes."""

MOST_PAIRS, MOST_AT_ONCE = 2_000_000, 20_000
"""Layouts in blocks that one search begins with, and points that it ends with."""

FEW = 4
"""Layouts that are tried for a block's lower bound."""

SLACK = 1e-6
"""Relative excess of a lower over an upper bound at which a layout is dropped: above rounding and
above `EQUAL`.
"""


@dataclass(frozen=True)
class Side:
    """One side of a map: the MoE itself, or its dense twin."""

    model: Model
    """The MoE."""
    service: Service
    layouts: Deployment
    """Legal layouts of this side on the largest cluster of the map."""
    dense: bool
    capped: bool
    """Whether the points cap the sequences in the cluster."""


@dataclass(frozen=True)
class Optima:
    """The best deployment of a side at every point."""

    throughput: Float[np.ndarray, "x y"]
    """Of the cluster, 0 where nothing is feasible [tokens/s]."""
    layout: Int[np.ndarray, "x y"]
    """Which of the side's layouts, -1 where none is feasible."""
    batch: Float[np.ndarray, "x y"]
    """Its batch [sequences of a replica]."""
    evaluated: int
    """Layouts that were evaluated at a point."""


@dataclass(frozen=True)
class _Pairs:
    """Layouts that may be best in blocks; sorted by block, and by layout in each."""

    x: Int[np.ndarray, " pairs"]
    """Block along the first axis."""
    y: Int[np.ndarray, " pairs"]
    layout: Int[np.ndarray, " pairs"]

    def take(self, kept: Bool[np.ndarray, " pairs"]) -> "_Pairs":
        return _Pairs(self.x[kept], self.y[kept], self.layout[kept])


def optima(side: Side, conditions: Condition, trends: tuple[int | None, int | None]) -> Optima:
    """The optimum at every point.

    Args:
        side: what is deployed.
        conditions: of the points, every number an array [x, y].
        trends: of the throughput along both axes.
    """
    shape = np.shape(conditions.context)
    cut = tuple(slice(0, 1) if trend is CONSTANT else slice(None) for trend in trends)
    points = jax.tree.map(itemgetter(cut), conditions)
    columns = _columns_at_once(side, np.shape(points.context), trends)
    parts = [
        _Search(side, jax.tree.map(itemgetter(slice(start, start + columns)), points), trends).run()
        for start in range(0, len(points.context), columns)
    ]
    whole = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("throughput", "layout", "batch")
    )
    throughput, layout, batch = (np.broadcast_to(part, shape) for part in whole)
    return Optima(throughput, layout, batch, sum(part.evaluated for part in parts))


def _columns_at_once(
    side: Side, shape: tuple[int, ...], trends: tuple[int | None, int | None]
) -> int:
    """Points along the first axis that one search takes, to bound memory."""
    wide_x, wide_y = (1 if trend == NO_TREND else BLOCKS[0] for trend in trends)
    blocks = MOST_PAIRS // (-(-shape[1] // wide_y) * side.layouts.tensor.shape[0])
    return max(1, min(blocks * wide_x, MOST_AT_ONCE // shape[1]))


class _Search:
    """Branch and bound over a grid."""

    def __init__(
        self, side: Side, conditions: Condition, trends: tuple[int | None, int | None]
    ) -> None:
        self.side, self.trends = side, trends
        self.shape = np.shape(conditions.context)
        self.points = jax.tree.map(np.ravel, conditions)
        self.evaluated = 0

    def run(self) -> Optima:
        pairs = self._all_pairs(BLOCKS[0])
        for width, finer in itertools.pairwise(BLOCKS):
            upper, _ = self._values(pairs, width, best=True)
            pairs = self._split(pairs.take(self._may_win(pairs, upper, width)), width, finer)
        return self._first_best(pairs, *self._values(pairs, BLOCKS[-1], best=True))

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
        x, y, layout = np.indices(
            (*self._counts(width), self.side.layouts.tensor.shape[0])
        ).reshape(3, -1)
        pairs = _Pairs(x, y, layout)
        devices = self.points.devices[self._corner(pairs, width, best=True)]
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

    def _values(
        self, pairs: _Pairs, width: int, best: bool
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Throughput and batch of each pair's layout at a corner of its block."""
        points, count = self._corner(pairs, width, best), len(pairs.layout)
        self.evaluated += count
        throughput, batch = np.zeros(count), np.zeros(count)
        for start in range(0, count, CHUNK):
            part = slice(start, min(start + CHUNK, count))
            where, which = (np.resize(index[part], CHUNK) for index in (points, pairs.layout))
            reached = _reached(
                self.side.model,
                self.side.service,
                jax.tree.map(itemgetter(where), self.points),
                jax.tree.map(lambda leaf, which=which: np.asarray(leaf)[which], self.side.layouts),
                dense=self.side.dense,
                capped=self.side.capped,
            )
            throughput[part], batch[part] = (
                np.asarray(each)[: part.stop - start] for each in reached
            )
        return throughput, batch

    def _may_win(
        self, pairs: _Pairs, upper: Float[np.ndarray, " n"], width: int
    ) -> Bool[np.ndarray, " n"]:
        """Which pairs' upper bounds reach the lower bounds of their blocks."""
        counts = self._counts(width)
        block = pairs.x * counts[1] + pairs.y
        order = np.lexsort((-upper, block))
        starts = np.searchsorted(block, np.arange(np.prod(counts)))
        few = np.sort(order[np.arange(len(block)) - starts[block] < FEW])
        tried, _ = self._values(pairs.take(few), width, best=False)  # pyright: ignore[reportArgumentType]
        lower = np.zeros(np.prod(counts))
        np.maximum.at(lower, block[few], tried)
        return (upper > 0.0) & (upper >= lower[block] * (1.0 - SLACK))

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

    def _first_best(
        self, pairs: _Pairs, value: Float[np.ndarray, " n"], batch: Float[np.ndarray, " n"]
    ) -> Optima:
        """The first layout of each point within `EQUAL` of its best, as `optimum.pick` takes it."""
        point, count = pairs.x * self.shape[1] + pairs.y, self.shape[0] * self.shape[1]
        most = np.zeros(count)
        np.maximum.at(most, point, value)
        good = np.flatnonzero((value > 0.0) & (value >= most[point] * (1.0 - EQUAL)))
        first, where = np.unique(point[good], return_index=True)
        chosen = good[where]
        throughput, layout, sequences = np.zeros(count), np.full(count, -1), np.zeros(count)
        throughput[first], layout[first], sequences[first] = (
            value[chosen],
            pairs.layout[chosen],
            batch[chosen],
        )
        throughput, layout, sequences = (
            part.reshape(self.shape) for part in (throughput, layout, sequences)
        )
        return Optima(throughput, layout, sequences, self.evaluated)


@partial(jax.jit, static_argnames=("dense", "capped"))
def _reached(
    model: Model,
    service: Service,
    conditions: Condition,
    layouts: Deployment,
    *,
    dense: bool,
    capped: bool,
) -> tuple[Float[Array, " chunk"], Float[Array, " chunk"]]:
    """Throughput, 0 where infeasible, and batch of each layout under its conditions."""

    def one(condition: Condition, layout: Deployment) -> tuple[Array, Array]:
        case = case_at(model, service, condition, dense)
        best = (
            within_cap(case, layout)
            if capped
            else at_largest_batch(case.model, case.service, layout)
        )
        return best.throughput, best.deployment.batch

    return jax.vmap(one)(conditions, layouts)
