"""A whole calibration of a folder: operators, serving, and what is written of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from qsopt.calibration.held_out import Checked
from qsopt.calibration.kinds import calibrate
from qsopt.calibration.points import Points
from qsopt.calibration.report import COLUMNS, TPOT_TARGET, error_rows
from qsopt.calibration.serving.host import check_host, ordering, save_host
from qsopt.calibration.serving.runs import Host, Runs, read_runs
from qsopt.calibration.tables.folder import Folder
from qsopt.catalog.efficiencies import efficiency_set
from qsopt.fitted import sets
from qsopt.fitted.errors import Column, Errors, errors
from qsopt.fitted.groups import Store, save_store

_REST = """# NCCL between nodes: two-node dispatch of small messages takes 23-27 us; 5 us for a hop
# between racks
[scale_out]
bandwidth = 0.75
collective_us = 15.0
step_us = 5.0
ramp = 0.0

[routing]
straggler = 1.0
# hits 0.83-0.95 of the experts that uniform routing hits (power law of exponent 1.01, CNN/DailyMail
# and OpenOrca)
popularity_cv2 = 0.4
# DeepSeek-V3 with static expert balancing: max/mean 1.115 over 36 ranks (unbalanced: 2.56 over 32)
imbalance_cv2 = 0.02

[memory]
workspace = 2.0           # input and output of the largest activation
reserve_GiB = 3.5         # runtime, graphs and communication buffers, as aiconfigurator reserves
"""
"""What no table of operators tells, each with its source."""


@dataclass(frozen=True)
class Outcome:
    """A calibration."""

    store: Store
    """Fitted groups."""
    points: Points
    found: dict[str, Checked]
    serving: tuple[Runs, Host, dict[str, Column]] | None
    """End-to-end results, constants, and times by who saw what; None without such results."""

    def rows(self) -> list[dict[str, Any]]:
        """Errors of every quantity beside its target."""
        rows = list(error_rows(self.points, self.found))
        if self.serving is not None:
            found = self.serving_errors()
            rows.append(
                {
                    "quantity": "end-to-end TPOT",
                    "n": found["fitted"].n,
                    "target": TPOT_TARGET,
                    **found,
                }
            )
            rates = self.rate_errors()
            rows.append(
                {
                    "quantity": "end-to-end tokens/s/device",
                    "n": rates["fitted"].n,
                    "target": None,
                    **rates,
                }
            )
        return rows

    def serving_errors(self) -> dict[str, Errors]:
        """Errors of the time per output token."""
        runs, _, times = self.serving  # pyright: ignore[reportGeneralTypeIssues]
        return {name: errors(times[name], runs.tpot) for name in COLUMNS}

    def rate_errors(self) -> dict[str, Errors]:
        """Errors of the tokens per second and device."""
        runs, _, times = self.serving  # pyright: ignore[reportGeneralTypeIssues]
        told = np.isfinite(runs.throughput)
        rates = {name: runs.sequences / (times[name] + runs.reading) for name in COLUMNS}
        return {name: errors(rate[told], runs.throughput[told]) for name, rate in rates.items()}

    def ranked(self) -> tuple[int, int]:
        """Pairs of configurations of one model and accelerator ranked right, by constants that did
        not see the model.
        """
        runs, _, times = self.serving  # pyright: ignore[reportGeneralTypeIssues]
        return ordering(runs, times["other_shapes"])


def run(
    folder: Folder, source: str, day: str, draws: int, say: Callable[[str], None] = lambda _: None
) -> Outcome:
    """Fit everything that a folder holds.

    Args:
        folder: tables.
        source: where they come from.
        day: date, as YYYY-MM-DD.
        draws: bootstrap draws for the intervals.
        say: is told what comes next, as it takes minutes.
    """
    points = folder.operators()
    groups, found = calibrate(points, draws=draws, say=say)
    store = Store(source, day[:7].replace("-", "."), day, tuple(groups))
    if folder.serving:
        say(f"fitting serving: {sum(map(len, folder.serving)):,} rows")
    return Outcome(store, points, found, _serving(folder, store))


def _serving(folder: Folder, store: Store) -> tuple[Runs, Host, dict[str, Column]] | None:
    runs = [read_runs(table, store, folder.skipped) for table in folder.serving[:1]]
    for table in folder.serving[1:]:
        folder.skipped.add(table.file, "a second table of end-to-end results", len(table))
    if not runs or not len(runs[0].tpot):
        return None
    host, times = check_host(runs[0])
    return runs[0], jax.tree.map(np.asarray, host), times


def write(outcome: Outcome, out: Path) -> list[Path]:
    """Write what can ship: groups, serving constants, and a set for the decode model pooled over
    accelerators.

    Returns:
        The files.
    """
    store = outcome.store
    files = {name: out / f"{name}.toml" for name in ("operators", "serving", "fitted")}
    save_store(store, files["operators"])
    write_set(store, files["fitted"])
    if outcome.serving is None:
        del files["serving"]
    else:
        runs, host, _ = outcome.serving
        save_host(host, runs.backends, outcome.serving_errors(), files["serving"])
    return list(files.values())


def write_set(store: Store, path: Path) -> None:
    """Write the set for the decode model that is pooled over accelerators; kinds without rows are
    those of the shipped set.
    """
    head = [
        "# Achieved shares of datasheet peaks, pooled over accelerators. Written by `qsopt "
        "calibrate`.",
        'name = "fitted"',
        f'version = "{store.version}"',
        f"date = {store.date}",
        f'source = "{store.source}"',
        f'note = "{sum(group.fitted.n for group in store.groups)} rows; of each kind and format '
        f"the software whose values "
        "carry over best to other accelerators; no AMD, TPU, Gaudi or Trainium data; errors in "
        'groups/operators.toml"',
    ]
    sets.save_set(
        sets.efficiency(store, None, None, efficiency_set("fitted")), "\n".join(head), _REST, path
    )
