"""The figure of sparsity: what is served at fixed quality, by kind of requests."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.framework.pieces import Row
from experiments.framework.style import (
    CYCLE,
    GREY,
    cluster_name,
    display_name,
    label_ends,
    log_axis,
    plain,
    subplots,
)


def draw(rows: list[Row], released: list[Row]) -> Figure:
    """A panel for each model, by the first law; ticks below are the s of released models."""
    law = rows[0]["law"]
    cases = list(dict.fromkeys((row["model"], row["cluster"]) for row in rows))
    figure, panels = subplots(1, len(cases), width=5.4 * len(cases), height=4.4, sharey=True)
    each = [[r for r in rows if (r["model"], r["cluster"]) == c and r["law"] == law] for c in cases]
    panels[0].set_ylim(0.0, 1.05 * max(map(_highest, each)))
    for axes, mine in zip(panels, each, strict=True):
        _panel(axes, mine, released)
    panels[0].set_ylabel("tokens/s over those of the model's own sparsity")
    figure.suptitle(
        f"At the same quality by the {law} law: experts and experts per token changed together, "
        "own format, best way and batch; ticks: released models",
        fontsize=9, x=0.01, ha="left",
    )  # fmt: skip
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
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.axvline(next(r["s"] for r in rows if r["factor"] == 1.0), color=GREY, linewidth=0.8)
    low, high = (f(row["s"] for row in rows) for f in (min, max))
    ticks = (0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5)
    log_axis(axes.xaxis, [tick for tick in ticks if low * 0.9 <= tick <= high * 1.1])
    axes.set_xlim(low / 1.1, high * 1.05)
    for row in released:
        axes.plot(row["s"], 0.0, "|", color=GREY, ms=12, transform=axes.get_xaxis_transform())
    axes.set_xlabel("s = active / total parameters (grey line: the model's own)")
    first = rows[0]
    place = f"body of {display_name(first['model'])} on {cluster_name(first['cluster'])}"
    axes.set_title(place, fontsize=9, loc="left")
    plain(axes)
    label_ends(axes, ends)
