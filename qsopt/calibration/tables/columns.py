"""CSV tables of measurements as columns, and the count of what could not be used.

The schema is that of tables derived from the Python package `aiconfigurator-core`: one row for each
measured point, a header, latencies in milliseconds or microseconds as the column says. Nothing is
dropped for what it measures; rows are left out only where they name an accelerator, format or model
that the catalog does not know, have no positive time, or sizes that no kernel has.
"""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from qsopt.calibration.tables import names
from qsopt.errors import InputError
from qsopt.files import read_text

LARGEST = 2**30
"""No table is larger [byte]."""


@dataclass(frozen=True)
class Table:
    """Rows of one file as columns of text."""

    file: str
    """Name of the file."""
    columns: dict[str, np.ndarray]
    """Text of every column."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def text(self, name: str) -> np.ndarray:
        """A column as text.

        Raises:
            InputError: if the file has no such column.
        """
        if name not in self.columns:
            raise InputError(f"{self.file}: no column '{name}'; it has {', '.join(self.columns)}")
        return self.columns[name]

    def number(self, name: str) -> np.ndarray:
        """A column as numbers; an empty entry is NaN.

        Raises:
            InputError: if an entry is not a number.
        """
        try:
            return np.array([float(str(entry)) if entry else np.nan for entry in self.text(name)])
        except ValueError as error:
            raise InputError(f"{self.file}: column '{name}': {error}") from None

    def where(self, keep: Bool[np.ndarray, " rows"]) -> "Table":
        """Only some rows."""
        return Table(self.file, {name: column[keep] for name, column in self.columns.items()})


@dataclass(frozen=True)
class Skipped:
    """Rows that could not be used, by file and reason."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, file: str, reason: str, count: int = 1) -> None:
        """Count rows of a file."""
        if count:
            self.counts[file, reason] += count

    def records(self) -> list[dict[str, str | int]]:
        """One record for each file and reason."""
        return [
            {"file": file, "reason": reason, "rows": count}
            for (file, reason), count in sorted(self.counts.items())
        ]


def read_table(path: Path) -> Table:
    """A CSV file with a header.

    Raises:
        InputError: if it cannot be read, or a row has another number of entries than the header.
    """
    text = read_text(path, "give CSV with a header", LARGEST)
    try:
        header, *rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV with a header ({error})") from None
    wrong = next((number for number, row in enumerate(rows, 2) if len(row) != len(header)), None)
    if wrong is not None:
        raise InputError(
            f"{path}: line {wrong} has {len(rows[wrong - 2])} entries and the header {len(header)}"
        )
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    return Table(
        path.name,
        {name: np.array(column, dtype=str) for name, column in zip(header, columns, strict=True)},
    )


def known(table: Table, skipped: Skipped, gpu: str = "gpu", form: str | None = "dtype") -> Table:
    """Rows whose accelerator and format the catalog knows; the others are counted."""
    table = _only(
        table,
        gpu,
        "unknown accelerator",
        lambda name: names.accelerator_name(name) is not None,
        skipped,
    )
    if form is not None:
        table = _only(
            table, form, "unknown format", lambda name: names.dtype(name) is not None, skipped
        )
    return table


def timed(table: Table, column: str, skipped: Skipped) -> Table:
    """Rows with a positive finite time; the others are counted."""
    times = table.number(column)
    valid = np.isfinite(times) & (times > 0)
    skipped.add(table.file, f"no time in {column}", int(np.sum(~valid)))
    return table.where(valid)


MOST = 1e8
"""No kernel has so many tokens, heads or columns: products of such numbers overflow."""


def sized(table: Table, columns: Sequence[str], skipped: Skipped) -> Table:
    """Rows whose sizes a kernel may have; the others are counted."""
    valid = np.all([np.abs(table.number(column)) < MOST for column in columns], axis=0)
    skipped.add(table.file, "no such sizes", int(np.sum(~valid)))
    return table.where(valid)


def per_name(column: np.ndarray, value: Callable[[str], float | str]) -> np.ndarray:
    """A function of each entry of a column of text, called once for each distinct one."""
    distinct, places = np.unique(column, return_inverse=True)
    values = [value(str(name)) for name in distinct]
    return np.array(values, dtype=None if values else float)[places]


def _only(
    table: Table, column: str, reason: str, accept: Callable[[str], bool], skipped: Skipped
) -> Table:
    keep = np.ones(len(table), dtype=bool)
    for value, rows in _by_value(table.text(column)):
        if not accept(value):
            keep &= ~rows
            skipped.add(table.file, f"{reason} {value}", int(rows.sum()))
    return table.where(keep)


def _by_value(column: np.ndarray) -> Iterator[tuple[str, Bool[np.ndarray, " rows"]]]:
    for value in np.unique(column):
        yield str(value), column == value
