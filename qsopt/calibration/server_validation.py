"""Errors of what is predicted of servers beside their times: memory at their start, and energy of
their tokens.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from qsopt.calibration.serving.joules import predicted_joules, read_joules
from qsopt.calibration.tables.columns import Skipped, Table
from qsopt.calibration.tables.folder import Folder
from qsopt.calibration.tables.memory import predicted, read_memory
from qsopt.errors import InputError
from qsopt.fitted.errors import Column, errors
from qsopt.fitted.groups import Calibration, shipped
from qsopt.fitted.memory import MemoryFit, load_memory_fit
from qsopt.fitted.power import shipped_tokens

WEIGHTS, ROOM, JOULES = "memory weights", "memory room", "joules per token"
"""Groups of rows."""


def server_rows(
    folder: Folder, calibration: Calibration, constants: Path | None = None
) -> Iterator[dict[str, Any]]:
    """Errors of weights, room for the cache and energy per token in a folder; a table that lacks a
    column is counted as skipped.

    Args:
        folder: its tables.
        calibration: fitted groups.
        constants: file of the constants of memory; the shipped one if left out.
    """
    fit = load_memory_fit(constants or shipped("memory"))
    for table in folder.memory:
        yield from _counted(table, folder.skipped, lambda t: _memory(t, fit, folder.skipped))
    for table in folder.power:
        yield from _counted(
            table, folder.skipped, lambda t: _energy(t, calibration, folder.skipped)
        )


def _memory(table: Table, fit: MemoryFit, skipped: Skipped) -> list[dict[str, Any]]:
    started = read_memory(table, fit, skipped)
    labels = {"model": started.model, "accelerator": started.gpu, "engine": started.software}
    weights, room = predicted(started) if len(started.cases) else (started.weights, started.room)
    return [
        *_by_label(table.file, WEIGHTS, weights, started.weights, labels),
        *_by_label(table.file, ROOM, room, started.room, labels),
    ]


def _energy(table: Table, calibration: Calibration, skipped: Skipped) -> list[dict[str, Any]]:
    rows = read_joules(table, calibration, skipped)
    labels = {"model": rows.power.model, "accelerator": rows.power.gpu, "backend": rows.backend}
    return list(
        _by_label(
            table.file, JOULES, predicted_joules(rows, shipped_tokens().law), rows.joules, labels
        )
    )


def _by_label(
    file: str, name: str, guess: Column, truth: Column, labels: dict[str, np.ndarray]
) -> Iterator[dict[str, Any]]:
    """Errors of the rows that are known, whole and by every label."""
    known = np.isfinite(truth) & (truth > 0.0)
    if not known.any():
        return
    yield _record(file, name, guess, truth, known)
    for label, column in labels.items():
        for value in np.unique(column[known & (column != "")]):
            chosen = known & (column == value)
            yield _record(file, f"{name}, {label} {value}", guess, truth, chosen)


def _record(
    file: str, group: str, guess: Column, truth: Column, chosen: np.ndarray
) -> dict[str, Any]:
    return {"file": file, "group": group, **errors(guess[chosen], truth[chosen])._asdict()}


def _counted(table: Table, skipped: Skipped, read: Any) -> list[dict[str, Any]]:
    try:
        return read(table)
    except InputError as error:
        skipped.add(table.file, str(error).removeprefix(f"{table.file}: "), len(table))
        return []
