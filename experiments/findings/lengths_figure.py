"""The figure of the answers from which on dense wins, along the prompt, by cached share."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.framework.pieces import Row
from experiments.framework.style import (
    case_panels,
    display_name,
    headline,
    label_ends,
    left_title,
    place_name,
    tokens_axis,
)
from qsopt.report.style import BLUE, GREEN, ORANGE

COLOURS = (BLUE, GREEN, ORANGE)
LOW, HIGH = 64.0, 65536.0 * 1.2


def draw(rows: list[Row]) -> Figure:
    """A panel for each model: dense wins above its line."""
    figure, panels = case_panels(rows, ("model", "match", "cluster"), width=4.6, height=4.4)
    for axes, mine in panels:
        _panel(axes, mine)
    panels[0][0].set_ylabel("tokens of an answer: dense wins above the line")
    headline(
        figure,
        "From which answer on the dense match serves more tokens/s: no limit on time, own formats, "
        "each side's best way and batch,\n90 % of memory; bands: 80 % of measured ratios where "
        "nothing is cached; on the lower axis: always; crosses: never up to there",
    )
    return figure


def _panel(axes: Axes, rows: list[Row]) -> None:
    first, ends = rows[0], []
    for colour, cached in zip(COLOURS, dict.fromkeys(row["cached"] for row in rows), strict=False):
        line = [row for row in rows if row["cached"] == cached]
        known = [row for row in line if row["from"] is not None]
        never = [row for row in line if row["from"] is None]
        axes.plot(
            [r["prompt"] for r in known], [r["from"] for r in known], "o-", color=colour, ms=4
        )
        axes.plot([r["prompt"] for r in never], [r["longest"] for r in never], "x", color=colour)
        if not cached:
            _band(axes, line, colour)
        last = line[-1]
        text = f"{100 * cached:.0f} % cached"
        ends.append((text, last["prompt"], last["from"] or last["longest"], colour))
    prompts = [row["prompt"] for row in rows]
    tokens_axis(axes.xaxis, min(prompts), max(prompts), 2)
    tokens_axis(axes.yaxis, LOW, HIGH, 2)
    axes.set_xlim(min(prompts) / 1.1, max(prompts) * 1.1)
    axes.set_ylim(LOW / 1.15, HIGH)
    axes.set_xlabel("tokens of a prompt")
    match = {"same-body": "its own body", "released": "released shape"}
    words = match.get(first["match"], display_name(first["match"]))
    left_title(axes, f"{place_name(first)}\ndense: {words}, q = {first['q']:.2f}")
    label_ends(axes, ends)


def _band(axes: Axes, line: list[Row], colour: str) -> None:
    """Where the turn lies by 80 % of measured ratios, to the longest answer where it is never."""
    low, high = ([r[end] or r["longest"] for r in line] for end in ("from_low", "from_high"))
    prompts = [row["prompt"] for row in line]
    axes.fill_between(prompts, low, high, color=colour, alpha=0.12, linewidth=0)
