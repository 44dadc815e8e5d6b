"""The largest allowed batch of many rows at once: what is known of each, and what to try next.

A row is a candidate under a question. Everything it serves below a batch is bounded by what it
serves there, whether that batch is allowed or not.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from qsopt.deployments.batches import take
from qsopt.serving.trials import Ask, Outcome, Rows, Tried

INTERPOLATED = 3
"""Of so many trials in a row the last halves the interval, whatever time per token says."""

SECTIONS = 8
"""Batches of a row that are tried at once at most."""

Values = Float[np.ndarray, " rows"]


class Known(NamedTuple):
    """What is known of each row."""

    low: Values
    """Batch units below which nothing need be tried."""
    high: Values
    """Batch units that are too many, infinite where no limit is known."""
    units: Values
    """The most that are known to be allowed, 0 if none are."""
    value: Values
    """What it serves with them."""
    bound: Values
    """What it could serve at best with fewer than `high`."""
    fast: Values
    """Time per token with the most allowed units, 0 if none are [s]."""
    slow: Values
    """Time per token with `high` units, infinite if not known [s]."""
    trials: Int[np.ndarray, " rows"]
    """Made so far."""

    def take(self, rows: np.ndarray) -> "Known":
        """Some of the rows."""
        return Known(*(column[rows] for column in self))

    @property
    def upper(self) -> Values:
        """No less than each row serves with its largest allowed batch."""
        return np.where(self.unsettled, np.maximum(self.bound, self.value), self.value)

    @property
    def unsettled(self) -> Bool[np.ndarray, " rows"]:
        """Rows whose largest allowed batch is not known."""
        return self.high - self.low > 1.0


def unknown(count: int) -> Known:
    """So many rows of which nothing is known."""
    endless = (1, 4, 6)
    columns = (np.full(count, np.inf if place in endless else 0.0) for place in range(7))
    return Known(*columns, trials=np.zeros(count, dtype=int))


def next_units(known: Known, beats: Values, limit: Values) -> Values:
    """Batch units to try.

    Where nothing is allowed yet, the fewest that could beat what is known within the limit on time
    per token; then the most; then one, if nothing is allowed still; then, between both, where time
    per token meets its limit if it is a straight line, but for every third trial, which halves.

    Args:
        known: of each row.
        beats: units with which a row serves no more than what it must beat; 0 if there is nothing.
        limit: on time per token [s].
    """
    middle = np.floor((known.low + np.where(known.unsettled, known.high, known.low)) / 2.0)
    straight = (known.fast > 0.0) & (known.fast < limit) & (limit < known.slow)
    straight &= np.isfinite(known.slow) & (known.trials % INTERPOLATED != INTERPOLATED - 1)
    span = np.where(straight, known.slow - known.fast, 1.0)
    share = np.where(straight, (limit - known.fast) / span, 0.0)
    high = np.where(np.isfinite(known.high), known.high, known.low + 2.0)
    between = np.clip(known.low + np.floor(share * (high - known.low)), known.low + 1.0, high - 1.0)
    inside = np.where(straight, between, np.maximum(middle, known.low + 1.0))
    later = np.where(np.isfinite(known.high), inside, np.inf)
    least = np.where(np.isfinite(known.high), np.maximum(beats, 1.0), beats)
    test = (known.units == 0.0) & (least > known.low) & (least < known.high)
    return np.where(test, least, later)


class Step(NamedTuple):
    """What trials of rows say."""

    known: Known
    shown: Int[np.ndarray, " shown"]
    """Rows of whose trials one is worth keeping: of the most units that are allowed, or of the
    fewest where none are.
    """
    came: Any
    """Of that trial."""
    trials: int
    """Made."""


def step(ask: Ask, known: Known, rows: Rows, units: Values) -> Step:
    """Try rows at their next batch, and at others where one call takes more rows than there are.

    Args:
        ask: what tries them.
        known: of each row.
        rows: candidates under questions.
        units: from `next_units`.
    """
    each = max(1, min(SECTIONS, ask.size // len(units)))
    several = _several_units(known, units, each)
    came = ask(rows.take(np.repeat(np.arange(len(units)), each)), several.ravel())
    outcome = came.outcome if isinstance(came, Tried) else came
    last = np.full(len(units), -1)
    for place in range(each):
        before = known
        known = updated(before, several[:, place], take(outcome, slice(place, None, each)))
        news = (known.low != before.low) | (known.high != before.high)
        last[news & ((known.units > before.units) | (before.units == 0.0))] = place
    shown = np.flatnonzero(last >= 0)
    return Step(known, shown, take(came, shown * each + last[shown]), several.size)


def _several_units(known: Known, units: Values, count: int) -> Float[np.ndarray, "rows units"]:
    """So many batch units to try at once, rising: the next, and others evenly between what is known
    to be allowed and what is too many; the next alone where that is not known.
    """
    shares = np.arange(1.0, count) / count
    bounded = np.isfinite(known.high) & (units < known.high)
    high = np.where(bounded, known.high, known.low)
    inside = np.floor(known.low[:, None] + shares * (high - known.low)[:, None])
    others = np.where(bounded[:, None] & (inside > known.low[:, None]), inside, units[:, None])
    return np.sort(np.concatenate([units[:, None], others], axis=1), axis=1)


def updated(known: Known, asked: Values, came: Outcome) -> Known:
    """What is known after the rows were tried with so many units, or fewer where fewer fit; nothing
    new where it was known already whether so many are allowed.
    """
    units, tpot = came.units, came.tpot
    up = came.allowed | came.too_small
    new = (units >= known.low) & (units < known.high)
    up, down, allowed = new & up, new & ~up, new & came.allowed
    most = np.where(units < asked, units + 1.0, known.high)
    return Known(
        low=np.where(up, units, known.low),
        high=np.where(down, units, np.where(up, most, known.high)),
        units=np.where(allowed, units, known.units),
        value=np.where(allowed, came.value, known.value),
        bound=np.where(down, came.value, known.bound),
        fast=np.where(allowed, tpot, known.fast),
        slow=np.where(down, tpot, known.slow),
        trials=known.trials + 1,
    )


def tightened(known: Known, slower: Bool[np.ndarray, " rows"]) -> Known:
    """What is known under a tighter limit on time per token, which the most allowed units of some
    rows do not keep.
    """
    none = np.zeros_like(known.low)
    return known._replace(
        low=np.where(slower, none, known.low),
        high=np.where(slower, known.units, known.high),
        units=np.where(slower, none, known.units),
        value=np.where(slower, none, known.value),
        bound=np.where(slower, known.value, known.bound),
        fast=np.where(slower, none, known.fast),
        slow=np.where(slower, known.fast, known.slow),
    )


def upper_between(known: Known, upper: Values, possible: Bool[np.ndarray, " rows"]) -> Values:
    """No less than each row serves with batches that are no whole number.

    Args:
        known: of each row.
        upper: no less than each serves with whole ones.
        possible: whether the memory and the first token of the last trial were within limits.
    """
    some = np.maximum(known.units, 1.0)
    endless = possible & (known.units == 0.0) & (known.high <= 1.0)
    reaching = np.where(known.unsettled, upper, upper * (some + 1.0) / some)
    return np.where(endless, np.inf, np.where(known.units > 0.0, reaching, upper))
