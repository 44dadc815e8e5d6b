"""`qsopt validate`: errors of fitted efficiencies on a folder of measurements."""

from dataclasses import dataclass
from pathlib import Path

from qsopt.calibration.server_validation import server_rows
from qsopt.calibration.tables.folder import read_folder
from qsopt.calibration.tables.template import template
from qsopt.calibration.validation import end_to_end_rows, rows
from qsopt.errors import InputError
from qsopt.fitted.groups import load_calibration, shipped
from qsopt.report.records import answer_json
from qsopt.report.text import show_rows

_COLUMNS = {
    "file": "file",
    "group": "group",
    "n": "n",
    "median": "median [%]",
    "p90": "P90 [%]",
    "bias": "bias [%]",
    "coverage80": "in 80 % interval [%]",
}


@dataclass(frozen=True)
class Validate:
    """Errors of the fitted efficiencies on a folder of measured tables. Nothing is fitted."""

    data: Path | None = None
    """Folder with CSV tables of operators, of end-to-end results, or of servers' memory and power,
    or the data folder of aiconfigurator-core.
    """
    groups: Path | None = None
    """File of fitted groups, as `qsopt calibrate` writes; the shipped one if left out."""
    template: bool = False
    """Print what every file that can be read must and may hold, and nothing else."""
    json: bool = False
    """Print JSON and nothing else to stdout."""

    def run(self) -> None:
        """Read, predict and print.

        Raises:
            InputError: if it is no folder with tables, or none is given.
        """
        if self.template:
            print(template())
            return
        if self.data is None:
            raise InputError(
                "give --data DIR, a folder with CSV tables; --template prints what they may hold"
            )
        folder = read_folder(self.data)
        calibration = load_calibration(self.groups or shipped())
        records = list(rows(folder.by_kind(), calibration)) if folder.points else []
        records += end_to_end_rows(folder, calibration, shipped("serving"))
        records += server_rows(folder, calibration)
        if self.json:
            print(answer_json({"rows": records, "skipped": folder.skipped.records()}))
            return
        shares = ("median", "p90", "bias", "coverage80")
        percent = [
            {**dict.fromkeys(_COLUMNS), **row}
            | {name: round(100 * row[name], 1) for name in shares if name in row}
            for row in records
        ]
        show_rows(percent, _COLUMNS)
        show_rows(folder.skipped.records(), {"file": "file", "reason": "not used", "rows": "rows"})
