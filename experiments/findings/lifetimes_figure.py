"""The figure of lifetimes: what a token costs, and after how many a distilled match pays."""

import numpy as np
from matplotlib.figure import Figure

from experiments.framework.pieces import Row
from experiments.framework.style import (
    headline,
    log_axis,
    subplots,
)
from qsopt.report.style import BLUE, GREEN, GREY, ORANGE

COLOURS = {
    "same body, geometric q": GREY,
    "same body": ORANGE,
    "released shape": BLUE,
    "released shape, 8 KV heads": GREEN,
}
NEVER = 3e17
"""Where `never` stands [tokens]."""


def _words(value: float, _position: object = None) -> str:
    """Tokens in units of 10^12."""
    return "never" if value == NEVER else f"{value / 1e12:,.0f}T"


def draw(rows: list[Row]) -> Figure:
    """Tokens after which distilling pays, with 80 % intervals; `never` at the right."""
    questions = list(dict.fromkeys(row["question"] for row in rows))
    figure, axes = subplots(width=9.0, height=0.62 * len(questions) + 1.2)
    for number, (match, colour) in enumerate(COLOURS.items()):
        mine = [row for row in rows if row["match"] == match]
        places = [questions.index(row["question"]) + 0.18 * (number - 1.5) for row in mine]
        for place, row in zip(places, mine, strict=True):
            low, high = (row["distilled"][end] or NEVER for end in ("low", "high"))
            axes.plot([low, high], [place, place], color=colour, linewidth=3, alpha=0.3)
        tokens = [row["distilled"]["tokens"] or NEVER for row in mine]
        label = f"{match}, q = {mine[0]['q']:.2f}"
        axes.plot(tokens, places, "o", color=colour, label=label, ms=5)
    ticks = [*(10.0**power for power in range(12, 17)), NEVER]
    log_axis(axes.xaxis, ticks, _words)
    axes.set_xlim(5e11, NEVER * 2)
    axes.set_yticks(np.arange(len(questions)), questions, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("served output tokens after which distilling the MoE to the match pays")
    headline(
        figure,
        "After how many tokens it pays to distil DeepSeek-V3: rented devices, own format, 90 % of "
        "memory, no limit unless stated,\neach side's best way and batch; bars: 80 % over q, the "
        "student's tokens and errors of speed; T: 10^12",
    )
    axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
