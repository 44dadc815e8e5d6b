"""Which of many layouts reach a throughput under a limit on the time per token, without the largest
batch of each.

Of a layout with R replicas let t(b) be the time per token at batch b and T(b) = R b / t(b) its
throughput; neither ever falls with b (see `optimum`). With a limit L on t, and a throughput X that
the layout must reach to matter, one evaluation at b0 = min(X L / R, memory's largest) tells enough:

    t(b0) > L                            every batch that is allowed is smaller, so that
                                         T(b) <= T(b0) = R b0 / t(b0) < R b0 / L <= X
    t(b0) <= L, b0 is memory's largest   b0 is the largest batch, T(b0) the layout's throughput
    t(b0) <= L elsewhere                 the largest batch is b0 or larger, and reaches X

Only in the last case the batch is bisected. Where layouts compete, X rises with every throughput
that one of them reaches, and once a limit is known to be broken at a batch of X L / R or below, so
is the layout out. Batches are whole units: X L / R is rounded down. Nothing else is assumed, so it
does not matter what the time is made of.
"""

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from qsopt import xp
from qsopt.arrays import Scalar
from qsopt.physics.evaluate import TOLERANCE
from qsopt.record import Record

AT_ONCE = 64
"""Layouts that are evaluated side by side: enough of them for vectors, few enough to leave out most
of those that do not matter.
"""

SHORTEST = 1.0 / 16.0
"""Part of an interval by which it gets shorter with a look between its ends, at the least."""

TIED = 1.0 - 1e-6
"""Share of the best throughput from which on layouts are told apart: below what counts as equal,
and below rounding in float32.
"""

CLOSE = 0.9
"""The same where layouts are asked for that may become the best when something is moved."""

Layouts = Float[Array, " layouts"]
Places = Int[Array, " some"]
Evaluate = Callable[[Places, Float[Array, " some"]], tuple[Array, Array]]
"""Throughput and time per token of layouts, by their places, at batches [tokens/s, s]."""


class Entry(Record):
    """Layouts, and what bounds their batches."""

    most: Layouts
    """Most units that memory, and whatever else, allows."""
    unit: Layouts
    """Sequences of a unit, pipeline * data."""
    replicas: Layouts
    """Replicas that decode."""
    limit: Layouts
    """Of the time per token [s]."""
    least: Layouts
    """Least units that are allowed, 1 or more; a layout that allows fewer is out."""

    def needed(self, goal: Array) -> Layouts:
        """Units that a layout which reaches a throughput is allowed, if any."""
        batch = goal * self.limit / xp.maximum(self.replicas, 1.0)
        return xp.maximum(xp.floor(batch / self.unit), self.least)


class Standing(Record):
    """What is known of each layout, in one table: rows are moved faster than many columns."""

    table: Float[Array, "layouts 5"]

    @classmethod
    def at_start(cls, entry: Entry) -> "Standing":
        """Before anything is evaluated."""
        none = xp.zeros_like(entry.most)
        return cls.joined(entry.most, entry.least, none, none, none + xp.inf)

    @classmethod
    def joined(cls, *columns: Layouts) -> "Standing":
        """From its columns, in the order of the properties."""
        return cls(xp.stack(columns, axis=1))

    @property
    def high(self) -> Layouts:
        """Most units that may still meet the limit."""
        return self.table[:, 0]

    @property
    def low(self) -> Layouts:
        """One more than is known to meet it."""
        return self.table[:, 1]

    @property
    def units(self) -> Layouts:
        """The most that is known to meet it, 0 before any is."""
        return self.table[:, 2]

    @property
    def throughput(self) -> Layouts:
        """With these units [tokens/s]."""
        return self.table[:, 3]

    @property
    def bound(self) -> Layouts:
        """Least throughput at which the limit was broken, which no allowed batch exceeds; infinite
        where it was not [tokens/s].
        """
        return self.table[:, 4]

    @property
    def known(self) -> Bool[Array, " layouts"]:
        """Whether the largest batch is."""
        return self.low > self.high

    @property
    def broken(self) -> Bool[Array, " layouts"]:
        """Whether some batch is known to break the limit."""
        return self.bound < xp.inf

    @property
    def tried(self) -> Bool[Array, " layouts"]:
        """Whether the layout was evaluated."""
        return self.broken | (self.units > 0.0)

    @property
    def at_most(self) -> Layouts:
        """Throughput at the largest batch where that is known, else what it does not exceed
        [tokens/s].
        """
        return xp.where(self.known, self.throughput, self.bound)

    def is_open(self, needed: Layouts) -> Bool[Array, " layouts"]:
        """Which may still reach what is needed, and are not known."""
        return ~self.known & ((needed <= self.high) | ~self.broken)

    def next(self, entry: Entry, needed: Layouts, any_goal: Bool[Array, " layouts"]) -> Layouts:
        """Units to look at: what is needed first, then what memory allows, then between; but where
        nothing is needed first what memory allows, then the least.
        """
        least = xp.maximum(self.low, needed)
        likely = xp.where(self.units > 0.0, self._likely(entry), least)
        between = xp.clip(likely, least, self.high)
        first = any_goal & ~self.tried
        untold = xp.where(first, xp.minimum(needed, self.high), self.high)
        return xp.where(self.broken, between, untold)

    def _likely(self, entry: Entry) -> Layouts:
        """Units between some that meet the limit and some that break it at which a straight line
        meets it, and not so near to either that little is learned.
        """
        wide = self.high + 1.0 - self.units
        time, more = (
            units * entry.unit * entry.replicas / xp.where(rate > 0.0, rate, 1.0)
            for units, rate in ((self.units, self.throughput), (self.high + 1.0, self.bound))
        )
        rise = more - time
        share = (entry.limit - time) / xp.where(rise > 0.0, rise, 1.0)
        return self.units + xp.floor(xp.clip(share, SHORTEST, 1.0 - SHORTEST) * wide)

    def told(self, units: Layouts, throughput: Layouts, allowed: Array) -> "Standing":
        """After an evaluation of each."""
        one = xp.maximum(1.0, units * xp.finfo(units.dtype).eps)  # what float32 tells apart
        return Standing.joined(
            xp.where(allowed, self.high, units - one),
            xp.where(allowed, units + one, self.low),
            xp.where(allowed, units, self.units),
            xp.where(allowed, throughput, self.throughput),
            xp.where(allowed, self.bound, xp.minimum(self.bound, throughput)),
        )


def contest(
    entry: Entry,
    evaluate: Evaluate,
    promise: Layouts,
    best: Scalar,
    near: Scalar,
    at_once: int = AT_ONCE,
) -> Standing:
    """Layouts that compete for the largest throughput.

    Args:
        entry: the layouts.
        evaluate: what they do at a batch.
        promise: those with more of it are looked at first; what it is of does not matter.
        best: a throughput that is reached elsewhere, 0 if none [tokens/s].
        near: share of the best throughput from which on a layout's largest batch is wanted: `TIED`
            for the best alone, 0 for all.
        at_once: layouts that are evaluated side by side.
    """

    def is_open(progress: tuple[Standing, Scalar]) -> Bool[Array, ""]:
        state, best = progress
        return xp.any(state.is_open(entry.needed(near * best)))

    def look(progress: tuple[Standing, Scalar]) -> tuple[Standing, Scalar]:
        state, best = progress
        goal = near * best
        needed = entry.needed(goal)
        places = _first(state.is_open(needed), promise, at_once)
        state, reached = _looked(state, entry, evaluate, places, needed, goal > 0.0)
        return state, xp.maximum(best, reached)

    best = xp.asarray(best, entry.most.dtype)
    return xp.while_loop(is_open, look, (Standing.at_start(entry), best))[0]


def qualified(
    entry: Entry, evaluate: Evaluate, goals: Layouts, to_the_end: Bool[Array, ""], at_once: int
) -> Standing:
    """Layouts of which each has a throughput of its own to reach.

    Args:
        entry: the layouts.
        evaluate: what they do at a batch.
        goals: throughputs below which they do not matter, 0 where all do [tokens/s].
        to_the_end: whether largest batches are wanted, or each layout is evaluated once.
        at_once: layouts that are evaluated side by side.
    """
    needed, promise = entry.needed(goals), xp.zeros_like(goals)

    def open_layouts(state: Standing) -> Bool[Array, " layouts"]:
        return state.is_open(needed) & (to_the_end | ~state.tried)

    def look(state: Standing) -> Standing:
        places = _first(open_layouts(state), promise, at_once)
        return _looked(state, entry, evaluate, places, needed, goals > 0.0)[0]

    start = Standing.at_start(entry)
    return xp.while_loop(lambda state: xp.any(open_layouts(state)), look, start)


def _first(is_open: Bool[Array, " layouts"], promise: Layouts, count: int) -> Places:
    """Places of the most promising open layouts, the first among equals; as many as there are
    layouts where no more are open.
    """
    total = len(promise)
    # of float32 the compiler takes the largest few without a whole sort
    rank = xp.where(is_open, promise.astype(np.float32), -xp.inf)
    most, places = xp.top_k(rank, min(count, total))
    return xp.where(most > -xp.inf, places, total)


def _looked(
    state: Standing,
    entry: Entry,
    evaluate: Evaluate,
    places: Places,
    needed: Layouts,
    any_goal: Bool[Array, "..."],
) -> tuple[Standing, Scalar]:
    """After one evaluation of some layouts, and the most that one of them reached."""
    total = len(needed)
    at = xp.minimum(places, total - 1)
    goal = xp.broadcast_to(any_goal, (total,))[at]
    some = Standing(state.table[at])
    entered = jax.tree.map(lambda leaf: leaf[at], entry)
    units = some.next(entered, needed[at], goal)
    throughput, tpot = evaluate(at, units * entered.unit)
    allowed = tpot <= entered.limit * (1.0 + TOLERANCE)
    told = some.told(units, throughput, allowed)
    table = xp.with_rows(state.table, places, told.table)
    return Standing(table), xp.max(xp.where(allowed & (places < total), throughput, 0.0))
