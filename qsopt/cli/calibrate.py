"""`qsopt calibrate`: fit efficiencies to measured tables, or to kernels run here."""

import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from qsopt.calibration.kinds import DRAWS, MOST_DRAWS
from qsopt.calibration.report import text_row
from qsopt.calibration.run import Outcome, run, run_serving, write, write_serving
from qsopt.calibration.serving.energy import energy_fits
from qsopt.calibration.serving.joules import (
    check_joules,
    joules_errors,
    read_joules,
    tokens_table,
)
from qsopt.calibration.serving.memory import check_memory, memory_errors, save_memory
from qsopt.calibration.serving.power import power_errors, save_power
from qsopt.calibration.serving.spread import spreads
from qsopt.calibration.tables.aiconfigurator import Choice
from qsopt.calibration.tables.folder import Folder, read_folder
from qsopt.calibration.tables.memory import read_memory
from qsopt.errors import InputError, check_count
from qsopt.files import check_folder, replacement
from qsopt.fitted.errors import Errors
from qsopt.fitted.groups import load_calibration, shipped
from qsopt.fitted.memory import memory_fit
from qsopt.fitted.server import server_fit
from qsopt.fitted.spread import add_spreads
from qsopt.report.records import answer_json
from qsopt.report.text import show_rows

_HEADINGS = {
    "quantity": "median / P90 [%]",
    "n": "rows",
    "fitted": "fitted data",
    "other_shapes": "other shapes and models",
    "other_accelerators": "other accelerators",
    "other_generations": "other generations",
}

_SERVER_HEADINGS = {
    "of": "errors of",
    "rows_seen_by": "rows",
    "n": "n",
    "median": "median",
    "p90": "P90",
    "bias": "bias",
}


MOST_SHAPES = 1_000_000
"""No table of the package has as many."""


@dataclass(frozen=True)
class Calibrate:
    """Fit efficiencies to the tables of the package aiconfigurator-core, to a folder of measured
    tables, or with --device to kernels run here, and print the errors. Measured power of servers
    and their start-up logs give the constants of power, energy and memory, also in a folder without
    operators.
    """

    data: Path | None = None
    """Folder with CSV tables of operators; the tables of the installed package aiconfigurator-core
    if left out.
    """
    accelerators: str = ""
    """Accelerators of the package to use, such as h100,h200; all if left out."""
    backends: str = ""
    """Backends of the package to use, of trtllm, vllm and sglang; all if left out."""
    releases: str = ""
    """Releases of backends to use, such as 1.3.0rc20,0.24.0, instead of the newest."""
    shapes: int = Choice.shapes
    """Shapes of the package's large tables to sample for each accelerator, backend and format."""
    device: bool = False
    """Run JAX kernels on whatever JAX sees, instead of reading a folder."""
    only: Literal["serving"] | None = None
    """Fit what serving adds to a step alone, with operators as they are."""
    groups: Path | None = None
    """With --only serving: file of fitted operators, as `qsopt calibrate` writes; the shipped one
    if left out.
    """
    out: Path = Path("calibration")
    """Folder for what is written: TOML files of groups, serving and a set, or with --device its
    JSON and plot.
    """
    source: str = ""
    """Where the data come from, for the record."""
    draws: int = DRAWS
    """Bootstrap draws for the intervals of the parameters."""
    json: bool = False
    """Print JSON and nothing else to stdout."""

    def run(self) -> None:
        """Fit, write and print.

        Raises:
            InputError: if both --data and --device are given, --groups without --only serving, or
                there are no tables.
        """
        if self.groups is not None and self.only is None:
            raise InputError(
                f"groups = {self.groups}: operators are fitted anew; add --only serving to keep "
                "those of the file"
            )
        if self.device and self.data is not None:
            raise InputError(
                "calibrate takes --data DIR (measured tables) or --device (kernels run here), not "
                "both"
            )
        check_folder(self.out)
        check_count("draws", self.draws, 0, MOST_DRAWS, ", as all are fitted together in memory")
        check_count("shapes", self.shapes, 1, MOST_SHAPES)
        if self.device:
            from qsopt.calibration.device.measure import run_device  # noqa: PLC0415  (runs kernels)

            record = run_device(self.out)
            print(answer_json(record)) if self.json else _show_device(record, self.out)
        else:
            self._fit()

    def _fit(self) -> None:
        choice = Choice(
            _names(self.accelerators), _names(self.backends), _names(self.releases), self.shapes
        )
        folder = read_folder(self.data, choice)
        source = self.source or (
            "own measurements" if self.data else "tables of the Python package aiconfigurator-core"
        )
        servers = self._fit_servers(folder, source)
        if self.only == "serving" and (folder.serving or not servers):
            outcome = run_serving(folder, load_calibration(self.groups or shipped()))
            self._show(outcome, folder, [*write_serving(outcome, self.out), *servers])
            return
        if servers and not folder.points:
            self._show_servers(servers, folder)
            return
        outcome = run(
            folder,
            source,
            date.today().isoformat(),
            self.draws,
            progress=lambda text: print(text, file=sys.stderr),
        )
        self._show(outcome, folder, [*write(outcome, self.out), *servers])

    def _show(self, outcome: Outcome, folder: Folder, files: list[Path]) -> None:
        """The errors, what was not used, and the files that were written."""
        written = [str(path) for path in files]
        if self.json:
            records = [
                {
                    name: value._asdict() if isinstance(value, Errors) else value
                    for name, value in row.items()
                    if name != "target"
                }
                for row in outcome.rows()
            ]
            print(
                answer_json(
                    {"rows": records, "skipped": folder.skipped.records(), "written": written}
                )
            )
            return
        show_rows([text_row(row) for row in outcome.rows()], _HEADINGS)
        show_rows(folder.skipped.records(), {"file": "file", "reason": "not used", "rows": "rows"})
        print(f"written: {', '.join(written)}")

    def _fit_servers(self, folder: Folder, source: str) -> dict[Path, list[dict[str, Any]]]:
        """The power law and the memory of servers, with the efficiencies that ship: files and the
        errors in them.
        """
        written: dict[Path, list[dict[str, Any]]] = {}
        if folder.power:
            path, table = self.out / "power.toml", folder.power[0]
            calibration = load_calibration(self.groups or shipped())
            rows = read_joules(table, calibration, folder.skipped)
            tokens = check_joules(rows)
            fits = energy_fits(table, calibration, server_fit(), rows.power)
            with replacement(path) as whole:
                save_power(rows.power, source, whole, tokens_table(tokens))
                add_spreads(spreads(fits, {}), whole)
            written[path] = [*power_errors(path), *joules_errors(tokens)]
        if folder.memory:
            path = self.out / "memory.toml"
            fit, _ = check_memory(read_memory(folder.memory[0], memory_fit(), folder.skipped))
            save_memory(fit, source, date.today().isoformat(), path)
            written[path] = memory_errors(fit)
        return written

    def _show_servers(self, servers: dict[Path, list[dict[str, Any]]], folder: Folder) -> None:
        records = [record for found in servers.values() for record in found]
        written = [str(path) for path in servers]
        if self.json:
            skipped = folder.skipped.records()
            print(answer_json({"rows": records, "skipped": skipped, "written": written}))
            return
        show_rows(records, _SERVER_HEADINGS)
        show_rows(folder.skipped.records(), {"file": "file", "reason": "not used", "rows": "rows"})
        print(f"written: {', '.join(written)}")


def _show_device(record: dict[str, Any], out: Path) -> None:
    rows = [
        {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in row.items()}
        for row in record["fragmentation"]
    ]
    show_rows(
        rows,
        {
            "kernel": "MoE kernel",
            "batch": "batch",
            "measured": "MoE/dense measured",
            "predicted": "predicted",
        },
    )
    left = record["errors"]
    print(
        f"{record['device']}: {left['n']} kernels, median error {100 * left['median']:.0f} %, P90 "
        f"{100 * left['p90']:.0f} %"
    )
    print(f"written: {out / 'device.json'}, {out / 'device.png'}")


def _names(text: str) -> tuple[str, ...]:
    """Names between commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
