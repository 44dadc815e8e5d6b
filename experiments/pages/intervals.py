"""Do the intervals hold that are printed beside predictions of servers?

`python -m experiments.pages.intervals [DATA] [SERVERS]` fits the constants of serving to the
end-to-end results of DATA (that of QSOPT_MEASURED if left out) with the shipped operators, and the
errors of energy and the memory of servers to the measured power and the start-up logs of SERVERS if
it is given, writes all into configs/efficiency/groups, and docs/intervals.md. `qsopt calibrate
--only serving` fits the same.
"""

import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from qsopt.cli import runtime
from qsopt.files import write_text

runtime.configure(quick=False)

from experiments.pages.template import render  # noqa: E402
from qsopt.calibration.run import run_serving, write_serving  # noqa: E402
from qsopt.calibration.serving.energy import energy_fits  # noqa: E402
from qsopt.calibration.serving.memory import (  # noqa: E402
    check_memory,
    room_coverage,
    save_memory,
)
from qsopt.calibration.serving.power import read_power  # noqa: E402
from qsopt.calibration.serving.spread import coverage, spreads  # noqa: E402
from qsopt.calibration.tables.folder import read_folder  # noqa: E402
from qsopt.calibration.tables.memory import read_memory  # noqa: E402
from qsopt.fitted.groups import load_calibration, shipped  # noqa: E402
from qsopt.fitted.memory import memory_fit  # noqa: E402
from qsopt.fitted.server import load_server_fit  # noqa: E402
from qsopt.fitted.spread import SEEN, Spreads, add_spreads, load_spreads  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "intervals.md"
NAMES = {
    "tpot": "time per output token",
    "throughput": "tokens/s/device",
    "ttft": "time to first token",
    "joules_per_token": "joules per output token",
    "room": "room for the cache",
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


def room(data: Path) -> list[dict[str, Any]]:
    """Fit and write the constants of memory; their coverage."""
    folder, known = read_folder(data), tomllib.loads(shipped("memory").read_text("utf-8"))
    started = read_memory(folder.memory[0], memory_fit(), folder.skipped)
    fit, columns = check_memory(started)
    save_memory(fit, known["source"], str(known["date"]), shipped("memory"))
    left = {"quantity": "room", "left_out": "other_shapes", "source": "software"}
    return [left | room_coverage(columns["other_models"], started)]


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
        records += [*energy(Path(sys.argv[2])), *room(Path(sys.argv[2]))]
    write_text(PAGE, page(records))


if __name__ == "__main__":
    main()
