"""The largest allowed batch of many rows at once: what is known of each, and what to try next.

A row is a candidate under a question. Everything it serves below a batch is bounded by what it
serves there, whether that batch is allowed or not.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from qsopt.serving.trials import Outcome

INTERPOLATED = 3
"""Of so many trials in a row the last halves the interval, whatever time per token says."""

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
    per token; then the most; then, between both, where time per token meets its limit if it is a
    straight line, but for every third trial, which halves.

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
    test = (known.units == 0.0) & (beats > known.low) & (beats < known.high)
    return np.where(test, beats, later)


def updated(known: Known, asked: Values, came: Outcome) -> Known:
    """What is known after the rows were tried with so many units, or fewer where fewer fit."""
    units, tpot = came.units, came.tpot
    up = came.allowed | came.too_small
    most = np.where(units < asked, units + 1.0, known.high)
    return Known(
        low=np.where(up, units, known.low),
        high=np.where(up, most, units),
        units=np.where(came.allowed, units, known.units),
        value=np.where(came.allowed, came.value, known.value),
        bound=np.where(up, known.bound, came.value),
        fast=np.where(came.allowed, tpot, known.fast),
        slow=np.where(up, known.slow, tpot),
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


def put(known: Known, rows: Int[np.ndarray, " rows"], new: Known) -> None:
    """Write what is known of some rows, in place."""
    for column, fresh in zip(known, new, strict=True):
        column[rows] = fresh
