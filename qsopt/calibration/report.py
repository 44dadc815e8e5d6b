"""The table of errors against targets, as records, and the plot of predicted against measured
times.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qsopt.calibration.held_out import CrossValidation
from qsopt.calibration.points import Points
from qsopt.calibration.quantities import quantities
from qsopt.files import write_figure
from qsopt.fitted.errors import Errors, errors

COLUMNS = ("fitted", "other_shapes", "other_accelerators")
"""Attributes of `CrossValidation` in the order of the targets."""

POOLED = "other_generations"
"""One more, of operators alone and without a target."""


TPOT_TARGET = ((14, 42), (17, 45), None)
"""Of the time per output token end to end; errors on other accelerators are reported without a
target.
"""


TTFT_TARGET = ((25, 70), (25, 70), None)
"""Of the time to first token at the measured concurrency."""


def error_rows(
    points: Mapping[str, Points], predictions: Mapping[str, CrossValidation]
) -> Iterator[dict[str, Any]]:
    """One record for each quantity of a fitted kind: errors by column, and the target where there
    is one.
    """
    for quantity, rows in quantities(points):
        if quantity.kind in predictions:
            measured = points[quantity.kind].seconds[rows]
            columns = {
                name: errors(getattr(predictions[quantity.kind], name)[rows], measured)
                for name in (*COLUMNS, POOLED)
            }
            yield {
                "quantity": quantity.name,
                "n": int(rows.sum()),
                "target": quantity.target,
                **columns,
            }


def text_row(row: dict[str, Any]) -> dict[str, str]:
    """A record for people: `reached (target)` in percent."""
    cells = {"quantity": row["quantity"], "n": f"{row['n']:,}"}
    aims = row["target"] or (None, None, None)
    for name, aim in zip((*COLUMNS, POOLED), (*aims, None), strict=True):
        cells[name] = _cell(row[name], aim) if name in row else ""
    return cells


def _cell(left: Errors, aim: tuple[int, int] | None) -> str:
    target = f" (target {aim[0]} / {aim[1]})" if aim else ""
    return f"{100 * left.median:.1f} / {100 * left.p90:.1f}{target}, bias {100 * left.bias:+.1f}"


def plot(
    points: Mapping[str, Points], predictions: Mapping[str, CrossValidation], path: Path
) -> None:
    """Predicted over measured time of rows whose shape was left out, by kind."""
    import matplotlib  # noqa: PLC0415  (slow to import)

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    columns = 4
    figure, grid = plt.subplots(
        -(-len(predictions) // columns),
        columns,
        figsize=(14, 7),
        layout="constrained",
        squeeze=False,
    )
    for axes, (kind, one) in zip(grid.flat, predictions.items(), strict=False):
        measured, predicted = points[kind].seconds * 1e6, one.other_shapes * 1e6
        axes.loglog(measured, predicted, ".", markersize=1.5, alpha=0.3, rasterized=True)
        ends = np.array([measured.min(), measured.max()])
        axes.loglog(ends, ends, color="black", linewidth=0.8)
        left = errors(predicted, measured)
        axes.set_title(
            f"{kind}: median {100 * left.median:.0f} %, P90 {100 * left.p90:.0f} %", fontsize=10
        )
        axes.set_xlabel("measured [us]")
        axes.set_ylabel("predicted [us]")
    for axes in list(grid.flat)[len(predictions) :]:
        axes.set_visible(False)
    figure.suptitle("Time of an operator, predicted by a fit that did not see its model or shape")
    write_figure(figure, path, dpi=110)
    plt.close(figure)
