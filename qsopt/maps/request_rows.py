"""What a map over requests tries of one side: every layout in every way with every chunk, in blocks
of points.

A chunk keeps its share of the prompt over the whole map, i 2^m tokens, so that what a candidate
serves moves one way along an axis; at each point only the ten shares count that a search there
would try (see `candidates`).
"""

from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from qsopt.serving.candidates import (
    CHUNKS,
    MIXED,
    READER,
    UNIFORM,
    Candidates,
    candidates,
    doubles,
)
from qsopt.serving.plan import WAYS
from qsopt.serving.replica import Served
from qsopt.serving.trials import Ask, Asked, Rows, asking
from qsopt.spec.deployment import Deployment
from qsopt.spec.workload import NO_LIMIT


class Block(NamedTuple):
    """Where each row stands: a block of points, and its corners."""

    x: Int[np.ndarray, " rows"]
    y: Int[np.ndarray, " rows"]


class Shares(NamedTuple):
    """Candidates of a map, whose chunks are shares of the prompt."""

    every: Candidates
    exponent: Int[np.ndarray, " candidates"]
    """m of the share 2^m; 0 where there is no chunk to choose."""
    chunked: Bool[np.ndarray, " candidates"]
    """Whether there is."""


def shares(
    layouts: Deployment, most: Int[np.ndarray, " points"], ways: tuple[str, ...] = WAYS
) -> Shares:
    """Every candidate of some layouts in some ways.

    Args:
        layouts: legal ones.
        most: from `candidates.doubles`, of all points.
        ways: of serving.
    """
    every = candidates(layouts, ways)
    chunked = np.isin(every.kind, (MIXED, READER)) | (every.kind == 2)
    first = np.flatnonzero(~chunked | (every.chunk == 0.0))
    exponents = np.arange(int(most.min()) - CHUNKS + 1, int(most.max()) + 1)
    times = np.where(chunked[first], len(exponents), 1)
    rows = np.repeat(first, times)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
    kept = jax.tree.map(lambda leaf: np.asarray(leaf)[rows], every)
    return Shares(kept, np.where(chunked[rows], exponents[place], 0), chunked[rows])


def without_first_limit(questions: Asked) -> Asked:
    """The questions, and after them the same without a limit on time to first token: what uniform
    steps serve at best, as theirs may fall with the batch.
    """
    free = eqx.tree_at(
        lambda q: q.workload.ttft_limit,
        questions,
        np.full_like(np.asarray(questions.workload.ttft_limit), NO_LIMIT),
    )
    return jax.tree.map(lambda one, other: np.concatenate([one, other]), questions, free)


def alike_for_readers(questions: Asked) -> Int[np.ndarray, " points"]:
    """Points by what a replica that only reads prompts has to do there, which does not depend on
    answers, acceptance and limits.
    """
    ignored = ("answer", "acceptance", "tpot_limit", "ttft_limit")
    same = eqx.tree_at(
        lambda q: tuple(getattr(q.workload, name) for name in ignored),
        questions,
        tuple(np.zeros_like(getattr(questions.workload, name)) for name in ignored),
    )
    leaves = jax.tree.leaves(same)
    columns = [np.asarray(leaf).reshape(len(leaf), -1) for leaf in leaves]
    _, place = np.unique(np.concatenate(columns, axis=1), axis=0, return_inverse=True)
    return place.reshape(-1)


class Board(NamedTuple):
    """Both what may be tried and how."""

    shares: Shares
    questions: Asked
    """Of all points in one row, the second axis first."""
    most: Int[np.ndarray, " points"]
    ask: Ask
    points: int

    def rows(
        self, point: Int[np.ndarray, " rows"], candidate: Int[np.ndarray, " rows"], bound: bool
    ) -> Rows:
        """Candidates at points.

        Args:
            point: of each.
            candidate: of each.
            bound: whether the most that they could serve in a block is asked for.
        """
        free = bound & (self.shares.every.kind[candidate] == UNIFORM)
        chunk = np.where(
            self.shares.chunked[candidate], self.most[point] - self.shares.exponent[candidate], 0
        )
        return Rows(np.where(free, point + self.points, point), candidate, chunk.astype(float))

    def there(
        self,
        low: Int[np.ndarray, " rows"],
        high: Int[np.ndarray, " rows"],
        candidate: Int[np.ndarray, " rows"],
    ) -> Bool[np.ndarray, " rows"]:
        """Whether a candidate is tried at any point of blocks with so many doublings at their
        ends.
        """
        least, most = np.minimum(low, high), np.maximum(low, high)
        m = self.shares.exponent[candidate]
        return ~self.shares.chunked[candidate] | ((m > least - CHUNKS) & (m <= most))

    def number(self, name: str) -> Float[np.ndarray, " points"]:
        """A number of the workload at every point."""
        return np.asarray(getattr(self.questions.workload, name))


def board(
    served: Served, layouts: Deployment, questions: Asked, ways: tuple[str, ...] = WAYS
) -> Board:
    """Everything of one side.

    Args:
        served: model, service and draft; what no axis moves of it.
        layouts: legal ones on the cluster of the map.
        questions: of all points in one row.
        ways: of serving.
    """
    most = doubles(questions.workload)
    found = shares(layouts, most, ways)
    ask = asking(served, without_first_limit(questions), found.every, briefly=True)
    return Board(found, questions, most, ask, len(most))
