"""The exact optimum of one side at every point of a grid of which one axis moves the devices alone.

Where nothing caps the sequences in the cluster, a layout l reaches R(l, n) u(l, y) on n devices, R
replicas of which each reaches u whatever n is. So u is evaluated along the other axis y alone, and
layouts of equal replicas on all numbers of devices make a class c. In a block of points along y
(see `bounds`) with the lower bounds X(n) of the optimum a layout may win only if

    max over the block of u(l, y) >= min over n of X(n) / R(c, n)

and the lower bounds are those of the layouts that are furthest for some n.
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from qsopt.deployments.batches import chunks, length, take
from qsopt.deployments.best import EQUAL
from qsopt.maps.axes import NO_TREND, RISES
from qsopt.maps.points import MapPoint
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
from qsopt.physics import placement
from qsopt.programs import compiled
from qsopt.spec.deployment import Deployment
from qsopt.spec.hardware import Cluster
from qsopt.spec.workload import NO_LIMIT

FEW = 2
"""Layouts that are tried for the lower bound of each number of devices."""


def axis_of_devices(side: MapSide, points: MapPoint) -> int | None:
    """The axis along which only the devices move, so that replicas alone count; None where there is
    none.
    """
    cluster = points.cluster
    if side.capped or np.ptp(cluster.accelerator.scale_up_devices) > 0:
        return None
    moved = [axis for axis in (0, 1) if np.ptp(cluster.devices, axis=axis).any()]
    return moved[0] if moved else None


def optima_of_replicas(side: MapSide, points: MapPoint, axis: int, trend: int | None) -> Optima:
    """The optimum at every point.

    Args:
        side: what is deployed.
        points: of the map, every number an array that begins with [x, y].
        axis: that of the devices.
        trend: of the throughput along the other one.
    """
    turned = jax.tree.map(lambda leaf: np.moveaxis(leaf, axis, 0), points)
    largest = int(np.argmax(turned.cluster.devices[:, 0]))
    replicas = np.asarray(_replicas(take(turned, np.s_[:, 0]).cluster, side.layouts, side))
    rows, classes = np.unique(replicas, axis=0, return_inverse=True)
    columns = max(1, MOST_PAIRS // length(side.layouts)) * _width(BLOCKS[0], trend)
    lines = chunks(take(turned, largest), columns)
    search = partial(_Line, side, trend, rows, classes.ravel(), replicas[:, largest])
    found = joined([search(line).run() for line in lines], 1)
    throughput, layout, batch = (
        np.moveaxis(each, 0, axis) for each in (found.throughput, found.layout, found.batch)
    )
    return Optima(throughput, layout, batch, found.evaluated)


def _replicas(clusters: Cluster, layouts: Deployment, side: MapSide) -> Array:
    """Replicas of every layout on every cluster."""
    return _counted(clusters, layouts, whole_domains=side.service.rules.whole_domains)


def _count(clusters: Cluster, layouts: Deployment, whole_domains: bool) -> Array:
    def on_each(layout: Deployment) -> Array:
        return jax.vmap(lambda cluster: placement.replicas(cluster, layout, whole_domains))(
            clusters
        )

    return jax.vmap(on_each)(jax.tree.map(jnp.asarray, layouts))


_counted = compiled(_count, static=("whole_domains",))


def _width(width: int, trend: int | None) -> int:
    """Points of a block."""
    return 1 if trend == NO_TREND else width


class _Line:
    """Branch and bound along an axis, for all numbers of devices at once."""

    def __init__(
        self,
        side: MapSide,
        trend: int | None,
        replicas: Float[np.ndarray, "classes devices"],
        classes: Int[np.ndarray, " layouts"],
        most: Float[np.ndarray, " layouts"],
        points: MapPoint,
    ) -> None:
        self.trend, self.points = trend, length(points)
        self.replicas, self.classes, self.most = replicas, classes, most
        self.evaluations = Evaluations(side, points)
        self.limited = bool(np.min(points.workload.tpot_limit) < NO_LIMIT)

    def run(self) -> Optima:
        """Blocks from wide to narrow, each time without the layouts that cannot win."""
        blocks = self._blocks(BLOCKS[0])
        block, layout = (each.ravel() for each in np.indices((blocks, len(self.classes))))
        lower = np.zeros((blocks, self.replicas.shape[1]))
        for width, finer in itertools.pairwise(BLOCKS if self.trend != NO_TREND else BLOCKS[-1:]):
            kept, lower = self._narrowed(block, layout, lower, width, to_the_end=not lower.any())
            block, layout, lower = self._split(block[kept], layout[kept], lower, width, finer)
        found = self._reached(block, layout, self._needed(lower)[self.classes[layout], block])
        return self._first_best(block, layout, found)

    def _blocks(self, width: int) -> int:
        return -(-self.points // _width(width, self.trend))

    def _reached(
        self,
        block: Int[np.ndarray, " n"],
        layout: Int[np.ndarray, " n"],
        needed: Float[np.ndarray, " n"],
        width: int = 1,
        best: bool = True,
        to_the_end: bool = True,
    ) -> Reached:
        """What a replica of each layout reaches at a corner of its block, as far as needed."""
        wide = _width(width, self.trend)
        last = np.minimum((block + 1) * wide, self.points) - 1
        corner = last if (self.trend == RISES) == best else block * wide
        most = self.most[layout]
        goal = needed * most * (1.0 - SLACK)
        found = self.evaluations.reached(corner, layout, goal, to_the_end)
        return Reached(found.throughput / most, found.at_most / most, found.batch)

    def _needed(self, lower: Float[np.ndarray, "blocks devices"]) -> Float[np.ndarray, "c blocks"]:
        """What a replica of each class must reach in each block to win with some devices."""
        some = self.replicas > 0.0
        shares = np.where(some, 1.0 / np.where(some, self.replicas, 1.0), np.inf)
        with np.errstate(invalid="ignore"):
            needed = [np.fmin.reduce(row * shares, axis=1) for row in lower]
        return np.stack(needed, axis=1)

    def _narrowed(
        self,
        block: Int[np.ndarray, " n"],
        layout: Int[np.ndarray, " n"],
        lower: Float[np.ndarray, "blocks devices"],
        width: int,
        to_the_end: bool,
    ) -> tuple[Bool[np.ndarray, " n"], Float[np.ndarray, "blocks devices"]]:
        """Which layouts' upper bounds are as large as they need be in their blocks, and the lower
        bounds.
        """
        of = self.classes[layout]
        needed = self._needed(lower)[of, block]
        end = to_the_end and self.limited
        upper = self._reached(block, layout, needed, width, to_the_end=end)
        few = self._few(block, of, upper.throughput)
        tried = self._reached(block[few], layout[few], needed[few], width, best=False)
        raised = lower.copy()
        reached = tried.throughput[:, None] * self.replicas[of[few]]
        np.maximum.at(raised, block[few], reached)
        needed = self._needed(raised)[of, block]
        return (upper.at_most > 0.0) & (upper.at_most >= needed * (1.0 - SLACK)), raised

    def _few(
        self,
        block: Int[np.ndarray, " n"],
        of: Int[np.ndarray, " n"],
        value: Float[np.ndarray, " n"],
    ) -> Int[np.ndarray, " few"]:
        """Places of the layouts that are furthest in a block for some number of devices, each the
        furthest of its class.
        """
        order = np.lexsort((-value, of, block))
        first = np.unique(block[order] * len(self.replicas) + of[order], return_index=True)[1]
        leaders = order[first]
        starts = np.searchsorted(block[leaders], np.arange(block.max(initial=0) + 2))
        chosen = []
        for start, end in itertools.pairwise(starts):
            own = leaders[start:end]
            reached = self.replicas[of[own]] * value[own, None]
            furthest = np.argsort(-reached, axis=0, kind="stable")[:FEW]
            chosen.append(own[np.unique(furthest)])
        return np.concatenate(chosen)

    def _split(
        self,
        block: Int[np.ndarray, " n"],
        layout: Int[np.ndarray, " n"],
        lower: Float[np.ndarray, "blocks devices"],
        width: int,
        finer: int,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same layouts and bounds in the smaller blocks that make up each block."""
        count = _width(width, self.trend) // _width(finer, self.trend)
        finer_block = (block[:, None] * count + np.arange(count)).ravel()
        inside = finer_block < self._blocks(finer)
        bounds = np.repeat(lower, count, axis=0)[: self._blocks(finer)]
        return finer_block[inside], np.repeat(layout, count)[inside], bounds

    def _first_best(
        self, point: Int[np.ndarray, " n"], layout: Int[np.ndarray, " n"], found: Reached
    ) -> Optima:
        """The first layout of each point within `EQUAL` of its best, as `best.pick` takes it."""
        shape = self.replicas.shape[1], self.points
        throughput, best, batch = np.zeros(shape), np.full(shape, -1), np.zeros(shape)
        order = np.lexsort((layout, point))
        starts = np.searchsorted(point[order], np.arange(self.points + 1))
        for at, (start, end) in enumerate(itertools.pairwise(starts)):
            own = order[start:end]
            own = own[found.throughput[own] > 0.0]
            if not len(own):
                continue
            reached = found.throughput[own, None] * self.replicas[self.classes[layout[own]]]
            most = reached.max(axis=0)
            first = np.argmax(reached >= most * (1.0 - EQUAL), axis=0)
            throughput[:, at] = np.take_along_axis(reached, first[None], axis=0)[0]
            some = most > 0.0
            best[some, at] = layout[own[first]][some]
            batch[some, at] = found.batch[own[first]][some]
        return Optima(throughput, best, batch, self.evaluations.count)
