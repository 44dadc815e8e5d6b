"""The figure of sparsity: what is served at fixed quality, by kind of requests."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.framework.pieces import Row
from experiments.framework.style import (
    CYCLE,
    case_panels,
    even_line,
    headline,
    label_ends,
    left_title,
    log_axis,
    place_name,
)
from qsopt.report.style import GREY


def draw(rows: list[Row], released: list[Row]) -> Figure:
    """A panel for each model, by the first law; ticks below are the s of released models."""
    law = rows[0]["law"]
    shown = [row for row in rows if row["law"] == law]
    figure, panels = case_panels(shown, ("model", "cluster"), width=5.4, height=4.4)
    panels[0][0].set_ylim(0.0, 1.05 * max(_highest(mine) for _, mine in panels))
    for axes, mine in panels:
        _panel(axes, mine, released)
    panels[0][0].set_ylabel("tokens/s over those of the model's own sparsity")
    headline(
        figure,
        f"What a sparser or denser MoE of the same quality serves, by the {law} law: experts and "
        "experts per token changed together,\nown format, best way and batch, 90 % of memory, no "
        "limit unless stated; ticks: s of released models",
    )
    return figure


def _highest(rows: list[Row]) -> float:
    """The most that any variant gains over the model's own sparsity."""
    own = {row["question"]: row["tokens_per_s"] for row in rows if row["factor"] == 1.0}
    return max(row["tokens_per_s"] / own[row["question"]] for row in rows if own[row["question"]])


def _panel(axes: Axes, rows: list[Row], released: list[Row]) -> None:
    ends = []
    for colour, question in zip(CYCLE, dict.fromkeys(r["question"] for r in rows), strict=False):
        line = [r for r in rows if r["question"] == question and r["tokens_per_s"]]
        line = sorted(line, key=lambda row: row["s"])
        own = next((r["tokens_per_s"] for r in line if r["factor"] == 1.0), None)
        if own is None:
            continue
        heights = [row["tokens_per_s"] / own for row in line]
        axes.plot([row["s"] for row in line], heights, "o-", color=colour, ms=3)
        ends.append((question, line[-1]["s"], heights[-1], colour))
    even_line(axes.yaxis)
    axes.axvline(next(r["s"] for r in rows if r["factor"] == 1.0), color=GREY, linewidth=0.8)
    low, high = (f(row["s"] for row in rows) for f in (min, max))
    ticks = (0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5)
    log_axis(axes.xaxis, [tick for tick in ticks if low * 0.9 <= tick <= high * 1.1])
    axes.set_xlim(low / 1.1, high * 1.05)
    for row in released:
        axes.plot(row["s"], 0.0, "|", color=GREY, ms=12, transform=axes.get_xaxis_transform())
    axes.set_xlabel("s = active / total parameters (grey line: the model's own)")
    left_title(axes, f"body of {place_name(rows[0])}")
    label_ends(axes, ends)
