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
    wide_expert_parallel,
)
from qsopt.calibration.tables.aiconfigurator import Choice
from qsopt.calibration.tables.columns import Skipped, Table, read_table
from qsopt.errors import InputError

Reader = Callable[[Table, Skipped], Points]

_MOE = {
    "hidden",
    "inter",
    "topk",
    "num_experts",
    "moe_tp",
    "moe_ep",
    "distribution",
    "num_tokens",
    "latency_ms",
}

_READERS: tuple[tuple[frozenset[str], Reader], ...] = (
    (frozenset({*_MOE, "num_slots"}), wide_expert_parallel.wide),
    (frozenset({"uniq_local", "rows_local", "latency_ms"}), operators.moe),
    (frozenset({"m", "n", "k", "latency_ms"}), operators.gemm),
    (frozenset({"heads", "kv_heads", "head_dim", "isl", "latency_ms"}), prompts.attention),
    (frozenset({"heads", "attention_dtype", "isl", "latency_ms"}), prompts.mla),
    (frozenset({"heads", "kv_heads", "head_dim", "seq", "latency_ms"}), operators.attention),
    (frozenset({"heads", "kv_dtype", "seq", "latency_ms"}), operators.mla),
    (frozenset({"message_bytes", "num_gpus", "op", "latency_ms"}), links.collective),
    (frozenset({"tokens_per_rank", "ep_size", "phase", "latency_us"}), links.exchange),
)
"""The first reader whose columns a file has reads it."""

SERVING = frozenset({"tpot_ms", "concurrency", "isl", "osl"})
"""Columns of end-to-end results."""

PUBLISHED = frozenset({"metric", "value", "isl", "osl"})
"""Columns of published throughputs."""


POWER = frozenset({"power_w", "out_tok_s", "n_gpus", "isl_guess", "osl", "batch"})
"""Columns of the measured power of servers."""


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
    skipped, points, serving, published, power = Skipped(), [], [], [], []
    for table in _tables(
        aiconfigurator.installed() if path is None else path, choice or Choice(), skipped
    ):
        columns = set(table.columns)
        reader = next((reader for needs, reader in _READERS if needs <= columns), None)
        if reader is not None:
            points += _points(reader, table, skipped)
        elif columns >= SERVING:
            serving.append(table)
        elif columns >= PUBLISHED:
            published.append(table)
        elif columns >= POWER:
            power.append(table)
        else:
            skipped.add(table.file, "no reader for these columns", len(table))
    return Folder(tuple(points), tuple(serving), tuple(published), skipped, tuple(power))


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
