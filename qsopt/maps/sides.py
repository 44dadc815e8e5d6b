"""One side of a map, and what its layouts reach at points."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from qsopt.comparison.dense import NAMED, MatchKind, with_sizes
from qsopt.deployments.batches import chunks, length, pad_to, take
from qsopt.deployments.capped import ServedModel, capped_entry
from qsopt.deployments.contest import Entry, qualified
from qsopt.deployments.legality import splits
from qsopt.deployments.optimum import at_batches, entry_of
from qsopt.maps.points import MapPoint, served_at, with_top_k_factor
from qsopt.physics.evaluate import timing
from qsopt.programs import compiled
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service

CHUNK, AT_ONCE = 8192, 512
"""Layouts at a point that one call of the compiled function takes, and those of them that it
evaluates side by side.
"""

BLOCKS = (16, 8, 4, 2, 1)
"""Widths of the blocks of a search, each a multiple of the next."""

MOST_PAIRS = 2_000_000
"""Layouts in blocks that one search begins with."""

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


def joined(parts: Sequence[Optima], axis: int) -> Optima:
    """Parts of a map side by side along an axis."""
    throughput, layout, batch = (
        np.concatenate([getattr(part, name) for part in parts], axis)
        for name in ("throughput", "layout", "batch")
    )
    return Optima(throughput, layout, batch, sum(part.evaluated for part in parts))


class Reached(NamedTuple):
    """What layouts reach, each at a point of its own; NumPy arrays."""

    throughput: Float[np.ndarray, " n"]
    """The most that is known to be reached, 0 where infeasible [tokens/s]."""
    at_most: Float[np.ndarray, " n"]
    """The same where the largest batch is known, else what is not exceeded [tokens/s]."""
    batch: Float[np.ndarray, " n"]
    """Batch of `throughput` [sequences of a replica]."""


class Evaluations:
    """Evaluates layouts of a side at points, and counts."""

    def __init__(self, side: MapSide, points: MapPoint) -> None:
        self.side, self.points = side, points
        self.count = 0

    def reached(
        self,
        point: Int[np.ndarray, " n"],
        layout: Int[np.ndarray, " n"],
        goal: Float[np.ndarray, " n"],
        to_the_end: bool,
    ) -> Reached:
        """What layouts reach.

        Args:
            point: places of the points.
            layout: places of the layouts.
            goal: throughputs below which they do not matter [tokens/s].
            to_the_end: whether the largest batches of all others are wanted, or each is evaluated
                once.
        """
        self.count += len(layout)
        if not len(layout):
            return Reached(np.zeros(0), np.zeros(0), np.zeros(0))
        end = np.asarray(to_the_end)
        parts = [self._reached(part, end) for part in chunks((point, layout, goal), CHUNK)]
        return Reached(*(np.concatenate(leaves) for leaves in zip(*parts, strict=True)))

    def _reached(
        self, part: tuple[np.ndarray, ...], to_the_end: Bool[np.ndarray, ""]
    ) -> tuple[np.ndarray, ...]:
        """Of at most as many as one call takes."""
        side, count = self.side, length(part)
        point, layout, goal = pad_to(part, CHUNK)
        filled = _reached(
            side.model,
            side.service,
            take(self.points, point),
            take(side.layouts, layout),
            goal,
            np.asarray(count, np.int32),
            to_the_end,
            kind=side.kind,
            capped=side.capped,
        )
        return tuple(np.asarray(leaf)[:count] for leaf in filled)


@partial(compiled, static=("kind", "capped"))
def _reached(
    model: Model,
    service: Service,
    points: MapPoint,
    layouts: Deployment,
    goals: Float[Array, " chunk"],
    count: Int[Array, ""],
    to_the_end: Bool[Array, ""],
    *,
    kind: MatchKind | None,
    capped: bool,
) -> tuple[Array, Array, Array]:
    """What each of the first `count` layouts reaches at its point; at others nothing is looked."""

    def case_at(point: MapPoint) -> ServedModel:
        return served_at(_side_at(model, point, kind), service, point)

    def entered(point: MapPoint, layout: Deployment) -> Entry:
        case = case_at(point)
        free = entry_of(case.model, case.service, layout)
        entry = capped_entry(case, layout) if capped else free
        if kind is None or kind.twin != "released":
            return entry
        most = jnp.where(splits(case.model, layout), entry.most, 0.0)  # its heads are the point's
        return eqx.tree_at(lambda e: e.most, entry, most)

    def tpot(point: MapPoint, layout: Deployment) -> Array:
        case = case_at(point)
        return timing(case.model, case.service, layout).tpot

    def evaluate(places: Array, batches: Array) -> tuple[Array, Array]:
        designs = at_batches(take(layouts, places), batches)
        times = jax.vmap(tpot)(take(points, places), designs)
        return entry.replicas[places] * batches / times, times

    entry = jax.vmap(entered)(points, layouts)
    asked = jnp.where(jnp.arange(CHUNK, dtype=count.dtype) < count, entry.most, 0.0)
    entry = eqx.tree_at(lambda e: e.most, entry, asked)
    standing = qualified(entry, evaluate, goals, to_the_end, AT_ONCE)
    batch = jnp.maximum(standing.units, 1.0) * entry.unit
    return standing.throughput, standing.at_most, batch


def _side_at(model: Model, point: MapPoint, kind: MatchKind | None) -> Model:
    """The MoE, or its dense match, at a point."""
    if kind is None:
        return with_top_k_factor(model, point.top_k_factor)
    return model if kind == NAMED else with_sizes(model, point.shape, kind)
