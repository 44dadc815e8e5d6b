"""What is asked of a search, and the deployments that it tries for each family of architectures."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from qsopt.deployments.batches import length, take
from qsopt.proposals.bodies import Body
from qsopt.proposals.boxes import Box, Table
from qsopt.proposals.choices import distinct, joined, keys
from qsopt.proposals.goals import Goal
from qsopt.proposals.pools import NOBODY, BestRows, best_rows
from qsopt.proposals.scores import Designs, Scores, rows_of, scored
from qsopt.serving.candidates import READER, WRITER, Candidates
from qsopt.spec.service import Service

ONE_POOL, OF_POOLS = 3, 2
"""How many of the best one-pool candidates, and of those of each pool, stand for a design."""


@dataclass(frozen=True)
class Task:
    """One search: for a service, a quality, and what architectures may be."""

    service: Service
    """Cluster, workload of requests, efficiencies, rules of layouts."""
    body: Body
    goal: Goal
    boxes: dict[str, Box]
    """By family."""
    decode_alone: bool = False
    """Whether prompts come from elsewhere."""
    seed: int = 0

    @property
    def devices(self) -> float:
        """Of the cluster."""
        return float(self.service.cluster.devices)

    @property
    def limit(self) -> float:
        """On the time per token [s]."""
        return float(self.service.workload.tpot_limit)


@dataclass
class Choices:
    """Deployments that were found good for some architecture of a family, and for which."""

    every: Candidates
    """All of them."""
    places: dict[tuple[float, ...], int] = field(default_factory=dict)
    """Place of each in the list."""
    anchors: list[tuple[np.ndarray, Int[np.ndarray, " places"]]] = field(default_factory=list)
    """Where good ones are known: log total and active parameters and log limit, and the places of
    what is best there.
    """

    @classmethod
    def none(cls, like: Candidates) -> "Choices":
        """An empty list."""
        return cls(take(like, slice(0, 0)))

    def add(self, where: np.ndarray, good: Candidates) -> bool:
        """Learn what is good somewhere; whether any of it is new."""
        before = len(self.places)
        for key in keys(good):
            self.places.setdefault(key, len(self.places))
        if len(self.places) > before:
            self.every = distinct(joined([self.every, good]))
        found = np.array([self.places[key] for key in keys(good)], dtype=int)
        self.anchors.append((where, found))
        return len(self.places) > before

    def near(self, where: np.ndarray, nearest: int) -> Int[np.ndarray, " places"]:
        """Places of what is good near a point."""
        distance = [np.linalg.norm(where - anchor) for anchor, _ in self.anchors]
        order = np.argsort(distance, kind="stable")[:nearest]
        return np.unique(np.concatenate([self.anchors[index][1] for index in order]))


def where_of(total: float, active: float, limit: float) -> np.ndarray:
    """A point among the anchors: what decides which deployments are good."""
    return np.array([np.log(total), np.log(active), np.log(min(limit, 10.0))])


@dataclass(frozen=True)
class Tried:
    """Architectures tried in rows of candidates."""

    designs: Designs
    scores: Scores
    owner: Int[np.ndarray, " rows"]
    best: BestRows


def tried(
    task: Task,
    rows: Table,
    candidates: list[Candidates],
    limits: Float[np.ndarray, " designs"],
) -> Tried:
    """Each architecture in its own list of candidates, under its own limit."""
    counts = np.array([length(each) for each in candidates])
    owner = np.repeat(np.arange(len(rows)), counts)
    designs = rows_of(rows[owner], joined(candidates), limits[owner])
    return settled(task, designs, owner, len(rows))


def settled(task: Task, designs: Designs, owner: Int[np.ndarray, " rows"], count: int) -> Tried:
    """Rows with the best of every owner."""
    scores = scored(designs, task.service, task.body, task.decode_alone)
    best = best_rows(owner, count, designs, scores, task.service, task.decode_alone)
    return Tried(designs, scores, owner, best)


def good_rows(found: Tried, index: int) -> Int[np.ndarray, " rows"]:
    """Rows that stand for an architecture: its best, the best of one pool in different layouts,
    and the best of each pool.
    """
    rows = np.flatnonzero((found.owner == index) & (found.scores.value > 0))
    kind = np.asarray(found.designs.candidate.kind)[rows]
    rate = found.scores.value[rows] / np.where(kind >= WRITER, found.scores.devices[rows], 1.0)
    chosen = [row for row in (found.best.row[index], found.best.reader[index]) if row != NOBODY]
    groups = ((kind < WRITER, ONE_POOL), (kind == WRITER, OF_POOLS), (kind == READER, OF_POOLS))
    for member, most in groups:
        mine = rows[member][np.argsort(-rate[member], kind="stable")]
        chosen += _different(found, mine, most)
    return np.unique(np.array(chosen, dtype=int))


def _different(found: Tried, rows: Int[np.ndarray, " rows"], most: int) -> list[int]:
    """The first rows of different layouts."""
    listed = keys(take(found.designs.candidate, rows[:_LOOKED_AT]))
    seen: set[tuple[float, ...]] = set()
    chosen = []
    for row, key in zip(rows, listed, strict=False):
        if key[:6] not in seen and len(chosen) < most:
            seen.add(key[:6])
            chosen.append(int(row))
    return chosen


_LOOKED_AT = 64
"""Best rows of a kind among which different layouts are looked for."""
