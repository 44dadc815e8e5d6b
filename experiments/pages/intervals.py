"""Do the intervals hold that are printed beside predictions of servers?

`python -m experiments.pages.intervals [DATA] [POWER]` fits the constants of serving to the
end-to-end results of DATA (that of QSOPT_MEASURED if left out) with the shipped operators, and the
errors of energy to the measured power of POWER if it is given, writes both into
configs/efficiency/groups, and docs/intervals.md. `qsopt calibrate --only serving` fits the same.
"""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from qsopt.cli import runtime

runtime.configure(quick=False)

from experiments.pages.template import render  # noqa: E402
from qsopt.calibration.run import run_serving, write_serving  # noqa: E402
from qsopt.calibration.serving.energy import energy_fits  # noqa: E402
from qsopt.calibration.serving.power import read_power  # noqa: E402
from qsopt.calibration.serving.spread import coverage, spreads  # noqa: E402
from qsopt.calibration.tables.folder import read_folder  # noqa: E402
from qsopt.fitted.groups import load_calibration, shipped  # noqa: E402
from qsopt.fitted.server import load_server_fit  # noqa: E402
from qsopt.fitted.spread import SEEN, Spreads, add_spreads, load_spreads  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "intervals.md"
NAMES = {
    "tpot": "time per output token",
    "throughput": "tokens/s/device",
    "ttft": "time to first token",
    "joules_per_token": "joules per output token",
}


def served(data: Path) -> list[dict[str, Any]]:
    """Fit and write the constants of serving; their coverage."""
    outcome = run_serving(read_folder(data), load_calibration(shipped()))
    write_serving(outcome, shipped().parent)
    return [] if outcome.spread is None else coverage(outcome.spread)


def energy(data: Path) -> list[dict[str, Any]]:
    """Fit and write the errors of energy; their coverage."""
    folder, calibration = read_folder(data), load_calibration(shipped())
    table = folder.power[0]
    rows = read_power(table, calibration, folder.skipped)
    fits = energy_fits(table, calibration, load_server_fit(shipped("serving")), rows)
    add_spreads(spreads(fits, {}), shipped("power"))
    return coverage(fits)


def widths(spreads: Spreads) -> list[dict[str, Any]]:
    """The widest cells: factors of the 80 % interval about the prediction."""
    return [
        {"quantity": NAMES[quantity], "seen": seen, "cell": key, "rows": cell.rows}
        | {"factors": np.exp(cell.quantiles)}
        for quantity, columns in spreads.cells.items()
        for seen in SEEN
        for key, cell in columns.get(seen, {}).items()
        if "," not in key
    ]


def page(records: list[dict[str, Any]]) -> str:
    """docs/intervals.md."""
    spreads = [load_spreads(shipped(name)) for name in ("serving", "power")]
    known = [one for one in spreads if one is not None]
    named = [{**record, "quantity": NAMES[record["quantity"]]} for record in records]
    ratio = [
        {"source": source, **vars(one), "factor": np.exp(one.lean)}
        for source, one in known[0].ratio.items()
    ]
    rows = [row for one in known for row in widths(one)]
    return render("intervals.md", coverage=named, ratio=ratio, widths=rows)


def main() -> None:
    data = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("QSOPT_MEASURED", ""))
    records = served(data)
    if len(sys.argv) > 2:
        records += energy(Path(sys.argv[2]))
    PAGE.write_text(page(records))


if __name__ == "__main__":
    main()
