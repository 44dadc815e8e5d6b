"""All tables of a folder as points, each file known by its columns, not by its name.

A folder holds CSV files, or is the data folder of the package `aiconfigurator-core`. A file that
cannot be read is counted as skipped with its reason, like rows that cannot be used: one odd file
takes nothing from the others.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from qsopt.calibration.points import Points, joined, unlabelled, where
from qsopt.calibration.tables import (
    aiconfigurator,
    links,
    operators,
    prompts,
    template,
    wide_expert_parallel,
)
from qsopt.calibration.tables.aiconfigurator import Choice
from qsopt.calibration.tables.columns import Skipped, Table, read_table
from qsopt.calibration.tables.template import Schema, schema_of
from qsopt.errors import InputError

Reader = Callable[[Table, Skipped], Points]

_READERS: dict[Schema, Reader] = {
    template.WIDE: wide_expert_parallel.wide,
    template.MOE: operators.moe,
    template.GEMM: operators.gemm,
    template.PROMPT_ATTENTION: prompts.attention,
    template.PROMPT_MLA: prompts.mla,
    template.ATTENTION: operators.attention,
    template.MLA: operators.mla,
    template.COLLECTIVE: links.collective,
    template.EXCHANGE: links.exchange,
}
"""Readers of tables of operators and messages."""

_SERVERS = {
    template.SERVING: "serving",
    template.PUBLISHED: "published",
    template.POWER: "power",
    template.MEMORY: "memory",
}
"""Fields of a `Folder` that hold tables of servers."""


@dataclass(frozen=True)
class Folder:
    """What a folder holds."""

    points: tuple[Points, ...]
    """Operators and messages, one set of points of one kind for each file that has any."""
    serving: tuple[Table, ...]
    """End-to-end results."""
    published: tuple[Table, ...]
    """Published throughputs."""
    skipped: Skipped
    """What could not be used."""
    power: tuple[Table, ...] = ()
    """Measured power of servers."""
    memory: tuple[Table, ...] = ()
    """Memory of servers at their start."""

    def by_kind(self) -> dict[str, Points]:
        """Operators and messages of all files, by kind.

        Raises:
            InputError: if there is none.
        """
        if not self.points:
            raise InputError(
                "the folder has no operator table that can be used; its CSV files need the "
                "documented columns"
            )
        parts: dict[str, list[Any]] = {}
        for points in self.points:
            parts.setdefault(str(points.labels.kind[0]), []).append(points)
        return {kind: joined(part) for kind, part in parts.items()}


def read_folder(path: Path | None, choice: Choice | None = None) -> Folder:
    """Read every table of a folder.

    Args:
        path: a folder with CSV files or with the package's tables; that of the installed package if
            left out.
        choice: what is read of the package's tables.

    Raises:
        InputError: if it is no folder with tables, or the package is wanted and not there.
    """
    skipped, points = Skipped(), []
    tables: dict[str, list[Table]] = {field: [] for field in _SERVERS.values()}
    where = aiconfigurator.installed() if path is None else path
    for table in _tables(where, choice or Choice(), skipped):
        schema = schema_of(table.columns)
        if schema is None:
            skipped.add(table.file, "no reader for these columns", len(table))
        elif missing := schema.missing(table.columns):
            names = ", ".join(f"'{name}'" for name in missing)
            here = ", ".join(table.columns)
            skipped.add(table.file, f"no column {names}; it has {here}", len(table))
        elif schema in _READERS:
            points += _points(_READERS[schema], table, skipped)
        else:
            tables[_SERVERS[schema]].append(table)
    of_servers = {field: tuple(found) for field, found in tables.items()}
    return Folder(points=tuple(points), skipped=skipped, **of_servers)


def _tables(path: Path, choice: Choice, skipped: Skipped) -> Iterator[Table]:
    files = sorted(path.glob("*.csv")) if path.is_dir() else []
    parquet = path.is_dir() and aiconfigurator.holds_tables(path)
    if not files and not parquet:
        raise InputError(
            f"{path}: no folder with CSV files or with tables of aiconfigurator-core; give one "
            f"with --data"
        )
    for file in files:
        try:
            table = read_table(file)
        except InputError as error:
            _leave_out(skipped, file.name, str(error).removeprefix(f"{file}: "))
            continue
        if len(table):
            yield table
        else:
            _leave_out(skipped, file.name, "a header without rows")
    if parquet:
        yield from aiconfigurator.read_tables(path, choice, skipped)


def _leave_out(skipped: Skipped, file: str, reason: str) -> None:
    """A file of which no row is known."""
    skipped.counts[file, reason] += 0


def _points(reader: Reader, table: Table, skipped: Skipped) -> Iterator[Points]:
    """Points of one table if any of its rows can be used."""
    try:
        with np.errstate(divide="ignore", invalid="ignore"):
            points = reader(table, skipped)
    except InputError as error:
        skipped.add(table.file, str(error).removeprefix(f"{table.file}: "), len(table))
        return
    finite = np.all(np.isfinite(jax.tree.leaves(unlabelled(points))), axis=0)
    sound = finite & np.all(np.stack(points.sizes) > 0.0, axis=0)
    skipped.add(table.file, "a size that is missing or not positive", int(np.sum(~sound)))
    if sound.any():
        yield where(points, sound)
