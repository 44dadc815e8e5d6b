"""Numbers that the findings' templates ask for: rows picked, shares counted, words chosen."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

import numpy as np

from experiments.pages.template import tokens

Row = dict[str, Any]


def pick(rows: Iterable[Row], **wanted: Any) -> Row:
    """The only row with these values.

    Raises:
        LookupError: if there is none, or there are several.
    """
    found = every(rows, **wanted)
    if len(found) != 1:
        raise LookupError(f"{len(found)} rows with {wanted}")
    return found[0]


def every(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """The rows with these values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def ratio(row: Row) -> str:
    """A ratio with its interval."""
    if row["ratio"] is None:
        return {"moe infeasible": "only dense", "dense infeasible": "only MoE"}.get(
            row["verdict"], "neither"
        )
    return f"{row['ratio']:.2f}{between(row)}"


def between(row: Row) -> str:
    """The interval of a ratio, where there is one."""
    if row.get("low") is None:
        return ""
    return f" ({row['low']:.2f} to {row['high']:.2f})"


def alone(row: Row) -> str:
    """The ratio of decode alone of a pair, with its interval."""
    return ratio({"ratio": row["decode"], "low": row["decode_low"], "high": row["decode_high"]})


def span(values: Iterable[float | None], pattern: str = ".2f") -> str:
    """From the least to the most of some numbers."""
    known = [value for value in values if value is not None]
    low, high = format(min(known), pattern), format(max(known), pattern)
    return low if low == high else f"{low} to {high}"


def lengths(values: Iterable[float | None]) -> str:
    """From the least to the most of some lengths, as people say them."""
    known = [value for value in values if value is not None]
    low, high = tokens(min(known)), tokens(max(known))
    return low if low == high else f"{low} to {high}"


def most(values: Iterable[float | None]) -> float:
    """The largest of those that exist."""
    return max(value for value in values if value is not None)


def middle(values: Iterable[float | None]) -> float:
    """Median of those that exist."""
    return float(median([value for value in values if value is not None]))


def winner(row: Row) -> str:
    """Who wins, in a word."""
    return "dense" if row["verdict"] in ("dense wins", "moe infeasible") else "the MoE"


def sure(row: Row) -> bool:
    """Whether the 80 % interval lies on one side of 1."""
    return row["low"] is not None and (row["low"] > 1.0 or row["high"] < 1.0)


def dense_wins(rows: Iterable[Row]) -> int:
    """How often dense wins."""
    return sum(winner(row) == "dense" for row in rows)


def one_winner(rows: Iterable[Row]) -> bool:
    """Whether the same side wins everywhere."""
    return len({winner(row) for row in rows}) == 1


def column(rows: Sequence[Row], name: str) -> list[Any]:
    """One value of every row."""
    return [row[name] for row in rows]


def factor(error: float) -> float:
    """An error in logs as a factor."""
    return float(np.exp(error))


def typical(errors: Iterable[float]) -> float:
    """Median size of errors in logs, as a factor."""
    return float(np.exp(np.median(np.abs(list(errors)))))


def lean(errors: Iterable[float]) -> float:
    """Median of errors in logs, as a factor."""
    return float(np.exp(np.median(list(errors))))


def off(rows: Iterable[Row]) -> list[float]:
    """How far the closed form is from the roofline, as shares."""
    return [abs(row["closed_form"] / row["ideal"] - 1.0) for row in rows]
