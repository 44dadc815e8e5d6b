"""What hardware would make the MoE win: more memory, faster memory, faster links, or larger
domains?

One input of a cluster moves at a time, both sides at their exact optimum. Told are the ratio along
the input, the values at which the winner changes (between two points of the walk, in log), and the
elasticity of the ratio at the hardware as built: that of the dense twin's throughput less that of
the MoE's, each with the batch that fills its memory.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

import jax
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiments.framework import study, style
from experiments.framework.pieces import Row, write_whole
from qsopt.catalog.accelerators import load_cluster
from qsopt.catalog.efficiencies import load_efficiency
from qsopt.catalog.models import load_model, model_facts
from qsopt.comparison.compare import verdict
from qsopt.comparison.twin import dense_twin
from qsopt.deployments.layouts import legal_layouts
from qsopt.deployments.request import best_batch
from qsopt.maps.axes import Axis, axis
from qsopt.maps.condition import condition_of
from qsopt.maps.phase_map import phase_map
from qsopt.quality.belief import belief
from qsopt.report.map_plot import axis_label, axis_unit
from qsopt.report.plot import tokens_text
from qsopt.sensitivity.inputs import Design
from qsopt.sensitivity.slopes import sensitivity
from qsopt.spec.model import Model
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

SLOPES = {
    "capacity": "capacity",
    "bandwidth": "bandwidth",
    "scale_up": "scale_up_bandwidth",
    "scale_out": "scale_out_bandwidth",
}
"""Names of the inputs among the sensitivities; a domain's size has no derivative."""

DOMAINS = tuple(2.0**power for power in range(9))


SHOWN = 0.6, 4.0
"""Ratios that the figure shows; beyond, the MoE nearly fills the memory."""


@dataclass(frozen=True)
class Settings(study.Settings):
    """What moves."""

    models: tuple[str, ...]
    clusters: tuple[str, ...]
    """The figure shows the first."""
    contexts: tuple[float, ...]
    inputs: tuple[str, ...]
    law: str
    efficiency: str
    factor: float
    """How far an input moves from its own value, down and up."""
    points: int
    """Of a walk; domains take powers of two."""


def main(settings: Settings) -> None:
    with study.Study("hardware_for_moe", settings) as run:
        fixed = {
            name: getattr(settings, name) for name in ("law", "efficiency", "factor", "points")
        }
        keys = [
            {
                "model": model,
                "cluster": cluster,
                "contexts": list(settings.contexts),
                "inputs": list(settings.inputs),
                **fixed,
            }
            for model in settings.models
            for cluster in settings.clusters
        ]
        rows = [row for piece in run.pieces(keys, walks) for row in piece]
        points = [row for row in rows if row["kind"] == "point"]
        write_whole(run.folder / "points.csv", study.table(points))
        run.write(
            [row for row in rows if row["kind"] == "walk"],
            lambda found: figure(settings, found, points),
        )


def walks(
    model: str,
    cluster: str,
    contexts: list[float],
    inputs: list[str],
    law: str,
    efficiency: str,
    factor: float,
    points: int,
) -> list[Row]:
    """For each input and context a row about the walk, and one for each of its points."""
    moe = load_model(model)
    held = belief(moe, law, model_facts(model).training_tokens, raw=True)
    service = Service(load_cluster(cluster), Workload(contexts[0]), load_efficiency(efficiency))
    rows = []
    slopes = {context: _elasticities(moe, held.q, service, context) for context in contexts}
    for name in inputs:
        own = float(getattr(condition_of(service), name))
        along = axis(name, moe, service, own / factor, own * factor, points)
        if name == "domain":
            along = Axis("domain", np.array(sorted({*DOMAINS, own})))
        across = Axis("context", np.array(contexts))
        found = phase_map(moe, service, along, across, lambda _: held, interval=False)
        for place, context in enumerate(contexts):
            sides = found.moe.throughput[:, place], found.dense.throughput[:, place]
            where = {"model": model, "cluster": cluster, "input": name, "context": context}
            walk = _walk(along.values, *sides, own, along.kind.whole)
            rows.append(
                {
                    "kind": "walk",
                    **where,
                    "own": own,
                    **walk,
                    "elasticity_of_ratio": slopes[context].get(name),
                }
            )
            columns = zip(along.values.tolist(), *(side.tolist() for side in sides), strict=True)
            rows += [
                {"kind": "point", **where, "value": value, "moe": a, "dense": b}
                for value, a, b in columns
            ]
    return rows


def _elasticities(moe: Model, q: float, service: Service, context: float) -> dict[str, float]:
    """d log ratio / d log input at the best deployments; empty where a side does not fit."""
    there = Service(service.cluster, Workload(context), service.efficiency)
    found = []
    for side in (moe, dense_twin(moe, q)):
        best = best_batch(side, there, legal_layouts(side, there.cluster))
        if not bool(best.feasible):
            return {}
        design = Design(side, there, best.deployment)
        slopes = sensitivity(jax.tree.map(np.asarray, design))
        found.append((slopes.relaxed or slopes.fixed).elasticity)
    return {name: found[1][known] - found[0][known] for name, known in SLOPES.items()}


def _walk(values: NDArray, moe: NDArray, dense: NDArray, own: float, whole: bool) -> Row:
    """Ratio at the ends and at the hardware as built, and every value at which the winner
    changes.
    """
    nearest = int(np.argmin(np.abs(np.log(values / own))))
    crossings = list(_crossings(values, moe, dense, whole))
    to_moe = [value for value, winner in crossings if winner == "moe wins"]
    return {
        "verdict_least": verdict(float(moe[0]), float(dense[0])),
        "verdict_own": verdict(float(moe[nearest]), float(dense[nearest])),
        "verdict_most": verdict(float(moe[-1]), float(dense[-1])),
        **{
            f"ratio_{name}": _ratio(moe[at], dense[at])
            for name, at in (("least", 0), ("own", nearest), ("most", -1))
        },
        "crossings": [value for value, _ in crossings],
        "moe_wins_above": to_moe[-1] if to_moe and crossings[-1][1] == "moe wins" else None,
        "moe_wins_above_own_times": to_moe[-1] / own
        if to_moe and crossings[-1][1] == "moe wins"
        else None,
        "least": float(values[0]),
        "most": float(values[-1]),
    }


def _ratio(moe: float, dense: float) -> float | None:
    return float(dense / moe) if moe and dense else None


def _crossings(
    values: NDArray, moe: NDArray, dense: NDArray, whole: bool
) -> Iterator[tuple[float, str]]:
    """Values and new winners, between points where both sides fit: interpolated in log, or the
    first of whole values.
    """
    outcomes = [verdict(float(a), float(b)) for a, b in zip(moe, dense, strict=True)]
    for low, high in itertools.pairwise(range(len(values))):
        if {outcomes[low], outcomes[high]} == {"dense wins", "moe wins"}:
            logs = [float(np.log(dense[at] / moe[at])) for at in (low, high)]
            share = logs[0] / (logs[0] - logs[1])
            between = values[low] * (values[high] / values[low]) ** share
            yield float(values[high] if whole else between), outcomes[high]


def figure(settings: Settings, walked: list[Row], points: list[Row]) -> Figure:
    """The ratio over every input on the first cluster, a line a context."""
    columns, rows = len(settings.inputs), len(settings.models)
    drawn, grid = style.subplots(
        rows,
        columns,
        2.5 * columns + 0.8,
        2.0 * rows + 1.0,
        sharey=True,
        sharex="col",
        squeeze=False,
    )
    for (row, model), (column, name) in itertools.product(
        enumerate(settings.models), enumerate(settings.inputs)
    ):
        axes, unit = grid[row][column], axis_unit(name)
        here = [
            each
            for each in points
            if (each["model"], each["cluster"], each["input"])
            == (model, settings.clusters[0], name)
        ]
        own = next(
            each["own"]
            for each in walked
            if each["input"] == name and each["cluster"] == settings.clusters[0]
        )
        axes.axhline(1.0, color=style.GREY, linewidth=1)
        axes.axvline(own / unit, color=style.GREY, linewidth=1, linestyle=":")
        for context, colour, mark in zip(settings.contexts, style.CYCLE, style.MARKS, strict=False):
            line = sorted(
                (each for each in here if each["context"] == context), key=itemgetter("value")
            )
            ratios = [
                np.nan if not (each["moe"] and each["dense"]) else each["dense"] / each["moe"]
                for each in line
            ]
            values = [each["value"] / unit for each in line]
            axes.plot(
                values,
                ratios,
                color=colour,
                marker=mark,
                markersize=2.5,
                linewidth=1.2,
                label=tokens_text(context),
            )
        _finish_axes(axes, name, unit, [each["value"] for each in here])
        if row == 0:
            axes.annotate(
                " as built",
                (own / unit, 0.97),
                xycoords=("data", "axes fraction"),
                fontsize=7,
                color=style.GREY,
                va="top",
            )
        if row == rows - 1:
            axes.set_xlabel(axis_label(name), fontsize=8.5)
        if column == 0:
            axes.set_ylabel(f"{style.name_of(model)}\ndense over MoE", fontsize=8.5)
    handles = grid[0][0].get_legend_handles_labels()
    drawn.legend(
        *handles,
        title="context [tokens]",
        loc="outside lower center",
        ncols=len(settings.contexts),
        frameon=False,
    )
    text = (
        f"Throughput of the dense twin over the MoE on {settings.clusters[0]}; below 1 the MoE wins"
    )
    drawn.suptitle(
        f"{text} ({settings.law} law, {settings.efficiency})", x=0.01, ha="left", fontsize=11
    )
    return drawn


def _finish_axes(axes, name: str, unit: float, values: list[float]) -> None:
    low, high = min(values) / unit, max(values) / unit
    if name == "domain":
        style.count_axis(axes.xaxis, low, high, every=2)
    else:
        tens = [lead * 10.0**power for power in range(-4, 8) for lead in (1, 3)]
        style.log_axis(axes.xaxis, [tick for tick in tens if low <= tick <= high])
    style.log_axis(axes.yaxis, [0.7, 1.0, 1.5, 2.0, 3.0], style.times)
    axes.set_ylim(*SHOWN)
    axes.tick_params(labelsize=8)
    style.plain(axes)


if __name__ == "__main__":
    study.start(main, Settings, "hardware_for_moe")
