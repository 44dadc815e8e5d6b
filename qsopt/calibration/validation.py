"""Errors of fitted groups on a folder of measurements, without fitting: by file, operator,
accelerator, backend and format.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from qsopt.calibration.form import seconds
from qsopt.calibration.kinds import quantities
from qsopt.calibration.points import Points
from qsopt.calibration.serving.host import load_host
from qsopt.calibration.serving.published import read_published
from qsopt.calibration.serving.runs import Host, Runs, read_runs, throughput, tpot
from qsopt.calibration.tables.columns import Skipped, Table
from qsopt.calibration.tables.folder import Folder
from qsopt.errors import InputError
from qsopt.fitted.errors import Column, Errors, errors
from qsopt.fitted.groups import Store, Values
from qsopt.fitted.parameters import DEFAULTS

_seconds = jax.jit(seconds)

EVERY_FILE = "*"
"""Name of the file in rows that look at all files together."""


def predicted(points: Points, store: Store) -> Column:
    """Time of every row: by its accelerator's own values where there are any, else by the pool of
    its group [s].

    A kind that the store does not have is predicted by the roofline at full peaks.
    """
    labels = points.labels
    keys = np.stack([labels.kind, labels.backend, labels.dtype, labels.gpu], axis=1)
    distinct, places = np.unique(keys, axis=0, return_inverse=True)
    table = [values_of(store, *map(str, key)) for key in distinct]
    columns = {
        name: np.array([row.get(name, default) for row in table])[places]
        for name, default in DEFAULTS.items()
    }
    return np.asarray(_seconds(points.unlabelled, columns))


def values_of(store: Store, kind: str, backend: str, dtype: str, gpu: str) -> Values:
    """Parameters that predict one group of rows."""
    group = store.find(kind, backend, dtype)
    if group is None:
        return {}
    exact = (group.backend, group.dtype) == (backend, dtype)
    return group.own[gpu].values if exact and gpu in group.own else group.pool


def rows(points: Points, times: Column) -> Iterator[dict[str, Any]]:
    """Errors of all rows together, then of every file by each label."""
    for name, chosen in quantities(points):
        yield record(EVERY_FILE, name, errors(times[chosen], points.seconds[chosen]))
    labels = {
        "operator": points.labels.kind,
        "accelerator": points.labels.gpu,
        "backend": points.labels.backend,
    }
    labels["dtype"] = points.labels.dtype
    for file in np.unique(points.labels.file):
        here = points.labels.file == file
        yield record(str(file), "all", errors(times[here], points.seconds[here]))
        for label, column in labels.items():
            for value in np.unique(column[here]):
                chosen = here & (column == value)
                yield record(
                    str(file), f"{label} {value}", errors(times[chosen], points.seconds[chosen])
                )


def serving_rows(
    file: str, runs: Runs, host: Host, rate: str = "end-to-end tokens/s/device"
) -> Iterator[dict[str, Any]]:
    """Errors of end-to-end results: of the time per output token, and of tokens per second and
    device as `rate`.
    """
    numbers = runs.unlabelled
    compared = {
        "end-to-end TPOT": (np.asarray(tpot(numbers, host)), runs.tpot),
        rate: (np.asarray(throughput(numbers, host)), runs.throughput),
    }
    labels = {
        "model": runs.model,
        "accelerator": runs.gpu,
        "backend": np.array(runs.backends)[runs.backend],
    }
    for name, (guess, truth) in compared.items():
        told = np.isfinite(truth)
        if not told.any():
            continue
        yield record(file, name, errors(guess[told], truth[told]))
        for label, column in labels.items():
            for value in np.unique(column[told]):
                chosen = told & (column == value)
                yield record(file, f"{name}, {label} {value}", errors(guess[chosen], truth[chosen]))


def end_to_end_rows(folder: Folder, store: Store, constants: Path) -> Iterator[dict[str, Any]]:
    """Errors of all end-to-end results of a folder; a table that lacks a column is counted as
    skipped.

    Args:
        folder: its tables.
        store: fitted groups.
        constants: file of the constants of serving.
    """
    for table in folder.serving:
        yield from _counted(
            table, folder.skipped, lambda table: _served(table, store, folder.skipped, constants)
        )
    for table in folder.published:
        yield from _counted(
            table, folder.skipped, lambda table: _published(table, store, folder.skipped, constants)
        )


def _served(table: Table, store: Store, skipped: Skipped, constants: Path) -> list[dict[str, Any]]:
    runs = read_runs(table, store, skipped)
    return (
        list(serving_rows(table.file, runs, load_host(constants, runs.backends)))
        if len(runs.step)
        else []
    )


def _published(
    table: Table, store: Store, skipped: Skipped, constants: Path
) -> list[dict[str, Any]]:
    return [
        row
        for rate, runs in read_published(table, store, skipped).items()
        for row in serving_rows(table.file, runs, load_host(constants, runs.backends), rate)
    ]


def _counted(
    table: Table, skipped: Skipped, read: Callable[[Table], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    try:
        return read(table)
    except InputError as error:
        skipped.add(table.file, str(error).removeprefix(f"{table.file}: "), len(table))
        return []


def record(file: str, group: str, found: Errors) -> dict[str, Any]:
    """One row of the report."""
    return {
        "file": file,
        "group": group,
        "n": found.n,
        "median": found.median,
        "p90": found.p90,
        "bias": found.bias,
    }
