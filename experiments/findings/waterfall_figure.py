"""The figure of the way from 4.5 times to what a user gets."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.framework.pieces import Row
from experiments.framework.style import (
    even_line,
    headline,
    ratio_axis,
    subplots,
)
from qsopt.report.style import BLUE, GREY, ORANGE


def draw(rows: list[Row]) -> Figure:
    """Every step on a log axis of ratios."""
    figure, axes = subplots(width=9.0, height=4.8)
    places = np.arange(len(rows), dtype=float) + np.array(
        [0.6 if row["branch"] else 0 for row in rows]
    )
    values = [row["ratio"] for row in rows]
    main = [index for index, row in enumerate(rows) if not row["branch"]]
    axes.step(
        np.array(values)[main], places[main], where="post", color=GREY, linewidth=0.8, zorder=1
    )
    for place, row in zip(places, rows, strict=True):
        _step(axes, place, row)
    even_line(axes.xaxis)
    ratio_axis(axes.xaxis, 0.2, 10.0)
    axes.set_xlim(0.15, 10.0)
    axes.set_yticks(
        places, [("or: " if row["branch"] else "") + row["step"] for row in rows], fontsize=8
    )
    axes.invert_yaxis()
    axes.set_xlabel("throughput of the dense match over DeepSeek-V3   (MoE wins < 1 < dense wins)")
    headline(
        figure,
        "From 4.5 times to what a user gets: DeepSeek-V3 at 128k on 8 MI300X, one assumption at a "
        "time, each side at its\nbest batch, 90 % of memory from the second row on; bars: 80 % of "
        "measured ratios",
    )
    return figure


def _step(axes: Axes, place: float, row: Row) -> None:
    """One ratio, with its interval."""
    colour = ORANGE if row["ratio"] > 1.0 else BLUE
    if row["low"] is not None:
        axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=4, alpha=0.25)
    axes.plot(row["ratio"], place, "o", color=colour, markersize=7)
    text = f"{row['ratio']:.2f}"
    axes.annotate(
        text,
        (row["ratio"], place),
        (6, 5),
        textcoords="offset points",
        fontsize=8,
        color=colour,
        bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"},
    )
