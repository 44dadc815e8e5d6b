"""Errors of fitted groups on a folder of measurements, without fitting: by file, operator,
accelerator, backend and format.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from qsopt.calibration.coverage import inside, places
from qsopt.calibration.form import seconds
from qsopt.calibration.points import Points, unlabelled
from qsopt.calibration.quantities import quantities
from qsopt.calibration.serving.host import load_host
from qsopt.calibration.serving.published import read_published
from qsopt.calibration.serving.runs import Host, Runs, read_runs, throughput, tpot, ttft
from qsopt.calibration.tables.columns import Skipped, Table
from qsopt.calibration.tables.folder import Folder
from qsopt.errors import InputError
from qsopt.fitted.errors import Column, Errors, errors
from qsopt.fitted.groups import Calibration, Values
from qsopt.fitted.parameters import DEFAULTS
from qsopt.fitted.spread import Spreads, load_spreads

_seconds = jax.jit(seconds)

EVERY_FILE = "*"
"""Name of the file in rows that look at all files together."""


def predicted(points: Points, calibration: Calibration) -> Column:
    """Time of every row: by its accelerator's own values where there are any, else by those of its
    generation, else by the pool of its group [s].

    A kind that the calibration does not have is predicted by the roofline at full peaks.
    """
    labels = points.labels
    keys = np.stack([labels.kind, labels.backend, labels.dtype, labels.gpu], axis=1)
    distinct, places = np.unique(keys, axis=0, return_inverse=True)
    table = [values_of(calibration, *map(str, key)) for key in distinct]
    columns = {
        name: np.array([row.get(name, default) for row in table])[places]
        for name, default in DEFAULTS.items()
    }
    return np.asarray(_seconds(unlabelled(points), columns))


def values_of(calibration: Calibration, kind: str, backend: str, dtype: str, gpu: str) -> Values:
    """Parameters that predict one group of rows."""
    group = calibration.nearest(kind, backend, dtype)
    return {} if group is None else group.values(gpu)


def rows(points: Mapping[str, Points], calibration: Calibration) -> Iterator[dict[str, Any]]:
    """Errors of every quantity over all files, then of every file by each label.

    Args:
        points: by kind.
        calibration: fitted groups.
    """
    times = {kind: predicted(one, calibration) for kind, one in points.items()}
    for quantity, chosen in quantities(points):
        measured = points[quantity.kind].seconds[chosen]
        yield record(EVERY_FILE, quantity.name, errors(times[quantity.kind][chosen], measured))
    files = sorted(
        (str(file), kind) for kind, one in points.items() for file in np.unique(one.labels.file)
    )
    for file, kind in files:
        yield from _file_rows(file, points[kind], times[kind])


def _file_rows(file: str, points: Points, times: Column) -> Iterator[dict[str, Any]]:
    here = points.labels.file == file
    yield record(file, "all", errors(times[here], points.seconds[here]))
    labels = {
        "operator": points.labels.kind,
        "accelerator": points.labels.gpu,
        "backend": points.labels.backend,
        "dtype": points.labels.dtype,
    }
    for label, column in labels.items():
        for value in np.unique(column[here]):
            chosen = here & (column == value)
            yield record(file, f"{label} {value}", errors(times[chosen], points.seconds[chosen]))


def serving_rows(
    file: str,
    runs: Runs,
    host: Host,
    spreads: Spreads | None = None,
    rate: str = "end-to-end tokens/s/device",
) -> Iterator[dict[str, Any]]:
    """Errors of end-to-end results: of the times per output token and to the first token, and of
    tokens per second and device as `rate`; with the share of rows inside their 80 % interval where
    `spreads` has one.
    """
    numbers = runs.unlabelled
    compared = {
        "end-to-end TPOT": ("tpot", np.asarray(tpot(numbers, host)), runs.tpot),
        "end-to-end TTFT": ("ttft", np.asarray(ttft(numbers, host)), runs.ttft),
        rate: ("throughput", np.asarray(throughput(numbers, host)), runs.throughput),
    }
    labels = {
        "model": runs.model,
        "accelerator": runs.gpu,
        "backend": runs.software,
        "concurrency": concurrency_class(runs.concurrency),
    }
    for name, (quantity, guess, truth) in compared.items():
        held = None
        if spreads is not None:
            where = (runs.model, runs.gpu, places(runs))
            held = inside(spreads, quantity, np.log(truth / guess), *where)
        yield from grouped_rows(file, name, guess, truth, labels, held)


def grouped_rows(
    file: str,
    name: str,
    guess: Column,
    truth: Column,
    labels: Mapping[str, np.ndarray],
    held: Column | None = None,
) -> Iterator[dict[str, Any]]:
    """Errors of the rows of a table that were measured: of all of them, then by each label.

    Args:
        file: of the table.
        name: what was predicted.
        guess: predictions.
        truth: measurements; NaN or 0 where there is none.
        labels: columns to group by; rows without a label are in none of its groups.
        held: whether each row lies inside its 80 % interval, as 1 or 0; NaN without one.
    """
    known = np.isfinite(truth) & (truth > 0.0)
    if not known.any():
        return
    groups = {name: known} | {
        f"{name}, {label} {value}": known & (column == value)
        for label, column in labels.items()
        for value in np.unique(column[known & (column != "")])
    }
    for group, chosen in groups.items():
        row = record(file, group, errors(guess[chosen], truth[chosen]))
        yield row if held is None else row | covered(held[chosen])


def covered(held: Column) -> dict[str, float]:
    """Share of the rows with an 80 % interval that lie inside it; nothing without such rows."""
    known = np.isfinite(held)
    return {"coverage80": float(held[known].mean())} if known.any() else {}


CLASSES = (8, 32, 128)
"""Last concurrencies of the classes that errors are told by."""


def concurrency_class(concurrency: Column) -> np.ndarray:
    """The class of each number of requests that are kept up, such as `1-8`, in words."""
    firsts = (1, *(last + 1 for last in CLASSES))
    words = [f"{first}-{last}" for first, last in zip(firsts, CLASSES, strict=False)]
    known = np.array([*words, f"{firsts[-1]} and more", "not stated"])
    place = np.searchsorted(CLASSES, np.nan_to_num(concurrency))
    return known[np.where(np.isfinite(concurrency), place, len(known) - 1)]


def end_to_end_rows(
    folder: Folder, calibration: Calibration, constants: Path
) -> Iterator[dict[str, Any]]:
    """Errors of all end-to-end results of a folder; a table that lacks a column is counted as
    skipped.

    Args:
        folder: its tables.
        calibration: fitted groups.
        constants: file of the constants of serving.
    """
    for table in folder.serving:
        yield from counted(
            table,
            folder.skipped,
            lambda table: _served(table, calibration, folder.skipped, constants),
        )
    for table in folder.published:
        yield from counted(
            table,
            folder.skipped,
            lambda table: _published(table, calibration, folder.skipped, constants),
        )


def _served(
    table: Table, calibration: Calibration, skipped: Skipped, constants: Path
) -> list[dict[str, Any]]:
    runs = read_runs(table, calibration, skipped)
    if not len(runs.step):
        return []
    host = load_host(constants, runs.backends)
    return list(serving_rows(table.file, runs, host, load_spreads(constants)))


def _published(
    table: Table, calibration: Calibration, skipped: Skipped, constants: Path
) -> list[dict[str, Any]]:
    return [
        row
        for rate, runs in read_published(table, calibration, skipped).items()
        for row in serving_rows(
            table.file, runs, load_host(constants, runs.backends), load_spreads(constants), rate
        )
    ]


def counted(
    table: Table, skipped: Skipped, read: Callable[[Table], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """What is read of a table; one that lacks a column is counted as skipped, with nothing."""
    try:
        return read(table)
    except InputError as error:
        skipped.add(table.file, str(error).removeprefix(f"{table.file}: "), len(table))
        return []


def record(file: str, group: str, left: Errors) -> dict[str, Any]:
    """One row of the report."""
    return {"file": file, "group": group, **left._asdict()}
