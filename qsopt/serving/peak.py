"""The best way of serving requests, exactly, where nothing is asked about the others: all ways
compete, so fewer candidates are settled than by `ways.searched`, which finds the best of each way.

A pair of pools serves no more than devices/(n_r/X_r + n_w/X_w), n devices of a replica and X its
rate, with the best other pool; so pools compete too.

Of an easier question, of which the answer is known, nothing serves less than here. Then only
candidates are tried that served as much there as the best serves here: a few where both are near.
Easier are looser limits, and worlds without reuse, residency or communication penalties, as they
take time or memory from a batch and give nothing. A world without imbalance is not: its experts run
with the efficiency of dense products.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from qsopt.arrays import Scalar, number
from qsopt.deployments.batches import length, like, put, take
from qsopt.deployments.best import EQUAL
from qsopt.serving.candidates import READER, WRITER, Candidates, Groups
from qsopt.serving.narrowing import next_units, step, unknown
from qsopt.serving.optimum import FIRST, ROUND, Found, beating
from qsopt.serving.pairs import Pairs, no_pairs, pairs_of
from qsopt.serving.replica import Served
from qsopt.serving.trials import Rows, asked_once, asking
from qsopt.serving.ways import Settled

FOREMOST = 128
"""Candidates of a kind that are settled first, so that there is something to beat."""

Mask = Bool[np.ndarray, " candidates"]


class Bounds(NamedTuple):
    """What each candidate serves at most."""

    upper: Float[np.ndarray, " candidates"]
    """Tokens/s of the cluster, or requests/s of a pool's replica."""
    devices: Float[np.ndarray, " candidates"]
    """That a replica takes."""


class Peak(Settled):
    """The best of all ways, and what it leaves for harder questions."""

    bounds: Bounds
    throughput: Scalar = number()
    """Of the best way, 0 where nothing keeps the limits [tokens/s]."""


def peak(
    served: Served,
    every: Candidates,
    groups: Groups,
    easier: Sequence[Bounds] = (),
    least: float = 0.0,
) -> Peak:
    """The best of all ways.

    Args:
        served: model, service and draft, concrete.
        every: from `ways.lists`.
        groups: from `ways.lists`.
        easier: bounds from easier questions about the same candidates.
        least: what serves no more need not be settled [tokens/s].
    """
    return _Search(served, every, groups, easier, least).run()


class _Search:
    """Candidates of one pool first, then the pools that may serve more."""

    def __init__(
        self,
        served: Served,
        every: Candidates,
        groups: Groups,
        easier: Sequence[Bounds],
        least: float,
    ) -> None:
        self.served, self.every, self.groups = served, every, groups
        self.ask = asking(served, asked_once(served), every, often=True)
        self.pool, self.known = every.kind >= WRITER, unknown(length(every))
        self.devices, self.goal = np.ones(length(every)), least
        self.seen: Any = None
        workload = served.service.workload
        self.answer, self.limit = float(np.asarray(workload.answer)), workload.tpot_limit
        self.latest = workload.ttft_limit * (1.0 + EQUAL)
        if easier:
            self.devices = easier[0].devices.copy()
            bound = np.min([each.upper for each in easier], axis=0)
            self.known = self.known._replace(bound=bound)

    def run(self) -> Peak:
        single = ~self.pool
        self._settle(self._sample(single), once=True)
        self._settle(self._foremost(single & (self.known.bound < np.inf)))
        self._settle(single)
        self._settle(self.pool & np.isinf(self.known.bound), once=True)
        pairs = self._pools() if self._promising(self.pool) else no_pairs(self.groups)
        most = np.max(self.known.value, where=single, initial=0.0)
        best = max(float(most), float(np.max(pairs.requests)) * self.answer)
        bounds = Bounds(self.known.upper, self.devices)
        return Peak(self._found(), pairs, bounds, np.float64(best))

    def _pools(self) -> Pairs:
        """The best pairs of pools, those that may serve most first."""
        self._settle(self._foremost(self.every.kind == READER, self.every.kind == WRITER))
        self._pair()
        self._settle(self.pool)
        return self._pair()

    def _promising(self, some: Mask) -> bool:
        """Whether any of some candidates may serve more than the best so far."""
        return bool(np.any(some & (self._reach() > self.goal * (1.0 - EQUAL))))

    def _settle(self, some: Mask, once: bool = False) -> None:
        """Find the largest allowed batch of those that may serve more than the best so far.

        Args:
            some: of which.
            once: whether one trial of each is enough.
        """
        while True:
            upper = self._reach()
            active = self.known.unsettled & some & (upper > self.goal * (1.0 - EQUAL))
            rows = np.flatnonzero(active & (self.known.trials == 0) if once else active)
            if not len(rows):
                return
            self._try(rows[np.argsort(-upper[rows], kind="stable")[:ROUND]])

    def _sample(self, some: Mask) -> Mask:
        """Of those of which nothing is known some, evenly over the list."""
        rows = np.flatnonzero(some & np.isinf(self.known.bound))
        return self._only(rows[:: max(1, -(-len(rows) // FIRST))])

    def _foremost(self, *kinds: Mask) -> Mask:
        """Of each kind the candidates that may serve most."""
        reach = self._reach()
        rows = [np.flatnonzero(kind) for kind in kinds]
        best = [each[np.argsort(-reach[each], kind="stable")[:FOREMOST]] for each in rows]
        return self._only(np.concatenate(best))

    def _only(self, rows: Int[np.ndarray, " rows"]) -> Mask:
        chosen = np.zeros(length(self.every), dtype=bool)
        chosen[rows] = True
        return chosen

    def _try(self, rows: Int[np.ndarray, " rows"]) -> None:
        """Learn what trials of some rows say."""
        before, layouts = self.known.take(rows), take(self.every.layout, rows)
        goal = np.where(self.pool[rows], 0.0, self.goal)
        units = next_units(before, beating(self.served, layouts, goal), self.limit)
        done = step(self.ask, before, Rows(0 * rows, rows), units)
        put(self.known, rows, done.known)
        shown, trials = rows[done.shown], done.came.trial
        if self.seen is None:
            self.seen = like(trials, length(self.every))
        put(self.seen, shown, trials)
        self.devices[shown] = trials.devices
        single = done.known.value[~self.pool[rows]]
        self.goal = max(self.goal, float(np.max(single, initial=0.0)))

    def _reach(self) -> Float[np.ndarray, " candidates"]:
        """No less than each candidate serves, pools with the best other one [tokens/s]."""
        upper, kind = self.known.upper, self.every.kind
        late = (kind == READER) & (self.known.units > 0.0) & (self._seen_ttft() > self.latest)
        with np.errstate(divide="ignore"):
            share = np.where(late, np.inf, self.devices / upper)
            least = {
                pool: np.min(share, where=kind == pool, initial=np.inf) for pool in (READER, WRITER)
            }
            other = np.where(kind == WRITER, least[READER], least[WRITER])
            pairs = float(self.served.service.cluster.devices) * self.answer / (share + other)
        return np.where(self.pool, pairs, upper)

    def _seen_ttft(self) -> np.ndarray:
        return np.zeros(length(self.every)) if self.seen is None else self.seen.ttft

    def _pair(self) -> Pairs:
        """The pairs of pools that are known to be allowed, the best of which counts from now on."""
        least = self.goal / self.answer
        pairs = pairs_of(self.served, self.every, self.groups, self._found(), least)
        self.goal = max(self.goal, float(np.max(pairs.requests)) * self.answer)
        return pairs

    def _found(self) -> Found:
        if self.seen is None:  # nothing was worth a trial
            self._try(np.arange(1))
        seen: Any = self.seen
        return Found(self.known, seen)
