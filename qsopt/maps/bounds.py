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
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from qsopt.comparison.dense import NAMED, MatchKind, with_sizes
from qsopt.deployments.batches import chunks, in_batches, length, take
from qsopt.deployments.capped import within_cap
from qsopt.deployments.legality import splits
from qsopt.deployments.optimum import EQUAL, at_largest_batch
from qsopt.maps.axes import CONSTANT, NO_TREND, RISES
from qsopt.maps.points import MapPoint, served_at, with_top_k_factor
from qsopt.programs import compiled
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
class MapSide:
    """One side of a map: the MoE itself, or its dense match."""

    model: Model
    """The MoE; of a named match this itself."""
    service: Service
    """What no point changes of it."""
    layouts: Deployment
    """Legal layouts of this side on the largest cluster of the map."""
    kind: MatchKind | None
    """Which dense match the side is; None for the MoE."""
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
    columns = _columns_at_once(side, np.shape(different.cap), trends)
    parts = [_Search(side, part, trends).run() for part in chunks(different, columns)]
    whole = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("throughput", "layout", "batch")
    )
    throughput, layout, batch = (np.broadcast_to(part, shape) for part in whole)
    return Optima(throughput, layout, batch, sum(part.evaluated for part in parts))


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
        self.evaluated = 0

    def run(self) -> Optima:
        """Blocks from wide to narrow, each time without the layouts that cannot win."""
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

    def _values(
        self, pairs: _Pairs, width: int, best: bool
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Throughput and batch of each pair's layout at a corner of its block."""
        count = len(pairs.layout)
        self.evaluated += count
        if not count:
            return np.zeros(0), np.zeros(0)
        points = self._corner(pairs, width, best)
        throughput, batch = in_batches(self._reached, (points, pairs.layout), CHUNK)
        return np.asarray(throughput), np.asarray(batch)

    def _reached(
        self, indices: tuple[Int[np.ndarray, " chunk"], Int[np.ndarray, " chunk"]]
    ) -> tuple[Float[Array, " chunk"], Float[Array, " chunk"]]:
        """Throughput and batch of some layouts, each at a point of its own."""
        side, (point, layout) = self.side, indices
        return _reached(
            side.model,
            side.service,
            take(self.points, point),
            take(side.layouts, layout),
            kind=side.kind,
            capped=side.capped,
        )

    def _may_win(
        self, pairs: _Pairs, upper: Float[np.ndarray, " n"], width: int
    ) -> Bool[np.ndarray, " n"]:
        """Which pairs' upper bounds reach the lower bounds of their blocks.

        The lower bound of a block is the best of the few layouts with its largest upper bounds, at
        the corner where they are worst.
        """
        counts = self._counts(width)
        block = pairs.x * counts[1] + pairs.y
        order = np.lexsort((-upper, block))
        starts = np.searchsorted(block, np.arange(np.prod(counts)))
        few = np.sort(order[np.arange(len(block)) - starts[block] < FEW])
        tried, _ = self._values(pairs.take(few), width, best=False)
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
        throughput[first], layout[first] = value[chosen], pairs.layout[chosen]
        sequences[first] = batch[chosen]
        return Optima(
            throughput.reshape(self.shape),
            layout.reshape(self.shape),
            sequences.reshape(self.shape),
            self.evaluated,
        )


@partial(compiled, static=("kind", "capped"))
def _reached(
    model: Model,
    service: Service,
    points: MapPoint,
    layouts: Deployment,
    *,
    kind: MatchKind | None,
    capped: bool,
) -> tuple[Float[Array, " chunk"], Float[Array, " chunk"]]:
    """Throughput, 0 where infeasible, and batch of each layout at its point."""

    def one(point: MapPoint, layout: Deployment) -> tuple[Array, Array]:
        case = served_at(_side_at(model, point, kind), service, point)
        best = (
            within_cap(case, layout)
            if capped
            else at_largest_batch(case.model, case.service, layout)
        )
        throughput = best.throughput
        if kind is not None and kind.twin == "released":  # its heads and layers are the point's
            throughput = jnp.where(splits(case.model, layout), throughput, 0.0)
        return throughput, best.deployment.batch

    return jax.vmap(one)(points, layouts)


def _side_at(model: Model, point: MapPoint, kind: MatchKind | None) -> Model:
    """The MoE, or its dense match, at a point."""
    if kind is None:
        return with_top_k_factor(model, point.top_k_factor)
    return model if kind == NAMED else with_sizes(model, point.shape, kind)
