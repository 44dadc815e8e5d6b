"""The figure of the answers from which on dense wins, along the prompt, by cached share."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.framework.pieces import Row
from experiments.framework.style import (
    BLUE,
    GREEN,
    ORANGE,
    cluster_name,
    display_name,
    label_ends,
    plain,
    subplots,
    tokens_axis,
)

COLOURS = (BLUE, GREEN, ORANGE)
LOW, HIGH = 64.0, 65536.0 * 1.2


def draw(rows: list[Row]) -> Figure:
    """A panel for each model: dense wins above its line."""
    cases = list(dict.fromkeys((row["model"], row["match"], row["cluster"]) for row in rows))
    figure, panels = subplots(1, len(cases), width=4.6 * len(cases), height=4.4, sharey=True)
    for axes, case in zip(panels, cases, strict=True):
        _panel(axes, [r for r in rows if (r["model"], r["match"], r["cluster"]) == case])
    panels[0].set_ylabel("tokens of an answer: dense wins above the line")
    figure.suptitle(
        "From which answer on the dense match serves more tokens/s: no limit on time, own formats, "
        "each side's best way and batch (crosses: never up to there)",
        fontsize=9, x=0.01, ha="left",
    )  # fmt: skip
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
    axes.set_title(
        f"{display_name(first['model'])} on {cluster_name(first['cluster'])}\n"
        f"dense: {words}, q = {first['q']:.2f}",
        fontsize=9, loc="left",
    )  # fmt: skip
    plain(axes)
    label_ends(axes, ends)
