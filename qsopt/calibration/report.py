"""The table of errors against targets, as records, and the plot of predicted against measured
times.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qsopt.calibration.held_out import Checked
from qsopt.calibration.kinds import TARGETS, quantities
from qsopt.calibration.points import Points
from qsopt.fitted.errors import errors

COLUMNS = ("fitted", "other_shapes", "other_accelerators")
"""Attributes of `Checked` in the order of the targets."""


TPOT_TARGET = ((14, 42), (17, 45), None)
"""Of the time per output token end to end; errors on other accelerators are reported without a
target.
"""


def error_rows(points: Points, found: Mapping[str, Checked]) -> Iterator[dict[str, Any]]:
    """One record for each quantity: errors by column, and the target where there is one."""
    whole = {name: together(points, found, name) for name in COLUMNS}
    for quantity, chosen in quantities(points):
        known = chosen & np.isfinite(whole["fitted"])
        if known.any():
            columns = {name: errors(whole[name][known], points.seconds[known]) for name in COLUMNS}
            yield {
                "quantity": quantity,
                "n": int(known.sum()),
                "target": TARGETS.get(quantity),
                **columns,
            }


def together(points: Points, found: Mapping[str, Checked], column: str) -> np.ndarray:
    """Predictions of all rows, in the order of the points; NaN for kinds that were not fitted."""
    times = np.full(len(points), np.nan)
    for kind, one in found.items():
        times[points.labels.kind == kind] = getattr(one, column)
    return times


def text_row(row: dict[str, Any]) -> dict[str, str]:
    """A record for people: `reached (target)` in percent."""
    cells = {"quantity": row["quantity"], "n": f"{row['n']:,}"}
    for place, name in enumerate(COLUMNS):
        found, target = row[name], row.get("target")
        aim = (
            f" (target {target[place][0]} / {target[place][1]})" if target and target[place] else ""
        )
        cells[name] = (
            f"{100 * found.median:.1f} / {100 * found.p90:.1f}{aim}, bias {100 * found.bias:+.1f}"
        )
    return cells


def plot(points: Points, found: Mapping[str, Checked], path: Path) -> None:
    """Predicted over measured time of rows whose shape was left out, by kind."""
    import matplotlib  # noqa: PLC0415  (slow to import)

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    times, kinds = together(points, found, "other_shapes"), list(found)
    figure, grid = plt.subplots(2, 3, figsize=(11, 7), layout="constrained", squeeze=False)
    for axes, kind in zip(grid.flat, kinds, strict=False):
        rows = points.labels.kind == kind
        measured, guess = points.seconds[rows] * 1e6, times[rows] * 1e6
        axes.loglog(measured, guess, ".", markersize=1.5, alpha=0.3, rasterized=True)
        ends = np.array([measured.min(), measured.max()])
        axes.loglog(ends, ends, color="black", linewidth=0.8)
        told = errors(guess, measured)
        axes.set_title(
            f"{kind}: median {100 * told.median:.0f} %, P90 {100 * told.p90:.0f} %", fontsize=10
        )
        axes.set_xlabel("measured [us]")
        axes.set_ylabel("predicted [us]")
    for axes in list(grid.flat)[len(kinds) :]:
        axes.set_visible(False)
    figure.suptitle("Time of an operator, predicted by a fit that did not see its model or shape")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
