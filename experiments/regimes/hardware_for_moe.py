"""What hardware would make the MoE win: more memory, faster memory, faster links, or larger
domains?

`python -m experiments.regimes.hardware_for_moe` writes a row for every walk along an input, its
points, and a figure of them, into `results/hardware_for_moe`.

One input of a cluster moves at a time, both sides at their exact optimum. A walk has the ratio
along the input, the values at which the winner changes (between two points of the walk, in log),
and the elasticity of the ratio at the hardware as built: that of the dense twin's throughput less
that of the MoE's, both with the batch that fills their memory.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiments.framework import study, style
from experiments.framework.pieces import Row
from qsopt import belief
from qsopt.api.names import load_efficiency
from qsopt.catalog.accelerators import load_cluster
from qsopt.catalog.models import load_model, model_facts
from qsopt.comparison.compare import verdict
from qsopt.comparison.twin import dense_twin
from qsopt.deployments.layouts import legal_layouts
from qsopt.deployments.request import best_batch
from qsopt.files import write_text
from qsopt.maps.axes import Axis, axis
from qsopt.maps.phase_map import phase_map
from qsopt.maps.points import SERVICE_NUMBERS
from qsopt.report.map_axes import axis_label, axis_unit
from qsopt.report.plot import tokens_text
from qsopt.slopes.inputs import Design
from qsopt.slopes.sensitivity import sensitivity
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
        write_text(run.folder / "points.csv", study.table(points))
        run.write(
            [row for row in rows if row["kind"] == "walk"],
            lambda walked: draw(settings, walked, points),
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
    known = belief(moe, law, model_facts(model).training_tokens, raw=True)
    service = Service(load_cluster(cluster), Workload(contexts[0]), load_efficiency(efficiency))
    rows = []
    slopes = {context: _elasticities(moe, known.q, service, context) for context in contexts}
    for name in inputs:
        own = float(SERVICE_NUMBERS[name](service))
        along = axis(name, moe, service, own / factor, own * factor, points)
        if name == "domain":
            along = Axis("domain", np.array(sorted({*DOMAINS, own})))
        across = Axis("context", np.array(contexts))
        outcome = phase_map(moe, service, along, across, lambda _: known, interval=False)
        for place, context in enumerate(contexts):
            sides = outcome.moe.throughput[:, place], outcome.dense.throughput[:, place]
            where = {"model": model, "cluster": cluster, "input": name, "context": context}
            elasticity = {"own": own, "elasticity_of_ratio": slopes[context].get(name)}
            summary = walk(along.values, *sides, own, along.kind.whole)
            rows.append({"kind": "walk", **where, **elasticity, **summary})
            rows += [
                {"kind": "point", **where, "value": value, "moe": moe_rate, "dense": dense_rate}
                for value, moe_rate, dense_rate in np.column_stack([along.values, *sides]).tolist()
            ]
    return rows


def _elasticities(moe: Model, q: float, service: Service, context: float) -> dict[str, float]:
    """d log ratio / d log input at the best deployments; empty where a side does not fit."""
    there = Service(service.cluster, Workload(context), service.efficiency)
    moved = []
    for side in (moe, dense_twin(moe, q)):
        best = best_batch(side, there, legal_layouts(side, there.cluster))
        if not bool(best.feasible):
            return {}
        design = Design(side, there, best.deployment)
        slopes = sensitivity(jax.tree.map(np.asarray, design))
        moved.append((slopes.relaxed or slopes.fixed).elasticity)
    return {name: moved[1][key] - moved[0][key] for name, key in SLOPES.items()}


def walk(values: NDArray, moe: NDArray, dense: NDArray, own: float, whole: bool) -> Row:
    """Ratio at the ends and at the hardware as built, and every value at which the winner
    changes.
    """
    nearest = int(np.argmin(np.abs(np.log(values / own))))
    changes = list(crossings(values, moe, dense, whole))
    for_good = changes[-1][0] if changes and changes[-1][1] == "moe wins" else None
    return {
        "verdict_least": verdict(float(moe[0]), float(dense[0])),
        "verdict_own": verdict(float(moe[nearest]), float(dense[nearest])),
        "verdict_most": verdict(float(moe[-1]), float(dense[-1])),
        **{
            f"ratio_{name}": _ratio(moe[at], dense[at])
            for name, at in (("least", 0), ("own", nearest), ("most", -1))
        },
        "crossings": [value for value, _ in changes],
        "moe_wins_above": for_good,
        "moe_wins_above_own_times": None if for_good is None else for_good / own,
        "least": float(values[0]),
        "most": float(values[-1]),
    }


def _ratio(moe: float, dense: float) -> float | None:
    return float(dense / moe) if moe and dense else None


def crossings(
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


# ---- figure --------------------------------------------------------------------------------------


def draw(settings: Settings, walked: list[Row], points: list[Row]) -> Figure:
    """The ratio over every input on the first cluster, a line a context."""
    columns, rows = len(settings.inputs), len(settings.models)
    size = 2.5 * columns + 0.8, 2.0 * rows + 1.0
    figure, grid = style.subplots(rows, columns, *size, sharey=True, sharex="col", squeeze=False)
    cluster = settings.clusters[0]
    own = {row["input"]: row["own"] for row in walked if row["cluster"] == cluster}
    for (row, model), (column, name) in itertools.product(
        enumerate(settings.models), enumerate(settings.inputs)
    ):
        place = {"model": model, "cluster": cluster, "input": name}
        axes = grid[row][column]
        _panel(axes, name, own[name], [at for at in points if place.items() <= at.items()])
        if row == 0:
            _mark_own(axes, own[name] / axis_unit(name))
        if row == rows - 1:
            axes.set_xlabel(axis_label(name), fontsize=8.5)
        if column == 0:
            axes.set_ylabel(f"{style.display_name(model)}\ndense over MoE", fontsize=8.5)
    figure.legend(
        *grid[0][0].get_legend_handles_labels(),
        title="context [tokens]",
        loc="outside lower center",
        ncols=len(settings.contexts),
        frameon=False,
    )
    text = f"Throughput of the dense twin over the MoE on {cluster}; below 1 the MoE wins"
    sets = f"({settings.law} law, {settings.efficiency})"
    figure.suptitle(f"{text} {sets}", x=0.01, ha="left", fontsize=11)
    return figure


def _panel(axes: Axes, name: str, own: float, points: list[Row]) -> None:
    """The ratio along one input, a line a context."""
    unit = axis_unit(name)
    axes.axhline(1.0, color=style.GREY, linewidth=1)
    axes.axvline(own / unit, color=style.GREY, linewidth=1, linestyle=":")
    contexts = dict.fromkeys(point["context"] for point in points)
    for context, colour, mark in zip(contexts, style.CYCLE, style.MARKS, strict=False):
        line = sorted(
            (point for point in points if point["context"] == context), key=itemgetter("value")
        )
        axes.plot(
            [point["value"] / unit for point in line],
            [_ratio(point["moe"], point["dense"]) or np.nan for point in line],
            color=colour,
            marker=mark,
            markersize=2.5,
            linewidth=1.2,
            label=tokens_text(context),
        )
    _finish_axes(axes, name, unit, [point["value"] for point in points])


def _mark_own(axes: Axes, own: float) -> None:
    axes.annotate(
        " as built",
        (own, 0.97),
        xycoords=("data", "axes fraction"),
        fontsize=7,
        color=style.GREY,
        va="top",
    )


def _finish_axes(axes: Axes, name: str, unit: float, values: list[float]) -> None:
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
