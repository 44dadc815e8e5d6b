"""The figure of measured pairs of equal quality."""

import numpy as np
from matplotlib.figure import Figure

from experiments.framework.pieces import Row
from experiments.framework.style import (
    BLACK,
    even_line,
    left_title,
    ratio_axis,
    subplots,
)
from qsopt.report.style import BLUE, ORANGE


def draw(rows: list[Row]) -> Figure:
    """A line for each way of asking: measured, predicted on requests, predicted for decode."""
    figure, axes = subplots(width=8.5, height=3.6)
    for place, row in enumerate(rows):
        axes.plot([row["low"], row["high"]], [place, place], color=BLUE, linewidth=5, alpha=0.25)
    places = np.arange(len(rows))
    for name, mark, colour, words in (
        ("measured", "D", BLACK, "measured"),
        ("ratio", "o", BLUE, "predicted on requests (bar: 80 %)"),
        ("decode", "x", ORANGE, "predicted for decode alone"),
    ):
        axes.plot([row[name] for row in rows], places, mark, color=colour, label=words, ms=6)
    even_line(axes.xaxis)
    ratio_axis(axes.xaxis, 0.2, 5.0)
    axes.set_xlim(0.2, 5.0)
    axes.set_yticks(places, [f"{row['pair']}\n{row['case']}" for row in rows], fontsize=7)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("output tokens/s, dense over MoE   (MoE wins < 1 < dense wins)")
    left_title(
        axes,
        "Pairs that score alike, measured on the same servers: prompt / answer and limit as "
        "stated,\nown formats (Qwen3.5 in fp8), each side's best batch, 90 % of memory",
    )
    axes.legend(fontsize=7, loc="lower right", frameon=False)
    return figure
