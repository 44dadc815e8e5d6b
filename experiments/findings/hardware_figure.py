"""The figure of hardware: the ratio along inputs, and on accelerators of today and announced."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.framework.pieces import Row
from experiments.framework.style import (
    CYCLE,
    cluster_name,
    display_name,
    even_line,
    headline,
    label_ends,
    left_title,
    log_axis,
    place_name,
    ratio_axis,
    subplots,
)
from qsopt.report.style import BLUE, ORANGE


def draw(walks: list[Row], accelerators: list[Row]) -> Figure:
    """Above a panel for each model along the inputs, below one on the accelerators, at the
    calibrated q.
    """
    walks, accelerators = ([r for r in rows if not r["law"]] for rows in (walks, accelerators))
    models = list(dict.fromkeys(row["model"] for row in accelerators))
    figure, panels = subplots(2, len(models), width=5.6 * len(models), height=7.5)
    for (above, below), model in zip(np.atleast_2d(panels).T, models, strict=True):
        _along(above, [row for row in walks if row["model"] == model and not row["limit_ms"]])
        _on(below, [row for row in accelerators if row["model"] == model])
    headline(
        figure,
        "What hardware does to dense over MoE: 8k of prompt, 1k of answer, own formats, dense "
        "match of released shape, each side's best way and batch,\n90 % of memory; above: one "
        "input at a time; below: accelerators, bars: 80 % of measured ratios",
    )
    return figure


def _along(axes: Axes, rows: list[Row]) -> None:
    ends = []
    for colour, name in zip(CYCLE, dict.fromkeys(row["input"] for row in rows), strict=False):
        line = [row for row in rows if row["input"] == name and row["ratio"]]
        axes.plot([r["factor"] for r in line], [r["ratio"] for r in line], "o-", color=colour, ms=4)
        ends.append((_label(line[-1], rows[0]), line[-1]["factor"], line[-1]["ratio"], colour))
    even_line(axes.yaxis)
    log_axis(axes.xaxis, sorted({row["factor"] for row in rows}), lambda value, _: f"{value:g}x")
    ratio_axis(axes.yaxis, 0.1, 20.0)
    low, high = (f([row["ratio"] for row in rows if row["ratio"]]) for f in (min, max))
    axes.set_ylim(min(low, 0.8) / 1.3, max(high, 1.0) * 1.15)
    axes.set_xlabel("input over that of the accelerator, no limit on time")
    axes.set_ylabel("tokens/s, dense over MoE")
    left_title(axes, f"{place_name(rows[0])}, q = {rows[0]['q']:.2f}")
    label_ends(axes, ends)


def _label(row: Row, first: Row) -> str:
    """The input of a line, with its cluster where that is not the panel's."""
    elsewhere = row["cluster"] != first["cluster"]
    return row["input"] + (f", {cluster_name(row['cluster'])}" if elsewhere else "")


def _on(axes: Axes, rows: list[Row]) -> None:
    chips = list(dict.fromkeys(row["accelerator"] for row in rows))
    limits = list(dict.fromkeys(row["limit_ms"] for row in rows))
    for shift, (limit, colour) in enumerate(zip(limits, (BLUE, ORANGE), strict=False)):
        mine = [row for row in rows if row["limit_ms"] == limit and row["ratio"]]
        places = [chips.index(row["accelerator"]) + 0.25 * (shift - 0.5) for row in mine]
        for place, row in zip(places, mine, strict=True):
            if row["low"] is not None:
                axes.plot([row["low"], row["high"]], [place] * 2, color=colour, lw=3, alpha=0.25)
        words = f"a token within {limit:g} ms" if limit else "no limit"
        axes.plot([row["ratio"] for row in mine], places, "o", color=colour, label=words, ms=5)
    even_line(axes.xaxis)
    ratio_axis(axes.xaxis, 0.1, 5.0)
    axes.set_xlim(0.1, 5.0)
    announced = {row["accelerator"]: row["announced"] for row in rows}
    words = [display_name(chip) + (" (announced)" if announced[chip] else "") for chip in chips]
    axes.set_yticks(np.arange(len(chips)), words, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(f"tokens/s, dense over MoE, on {rows[0]['devices']} devices")
    axes.legend(fontsize=7, frameon=False, loc="lower right")
