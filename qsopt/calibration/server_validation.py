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
from qsopt.calibration.tables.memory import Started, predicted, read_memory
from qsopt.calibration.validation import counted, grouped_rows
from qsopt.fitted.errors import Column
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
        yield from counted(table, folder.skipped, lambda t: _memory(t, fit, folder.skipped))
    for table in folder.power:
        yield from counted(table, folder.skipped, lambda t: _energy(t, calibration, folder.skipped))


def _memory(table: Table, fit: MemoryFit, skipped: Skipped) -> list[dict[str, Any]]:
    started = read_memory(table, fit, skipped)
    labels = {"model": started.model, "accelerator": started.gpu, "engine": started.software}
    weights, room = predicted(started) if len(started.cases) else (started.weights, started.room)
    return [
        *grouped_rows(table.file, WEIGHTS, weights, started.weights, labels),
        *grouped_rows(table.file, ROOM, room, started.room, labels, _inside(fit, started, room)),
    ]


def _inside(fit: MemoryFit, started: Started, room: Column) -> Column:
    """Whether each measured room lies in the 80 % interval of the predicted one, as 1 or 0; NaN
    without one.
    """
    held = np.full(len(room), np.nan)
    for row, (guess, model) in enumerate(zip(room, started.model, strict=True)):
        found = fit.room_interval(float(guess), str(model))
        if found is not None:
            low, high = found["80"]
            held[row] = float(low <= started.room[row] <= high)
    return held


def _energy(table: Table, calibration: Calibration, skipped: Skipped) -> list[dict[str, Any]]:
    rows = read_joules(table, calibration, skipped)
    power, guess = rows.power, predicted_joules(rows, shipped_tokens().law)
    labels = {"model": power.model, "accelerator": power.gpu, "backend": power.backend}
    return list(grouped_rows(table.file, JOULES, guess, rows.joules, labels))
