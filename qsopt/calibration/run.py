"""A whole calibration of a folder: operators, serving, and what is written of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from qsopt.calibration.held_out import CrossValidation
from qsopt.calibration.kinds import calibrate
from qsopt.calibration.points import Points
from qsopt.calibration.report import COLUMNS, TPOT_TARGET, TTFT_TARGET, error_rows
from qsopt.calibration.serving.host import check_host, ordering, save_host
from qsopt.calibration.serving.runs import Host, Runs, read_runs
from qsopt.calibration.serving.served_fits import ServedFits, fit_spreads, read_evidence
from qsopt.calibration.tables.folder import Folder
from qsopt.catalog.efficiencies import KERNELS, efficiency_set
from qsopt.errors import InputError
from qsopt.files import replacement
from qsopt.fitted import sets
from qsopt.fitted.errors import Column, Errors, errors
from qsopt.fitted.groups import Calibration, save_calibration
from qsopt.fitted.spread import add_spreads


class Served(NamedTuple):
    """End-to-end results, constants, and times by who saw what."""

    runs: Runs
    host: Host
    times: dict[str, Column]
    """Per output token [s]."""
    first: dict[str, Column]
    """To the first token [s]."""


@dataclass(frozen=True)
class Outcome:
    """What a calibration gives."""

    calibration: Calibration
    """Fitted groups."""
    points: dict[str, Points]
    """What was fitted, by kind."""
    predictions: dict[str, CrossValidation]
    """By kind."""
    serving: Served | None
    """None without end-to-end results."""
    spread: ServedFits | None = None
    """Fits that say how far end-to-end predictions are off; None without such results."""

    def rows(self) -> list[dict[str, Any]]:
        """Errors of every quantity beside its target."""
        rows = list(error_rows(self.points, self.predictions))
        if self.serving is not None:
            for quantity, target, left in (
                ("end-to-end TPOT", TPOT_TARGET, self.serving_errors()),
                ("end-to-end TTFT", TTFT_TARGET, self.first_token_errors()),
                ("end-to-end tokens/s/device", None, self.rate_errors()),
            ):
                rows.append({"quantity": quantity, "n": left["fitted"].n, "target": target, **left})
        return rows

    def serving_errors(self) -> dict[str, Errors]:
        """Errors of the time per output token."""
        runs, _, times, _ = self.serving  # pyright: ignore[reportGeneralTypeIssues]
        return {name: errors(times[name], runs.tpot) for name in COLUMNS}

    def first_token_errors(self) -> dict[str, Errors]:
        """Errors of the time to first token."""
        runs, _, _, first = self.serving  # pyright: ignore[reportGeneralTypeIssues]
        known = np.isfinite(runs.ttft)
        return {name: errors(first[name][known], runs.ttft[known]) for name in COLUMNS}

    def errors_left(self) -> dict[str, Errors]:
        """Errors of both times as the file of the constants has them."""
        first = {f"ttft_{name}": left for name, left in self.first_token_errors().items()}
        return {**self.serving_errors(), **first}

    def rate_errors(self) -> dict[str, Errors]:
        """Errors of the tokens per second and device."""
        runs, _, times, first = self.serving  # pyright: ignore[reportGeneralTypeIssues]
        known = np.isfinite(runs.throughput)
        rates = {
            name: runs.sequences / (times[name] + first[name] / runs.answer) for name in COLUMNS
        }
        return {name: errors(rate[known], runs.throughput[known]) for name, rate in rates.items()}

    def ranked(self) -> tuple[int, int]:
        """Pairs of configurations of one model and accelerator ranked right, by constants that did
        not see the model.
        """
        runs, _, times, _ = self.serving  # pyright: ignore[reportGeneralTypeIssues]
        return ordering(runs, times["other_shapes"])


def run(
    folder: Folder,
    source: str,
    day: str,
    draws: int,
    progress: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Fit everything that a folder holds.

    Args:
        folder: tables.
        source: where they come from.
        day: date, as YYYY-MM-DD.
        draws: bootstrap draws for the intervals.
        progress: gets a line of text before each fit, as it takes minutes.
    """
    points = folder.by_kind()
    groups, predictions = calibrate(points, draws=draws, progress=progress)
    calibration = Calibration(source, day[:7].replace("-", "."), day, tuple(groups))
    if folder.serving:
        progress(f"fitting serving: {sum(map(len, folder.serving)):,} rows")
    return _outcome(calibration, points, predictions, folder)


def _outcome(
    calibration: Calibration,
    points: dict[str, Points],
    predictions: dict[str, CrossValidation],
    folder: Folder,
) -> Outcome:
    """With what serving adds, and how far it is off."""
    serving = _serving(folder, calibration)
    if serving is None:
        return Outcome(calibration, points, predictions, None)
    evidence = read_evidence(folder.serving[0], calibration, serving[0])
    return Outcome(calibration, points, predictions, serving, ServedFits(evidence))


def run_serving(folder: Folder, calibration: Calibration) -> Outcome:
    """Fit what serving adds alone, to the end-to-end results of a folder.

    Args:
        folder: tables.
        calibration: groups of operators as they were fitted before.

    Raises:
        InputError: if the folder has no end-to-end results that can be used.
    """
    outcome = _outcome(calibration, {}, {}, folder)
    if outcome.serving is None:
        raise InputError(
            "only = serving: the folder has no end-to-end results that can be used; give one with "
            "a table of end-to-end results (`qsopt validate --template` lists its columns)"
        )
    return outcome


def _serving(folder: Folder, calibration: Calibration) -> Served | None:
    runs = [read_runs(table, calibration, folder.skipped) for table in folder.serving[:1]]
    for table in folder.serving[1:]:
        folder.skipped.add(table.file, "a second table of end-to-end results", len(table))
    if not runs or not len(runs[0].tpot):
        return None
    host, times, first = check_host(runs[0])
    return Served(runs[0], jax.tree.map(np.asarray, host), times, first)


def write(outcome: Outcome, out: Path) -> list[Path]:
    """Write what can ship: groups, serving constants, and a set pooled over accelerators.

    Returns:
        The files.

    Raises:
        InputError: if a file cannot be written.
    """
    operators, kernels = out / "operators.toml", out / f"{KERNELS}.toml"
    save_calibration(outcome.calibration, operators)
    write_set(outcome.calibration, kernels)
    return [operators, *write_serving(outcome, out), kernels]


def write_serving(outcome: Outcome, out: Path) -> list[Path]:
    """Write the constants of serving, if there are any.

    Returns:
        The files.

    Raises:
        InputError: if a file cannot be written.
    """
    if outcome.serving is None:
        return []
    path = out / "serving.toml"
    runs, host, _, _ = outcome.serving
    spreads = None if outcome.spread is None else fit_spreads(outcome.spread)
    with replacement(path) as whole:
        save_host(host, runs.backends, outcome.errors_left(), whole)
        if spreads is not None:
            add_spreads(spreads, whole)
    return [path]


def write_set(calibration: Calibration, path: Path) -> None:
    """Write the set that is pooled over accelerators; kinds without rows are those of the shipped
    set.

    Raises:
        InputError: if it cannot be written.
    """
    rows = sum(group.fitted.n for group in calibration.groups)
    about = {
        "name": KERNELS,
        "version": calibration.version,
        "date": calibration.date,
        "source": calibration.source,
        "note": f"{rows} rows; of each kind and format the software whose values carry over best "
        "to other accelerators; no AMD, TPU, Gaudi or Trainium data; errors in "
        "groups/operators.toml",
    }
    pooled = sets.efficiency(calibration, None, None, efficiency_set(KERNELS))
    sets.save_set(pooled, about, path)
