"""The figure of the penalty of reuse along what is read of prompts."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.framework.pieces import Row
from experiments.framework.style import (
    case_panels,
    even_line,
    headline,
    label_ends,
    left_title,
    place_name,
)
from qsopt.report.style import BLUE, GREEN

LOOKS: dict[str, tuple[str, dict[str, Any]]] = {
    "alternating": (GREEN, {"linewidth": 5, "alpha": 0.4}),
    "mixed": (BLUE, {"marker": "o", "ms": 4}),
}
"""Of the ways that are drawn, one over the other. Two pools hold two copies of the weights, for
which these clusters have hardly room.
"""


def draw(rows: list[Row]) -> Figure:
    """A panel for each model; full lines without a limit, broken ones with one."""
    figure, panels = case_panels(rows, ("model", "cluster"), width=5.0, height=4.2)
    for axes, mine in panels:
        _panel(axes, mine)
    panels[0][0].set_ylabel("gain if all tokens picked the same experts")
    limits = [row["limit_ms"] for row in rows if row["limit_ms"]]
    within = f"; broken: within {limits[0]:g} ms a token" if limits else ""
    headline(
        figure,
        "What fragmented reads cost the MoE, by where prompts are read: 8k of prompt, 1k of answer,"
        " own format, each way's best layout\nand batch, 90 % of memory; full lines: no limit"
        f"{within}",
    )
    return figure


def _panel(axes: Axes, rows: list[Row]) -> None:
    ends = []
    for way, (colour, look) in LOOKS.items():
        for limit in dict.fromkeys(row["limit_ms"] for row in rows):
            mine = [row for row in rows if row["way"] == way and row["limit_ms"] == limit]
            line = [row for row in mine if row["penalty"] is not None]
            if not line:
                continue
            style = "--" if limit else "-"
            places = [row["read"] for row in line]
            axes.plot(places, [r["penalty"] for r in line], style, color=colour, **look)
            if not limit:
                ends.append((way, places[-1], line[-1]["penalty"], colour))
    even_line(axes.yaxis)
    axes.set_ylim(bottom=0.95)
    axes.set_xlim(0.0, max(row["read"] for row in rows))
    axes.set_xlabel("prompt tokens read for each token written")
    left_title(axes, place_name(rows[0]))
    label_ends(axes, ends)
