"""Proposals by black-box search, made as easy as is fair: the same box of architectures, the width
that gives the quality found for it, batches found exactly, many points scored in one call.

There are two forms. In `ARCHITECTURES` a point is an architecture, and stands for it in the best of
the deployments that the product's own search begins with; in `WHOLE` it is an architecture and its
deployment: one pool or two, the nearest legal layout, its chunk.
"""

import time
from typing import Literal

import numpy as np
from jaxtyping import Float

from experiments.search.search_rivals import WORTHLESS, BlackBox, Points
from qsopt.deployments.batches import length, take
from qsopt.proposals.boxes import Box, Table
from qsopt.proposals.choices import coarse, every_layout, joined, usual, ways_of
from qsopt.proposals.fields import Task, tried
from qsopt.proposals.sampling import rows_at
from qsopt.proposals.sizing import Sized, sized
from qsopt.serving.candidates import READER, WRITER, Candidates, candidates
from qsopt.spec.model import Model

Form = Literal["architectures", "whole"]
FORMS: tuple[Form, ...] = ("architectures", "whole")

NUMBERS = 7
"""Coordinates of an architecture; see `sampling.rows_at`."""

PLACES = 8
"""Coordinates of a candidate among those of its pool."""

NOT_SERVED = -50.0
"""Merit of a legal architecture in a deployment that breaks a limit."""


class ProposalBox(BlackBox):
    """Architectures of a family and their deployments, by the log of their throughput."""

    clock = staticmethod(time.process_time)

    def __init__(
        self, task: Task, family: str, like: Model, form: Form, seconds: float, together: int
    ) -> None:
        self.task, self.box, self.form = task, task.boxes[family], form
        layouts, ways = every_layout(like, task.service), ways_of(task.decode_alone)
        self.usual = coarse(usual(layouts, task.devices), ways)
        every = candidates(layouts, ways)
        kinds = np.asarray(every.kind)
        masks = (kinds < WRITER, kinds == WRITER, kinds == READER)
        # one pool, and of two the one that writes and the one that reads
        self.pools = [take(every, mask) for mask in masks]
        self.places = [_places(pool) for pool in self.pools]
        deployment = 0 if form == "architectures" else 1 + PLACES * len(self.pools)
        super().__init__(NUMBERS + deployment, seconds, together)

    def _merits(self, points: Points) -> Float[np.ndarray, " n"]:
        filled = np.clip(points, 0.0, 1.0)
        filled = np.concatenate([filled, np.repeat(filled[-1:], self.together - len(points), 0)])
        found = self._sized(rows_at(filled[:, :NUMBERS], self.box))
        excess = _excess(self.box, found)
        lists = [self._candidates(point[NUMBERS:]) for point in filled]
        limits = np.full(len(filled), self.task.limit)
        reached = tried(self.task, found.rows, lists, limits).best.throughput
        served = np.where(reached > 0, np.log(np.maximum(reached, 1e-9)), NOT_SERVED)
        return np.where(excess > 0, WORTHLESS - excess, served)[: len(points)]

    def _sized(self, rows: Table) -> Sized:
        return sized(rows, self.task.goal, self.task.body, self.box.width_step)

    def _candidates(self, point: Float[np.ndarray, " m"]) -> Candidates:
        """The deployments that an architecture is tried in."""
        if self.form == "architectures":
            return self.usual
        two_pools = point[0] >= 0.5 and length(self.pools[-1]) > 0
        parts = []
        for pool in (1, 2) if two_pools else (0,):
            at = point[1 + PLACES * pool :][:PLACES]
            nearest = int(np.argmin(np.abs(self.places[pool] - at).sum(axis=1)))
            parts.append(take(self.pools[pool], slice(nearest, nearest + 1)))
        return joined(parts)


def _places(pool: Candidates) -> Float[np.ndarray, "candidates places"]:
    """Every candidate as a point of the unit cube."""
    layout = pool.layout
    sizes = (layout.tensor, layout.data, layout.pipeline, layout.expert, layout.dcp, pool.sharing)
    columns = [np.log(np.asarray(each, float)) for each in sizes]
    columns += [np.asarray(pool.chunk, float), np.asarray(layout.dispatched + pool.kind, float)]
    table = np.stack(columns, axis=1)
    if not len(table):
        return table
    low, high = table.min(axis=0), table.max(axis=0)
    return (table - low) / np.where(high > low, high - low, 1.0)


def _excess(box: Box, found: Sized) -> Float[np.ndarray, " n"]:
    """How far architectures lie outside of their box, in logs; 0 inside."""
    inside = box.holds(found.rows, found.quality) & (np.asarray(found.quality.physical) > 0)
    outside = np.ones(len(found.rows)) * 1e-3
    for name, value in box.measured(found.rows, found.quality).items():
        low, high = box.ratios[name]
        logs = np.log(np.maximum(np.nan_to_num(value, nan=1e-9), 1e-9))
        below = np.maximum(np.log(max(low, 1e-9)) - logs, 0.0)
        outside = outside + below + np.maximum(logs - np.log(high), 0.0)
    return np.where(inside, 0.0, outside)
