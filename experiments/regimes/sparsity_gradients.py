"""How does the best throughput answer to sparsity, and where does more of it start to hurt?

`python -m experiments.regimes.sparsity_gradients` writes the slopes of every MoE of the catalog,
the curves along sparsity, and figures of both, into `results/sparsity_gradients`.

Slopes are elasticities of an MoE's throughput at its exact optimum with respect to s = N_active /
N_total in three ways, and to experts, experts per token and expert width; curves follow the same
ways far from the model (see `sparsity`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.framework import study, style
from experiments.framework.pieces import Row
from experiments.regimes.sparsity import INPUTS, WAYS, slopes_and_curves
from qsopt.catalog.models import load_model, model_names
from qsopt.files import write_text
from qsopt.spec.model import moe_layers

SPAN = 1.0
"""Elasticities beyond are drawn at the edge, with their value."""


@dataclass(frozen=True)
class Settings(study.Settings):
    """What is differentiated."""

    clusters: tuple[str, ...]
    drawn: tuple[str, ...]
    """Models whose curves are drawn."""
    contexts: tuple[float, ...]
    law: str
    """What fixed quality means."""
    efficiency: str
    factors: tuple[float, ...]
    """On the experts, or the experts per token, of a curve."""


def main(settings: Settings) -> None:
    with study.Study("sparsity_gradients", settings) as run:
        moes = [name for name in model_names() if moe_layers(load_model(name)) is not None]
        keys = [
            {
                "model": name,
                "cluster": cluster,
                "context": context,
                "law_name": settings.law,
                "efficiency": settings.efficiency,
                "factors": list(settings.factors),
            }
            for name in moes
            for context in settings.contexts
            for cluster in settings.clusters
        ]
        rows = [row for piece in run.pieces(keys, slopes_and_curves) for row in piece]
        write_text(
            run.folder / "curves.csv", study.table([row for row in rows if row["kind"] == "curve"])
        )
        slopes = [row for row in rows if row["kind"] == "slopes"]
        run.write(slopes, lambda _: figures(settings, rows))


# ---- figure --------------------------------------------------------------------------------------


def figures(settings: Settings, rows: list[Row]) -> dict[str, Figure]:
    """Slopes of all models on the first cluster, and curves at fixed quality of some on all
    clusters.
    """
    return {
        "sparsity_gradients": _slopes_figure(settings, rows),
        "sparsity_curves": _curves_figure(settings, rows),
    }


def _slopes_figure(settings: Settings, rows: list[Row]) -> Figure:
    place = {
        "kind": "slopes",
        "feasible": True,
        "cluster": settings.clusters[0],
        "context": settings.contexts[0],
    }
    here = sorted((row for row in rows if place.items() <= row.items()), key=lambda row: row["s"])
    figure, (left, right) = style.subplots(1, 2, 10.0, 0.24 * len(here) + 1.8, sharey=True)
    _slopes_panel(left, here, {f"s_{way}": f"s {text}" for way, text in WAYS.items()})
    _slopes_panel(right, here, INPUTS)
    names = [f"{style.display_name(row['model'])}  (s = {row['s']:.3f})" for row in here]
    left.set_yticks(range(len(here)), names, fontsize=8)
    text = "Left of zero in the left panel, more sparsity (less s) raises throughput"
    context = f"{settings.contexts[0] / 1024:g}k tokens of context"
    where = f"{settings.clusters[0]}, {context}, {settings.efficiency}"
    figure.suptitle(f"{text}: {where}", x=0.01, ha="left", fontsize=11)
    return figure


def _slopes_panel(axes: Axes, rows: list[Row], names: dict[str, str]) -> None:
    """A line for each model, a mark for each input."""
    axes.axvline(0.0, color=style.GREY, linewidth=1)
    for (name, text), colour, mark in zip(names.items(), style.CYCLE, style.MARKS, strict=False):
        values = np.array([np.nan if row[name] is None else row[name] for row in rows])
        within = np.clip(values, -SPAN, SPAN)
        axes.plot(within, np.arange(len(rows)), mark, color=colour, label=text, markersize=5)
    for place, row in enumerate(rows):
        _write_beyond(axes, [row[name] for name in names], float(place))
    axes.legend(
        fontsize=8,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=3,
        frameon=False,
        handletextpad=0.2,
    )
    axes.set_xlabel("change of throughput in % for 1 % more of it")
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_xticks(np.linspace(-SPAN, SPAN, 5))
    axes.set_xlim(-1.05 * SPAN, 1.05 * SPAN)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    style.plain(axes)


def _write_beyond(axes: Axes, values: list[float | None], place: float) -> None:
    """Write what is beyond the panel beside its edge."""
    for side in (-1.0, 1.0):
        beyond = [f"{value:.1f}" for value in values if value is not None and value * side > SPAN]
        if beyond:
            place_at = (side * SPAN * 0.96, place)
            axes.annotate(
                " and ".join(beyond),
                place_at,
                fontsize=7,
                va="center",
                ha="right" if side > 0 else "left",
            )


def _curves_figure(settings: Settings, rows: list[Row]) -> Figure:
    figure, grid = style.subplots(
        1, len(settings.clusters), 3.6 * len(settings.clusters), 3.8, sharey=True, squeeze=False
    )
    here = [row for row in rows if row["context"] == settings.contexts[0]]
    for axes, cluster in zip(grid[0], settings.clusters, strict=True):
        _curves_panel(axes, [row for row in here if row["cluster"] == cluster], settings.drawn)
        axes.set_title(cluster, fontsize=10)
    ticks = [0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5, 2.0, 3.0]
    style.log_axis(grid[0][0].yaxis, ticks, style.times)
    grid[0][0].set_ylabel("throughput over that of the model as it is")
    figure.legend(
        *grid[0][0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=9,
    )
    text = (
        "Sparsity at fixed quality, deployed anew at every point; large marks: the model as it is"
    )
    sets = f"({settings.law} law, {settings.efficiency})"
    figure.suptitle(f"{text} {sets}", x=0.01, ha="left", fontsize=11)
    return figure


def _curves_panel(axes: Axes, rows: list[Row], models: Sequence[str]) -> None:
    """Throughput along s at fixed quality on one cluster, a line for each model."""
    axes.axhline(1.0, color=style.GREY, linewidth=1)
    own = {row["model"]: row["s"] for row in rows if row["kind"] == "slopes"}
    fixed_quality = [row for row in rows if row.get("way") == "fixed_quality"]
    for model, colour, mark in zip(models, style.CYCLE, style.MARKS, strict=False):
        points = [row for row in fixed_quality if row["model"] == model and row["throughput"] > 0.0]
        if points:
            nearest = min(points, key=partial(_distance, s=own[model]))["throughput"]
            x = [row["s"] for row in points]
            y = [row["throughput"] / nearest for row in points]
            label = style.display_name(model)
            axes.plot(x, y, marker=mark, markersize=3.5, color=colour, label=label)
            axes.plot(own[model], 1.0, mark, color=colour, markersize=10, markeredgecolor="black")
    style.log_axis(axes.xaxis, [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0])
    axes.set_xlabel("s, active over total parameters")
    style.plain(axes)


def _distance(row: Row, s: float) -> float:
    return abs(np.log(row["s"] / s))


if __name__ == "__main__":
    study.start(main, Settings, "sparsity_gradients")
