"""The figure of the rule of thumb: the true ratio along what q s and the rule say."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.findings.scores import FORMS
from experiments.framework.pieces import Row
from experiments.framework.style import (
    even_line,
    headline,
    ratio_axis,
    subplots,
)
from qsopt.report.style import BLUE, ORANGE

WORDS = {"same-body": "dense match in the MoE's body", "released": "of released shape"}


def draw(rows: list[Row], constants: dict[str, float]) -> Figure:
    """Two panels, unseen points alone: the winner is named right in the shaded quarters."""
    points = [row for row in rows if not row["seen"]]
    figure, panels = subplots(1, 2, width=9.5, height=4.4, sharey=True)
    words = {
        "q s": "1 / (q s)",
        "rule": f"1 / (q s + (q - 1)(1 + r) {constants['rule']:.0f} / S)",
    }
    for axes, name in zip(panels, words, strict=True):
        _panel(axes, points, np.exp(FORMS[name](points, constants.get(name, 0.0))))
        axes.set_xlabel(f"{words[name]}: says dense above 1")
    panels[0].set_ylabel("true ratio of tokens/s, dense over MoE")
    panels[1].legend(fontsize=7, frameon=False, loc="upper left")
    headline(
        figure,
        f"What q s and the rule say of {len(points)} random requests on models or accelerators "
        "that the rule has not seen; shaded: the right winner;\nr: prompt tokens read for each "
        "written, S: mean context; own formats, best way and batch, 90 % of memory, no limit",
    )
    return figure


def _panel(axes: Axes, rows: list[Row], said: np.ndarray) -> None:
    for match, colour, mark in (("same-body", ORANGE, "o"), ("released", BLUE, "^")):
        mine = np.array([row["match"] == match for row in rows])
        ratio = np.array([row["ratio"] for row in rows])
        axes.plot(said[mine], ratio[mine], mark, color=colour, ms=4, alpha=0.7, label=WORDS[match])
    even_line(axes.yaxis)
    even_line(axes.xaxis)
    ratio_axis(axes.xaxis, 0.01, 50.0)
    ratio_axis(axes.yaxis, 0.02, 20.0)
    low, high = max(axes.get_xlim()[0], 0.01), axes.get_xlim()[1]
    axes.fill_between([low, 1.0], 0.02, 1.0, color="black", alpha=0.05, linewidth=0)
    axes.fill_between([1.0, high], 1.0, 20.0, color="black", alpha=0.05, linewidth=0)
    axes.set_xlim(low, high)
    axes.set_ylim(0.02, 20.0)
