"""The figure of the predictor: where q s < 1 errs, which criterion does better, and whether the
fitted probability can be believed.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.framework import style
from experiments.framework.pieces import Row


def draw(rows: list[Row], scores: dict[str, Any]) -> Figure:
    """By regime how often q s < 1 errs and which way; accuracy of all criteria; reliability of the
    fitted probability.
    """
    figure, (left, middle, right) = style.subplots(
        1, 3, width=14.5, height=4.6, width_ratios=(1.25, 1.0, 0.8)
    )
    _errors(left, scores)
    _accuracies(middle, scores)
    _reliability(right, scores)
    figure.suptitle(
        f"Does q s < 1 tell who wins? {scores['all']['points']:,} points, both sides at their "
        f"optimum ({rows[0]['efficiency']})",
        fontsize=11,
        x=0.01,
        ha="left",
    )
    return figure


def _errors(axes: Axes, scores: dict[str, Any]) -> None:
    kept = [(name, part) for name, part in scores["regimes"].items() if part["points"]]
    for place, (_, part) in enumerate(kept):
        rates = part["criteria"]["q s < 1"]
        left = 0.0
        for share, colour, text in (
            (rates["accuracy"], style.SKY, "right"),
            (rates["says_dense_wrongly"], style.ORANGE, "says dense, MoE wins"),
            (rates["says_moe_wrongly"], style.PURPLE, "says MoE, dense wins"),
        ):
            axes.barh(
                place,
                share,
                left=left,
                color=colour,
                height=0.7,
                label=text if place == 0 else None,
            )
            if share > 0.06:
                axes.text(
                    left + share / 2, place, f"{share:.0%}", ha="center", va="center", fontsize=8
                )
            left += share
    axes.set_yticks(
        range(len(kept)), [f"{name}\n({part['points']} points)" for name, part in kept], fontsize=8
    )
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0%", "50%", "100%"])
    axes.invert_yaxis()
    axes.set_title(
        "q s < 1 by what decides the MoE's step (q drawn freely)", loc="left", fontsize=9
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.08), ncols=3, fontsize=8, frameon=False)
    style.plain(axes)


def _accuracies(axes: Axes, scores: dict[str, Any]) -> None:
    """Every criterion where q is drawn freely, and where it is that of the geometric law."""
    names = list(scores["free q"]["criteria"])
    parts = (
        ("q drawn freely", scores["free q"], style.BLUE),
        ("q by the geometric law", scores["laws"]["geometric"], style.SKY),
    )
    for shift, (text, part, colour) in zip((-0.2, 0.2), parts, strict=True):
        rates = [part["criteria"][name]["accuracy"] for name in names]
        axes.barh(np.arange(len(names)) + shift, rates, color=colour, height=0.38, label=text)
        for place, name in enumerate(names):
            area = part["criteria"][name]["area"]
            note = f"{rates[place]:.0%}, AUC {area:.2f}"
            axes.text(
                0.41,
                place + shift,
                note,
                ha="left",
                va="center",
                fontsize=8,
                color=style.BLACK if shift > 0 else "white",
            )
        base = max(part["dense_wins"], 1.0 - part["dense_wins"])
        axes.axvline(base, color=colour, linewidth=1.5, linestyle=":")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlim(0.4, 1.0)
    axes.set_xticks([0.4, 0.6, 0.8, 1.0], ["40%", "60%", "80%", "100%"])
    axes.invert_yaxis()
    axes.set_title(
        "points called right; dotted: always the more frequent winner", loc="left", fontsize=9
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.08), ncols=2, fontsize=8, frameon=False)
    style.plain(axes)


def _reliability(axes: Axes, scores: dict[str, Any]) -> None:
    said, happened, count = np.array(scores["reliability"]).T
    axes.plot([0, 1], [0, 1], color=style.GREY, linewidth=1)
    axes.scatter(said, happened, s=12 + 120 * count / count.max(), color=style.BLUE)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks([0, 0.5, 1], ["0%", "50%", "100%"])
    axes.set_xlabel("fitted probability (unseen models)")
    axes.set_ylabel("share that dense wins")
    axes.set_title("can the probability be believed?", loc="left", fontsize=9)
    style.plain(axes)
