"""The figure of attention on both, one or neither side."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.framework.pieces import Row
from experiments.framework.style import (
    case_panels,
    cluster_name,
    display_name,
    even_line,
    headline,
    left_title,
    ratio_axis,
)
from qsopt.report.style import BLUE, GREEN, ORANGE, PURPLE

COLOURS = (BLUE, GREEN, PURPLE, ORANGE)
BAR: dict[str, Any] = {"linewidth": 3, "alpha": 0.25}
"""Of an interval."""


def draw(rows: list[Row]) -> Figure:
    """A panel for each model, a group for each question."""
    figure, panels = case_panels(rows, ("model", "cluster"), width=4.8, height=4.2)
    for axes, mine in panels:
        _panel(axes, mine)
    panels[0][0].set_ylabel("tokens/s, dense over MoE")
    panels[-1][0].legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    headline(
        figure,
        "Attention or experts: released dense shape (filled) and the MoE's body (hollow), own "
        "formats, no limit, each side's best batch,\n90 % of memory; bars: 80 % of measured ratios "
        "(released shape)",
    )
    return figure


def _panel(axes: Axes, rows: list[Row]) -> None:
    questions = list(dict.fromkeys(row["question"] for row in rows))
    ways = list(dict.fromkeys(row["attention"] for row in rows))
    for number, (way, colour) in enumerate(zip(ways, COLOURS, strict=True)):
        for shape, fill in (("released", colour), ("same body", "none")):
            line = [r for r in rows if r["attention"] == way and r["shape"] == shape and r["ratio"]]
            places = [questions.index(row["question"]) + 0.18 * (number - 1.5) for row in line]
            label = way if shape == "released" else None
            for place, row in zip(places, line, strict=True):
                if label and row["low"] is not None:
                    axes.plot([place] * 2, [row["low"], row["high"]], color=colour, **BAR)
            axes.plot(
                places, [row["ratio"] for row in line], "o", color=colour, mfc=fill, label=label
            )
    even_line(axes.yaxis)
    ratio_axis(axes.yaxis, 0.1, 10.0)
    axes.set_xlim(-0.5, len(questions) - 0.5)
    kinds = {row["question"]: row["requests"] for row in rows}
    words = [f"{'requests' if kinds[each] else 'decode'}\n{each}" for each in questions]
    axes.set_xticks(np.arange(len(questions)), words, fontsize=8)
    first = rows[0]
    name, place = display_name(first["model"]), cluster_name(first["cluster"])
    left_title(axes, f"{name} ({first['own']}) on {place}, q = {first['q']:.2f}")
