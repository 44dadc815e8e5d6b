"""The figure of who wins along the limit on the time per token."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.framework.pieces import Row
from experiments.framework.style import (
    case_panels,
    display_name,
    even_line,
    headline,
    label_ends,
    left_title,
    log_axis,
    place_name,
    ratio_axis,
)
from qsopt.report.style import BLUE, GREEN, GREY, ORANGE, tokens_text

NONE_MS = 400.0
"""Where no limit stands in the figure [ms]."""

COLOURS = {
    "same body": ORANGE,
    "released shape": BLUE,
    "released, 8 KV heads": GREEN,
    "decode alone, geometric q": GREY,
}


def draw(rows: list[Row]) -> Figure:
    """A panel for each case, the ratio along the limit."""
    figure, panels = case_panels(rows, ("model", "cluster"), width=5.0, height=4.6)
    for axes, mine in panels:
        _panel(axes, mine)
    panels[0][0].set_ylabel("output tokens/s, dense match over MoE")
    headline(
        figure,
        "Who wins at so many milliseconds a token: whole requests, own formats, each side's best "
        "way and batch, 90 % of memory, calibrated q unless stated;\nbands: 80 % of measured "
        "ratios; lines begin where both sides keep the limit",
        size=10,
    )
    return figure


def _panel(axes: Axes, rows: list[Row]) -> None:
    ends: list[Any] = []
    for match in dict.fromkeys(row["match"] for row in rows):
        colour = COLOURS.get(match, GREY if match.startswith("decode") else BLUE)
        line = [row for row in rows if row["match"] == match and row["ratio"]]
        line = sorted(line, key=lambda row: row["limit_ms"] or NONE_MS)
        if not line:
            continue
        places = [row["limit_ms"] or NONE_MS for row in line]
        style = "--" if match.startswith("decode") else "-"
        axes.plot(places, [row["ratio"] for row in line], style, color=colour, marker="o", ms=3)
        if match == "released shape" or match not in (*COLOURS, "decode alone"):
            low, high = ([row[end] for row in line] for end in ("low", "high"))
            axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
        ends.append((display_name(match), places[-1], line[-1]["ratio"], colour))
    even_line(axes.yaxis)
    ticks = [10.0, 15.0, 20.0, 30.0, 50.0, 100.0, NONE_MS]
    log_axis(axes.xaxis, ticks, lambda value, _: "none" if value == NONE_MS else f"{value:g}")
    ratio_axis(axes.yaxis, 0.1, 10.0)
    axes.set_xlim(9.0, NONE_MS)
    axes.set_ylim(0.1, 10.0)
    axes.set_xlabel("limit on the time per output token [ms]")
    first = rows[0]
    prompt, answer = (tokens_text(first[name]) for name in ("prompt", "answer"))
    size = next(row["q"] for row in rows if not row["match"].startswith("decode"))
    left_title(axes, f"{place_name(first)}, q = {size:.2f}\n{prompt} of prompt, {answer} of answer")
    label_ends(axes, ends)
