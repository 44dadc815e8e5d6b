"""Where does the MoE win and where its dense twin, over context, cluster size, batch, memory,
sparsity and quality?

`python -m experiments.regimes.phase_maps` writes the shares of every map, its points, and a figure
for each model and pair of axes, into `results/phase_maps`.

One map for each model, accelerator and pair of axes, both sides at their exact optimum at every
point. The same maps under ideal efficiencies tell where the bound would conclude otherwise.
"""

import tomllib
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.framework import study, style
from experiments.framework.pieces import Row
from qsopt import belief
from qsopt.api.names import load_efficiency
from qsopt.catalog.accelerators import load_cluster
from qsopt.catalog.models import load_model, model_facts
from qsopt.files import write_text
from qsopt.maps.axes import axis
from qsopt.maps.phase_map import phase_map
from qsopt.maps.points import Sparsity
from qsopt.report.map_axes import axis_label
from qsopt.report.map_plot import Mark, Picture, draw_map, finish
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

RANGES = {
    "bandwidth": (0.8e12, 16e12),
    "capacity": (24e9, 512e9),
    "context": (2.0**10, 2.0**20),
    "batch": (1.0, 2.0**14),
}
"""The same on all accelerators, so that panels can be compared; axes that are not here take the
model's own range.
"""


@dataclass(frozen=True)
class Settings(study.Settings):
    """What is mapped."""

    pairs: tuple[tuple[str, str], ...]
    """Axes to the right and upwards."""
    models: tuple[str, ...]
    accelerators: tuple[str, ...]
    law: str
    """That gives q and its interval."""
    efficiency: str
    """Set of the maps that are drawn."""
    bound_pairs: tuple[tuple[str, str], ...]
    """Pairs that are mapped under ideal efficiencies too, to tell where the bound would conclude
    otherwise.
    """
    points: int
    """Along each axis."""
    context: float
    """Where it is no axis [tokens]."""
    devices: int
    """Where they are no axis."""
    most_devices: int
    """Where they are one."""


def main(settings: Settings) -> None:
    with study.Study("phase_maps", settings) as run:
        fixed = {
            name: getattr(settings, name)
            for name in ("law", "points", "context", "devices", "most_devices")
        }
        wanted = [(settings.efficiency, pair) for pair in settings.pairs] + [
            ("ideal", pair) for pair in settings.bound_pairs
        ]
        keys = [
            {
                "model": model,
                "x": x,
                "y": y,
                "accelerator": accelerator,
                "efficiency": efficiency,
                **fixed,
            }
            for model in settings.models
            for efficiency, (x, y) in wanted
            for accelerator in settings.accelerators
        ]
        pieces = run.pieces(keys, map_points)
        maps = [
            ({name: key[name] for name in (*PLACE, "efficiency")}, rows)
            for key, rows in zip(keys, pieces, strict=True)
        ]
        write_text(
            run.folder / "points.csv",
            study.table([{**key, **row} for key, rows in maps for row in rows]),
        )
        drawn = {
            _place(key): rows for key, rows in maps if key["efficiency"] == settings.efficiency
        }
        shares = [{**key, **summary(rows, drawn[_place(key)])} for key, rows in maps]
        run.write(shares, lambda _: figures(settings, drawn), operating_points=operating_points())


PLACE = ("model", "x", "y", "accelerator")
"""What names a map that is drawn."""


def _place(key: Row) -> tuple[str, ...]:
    return tuple(key[name] for name in PLACE)


def map_points(
    model: str,
    accelerator: str,
    efficiency: str,
    x: str,
    y: str,
    law: str,
    points: int,
    context: float,
    devices: int,
    **more: Any,
) -> list[Row]:
    """Rows of one map, a row a point."""
    moe, tokens = load_model(model), model_facts(model).training_tokens
    cluster = load_cluster(f"{devices}x{accelerator}")
    service = Service(cluster, Workload(context=context), load_efficiency(efficiency))
    ranges = RANGES | {"devices": (1.0, float(more["most_devices"]))}
    across, up = (
        axis(name, moe, service, *ranges.get(name, (None, None)), points=points) for name in (x, y)
    )
    known = partial(belief, law=law, tokens=tokens, raw=True)
    outcome = phase_map(moe, service, across, up, known, interval=efficiency != "ideal")
    columns = {
        "x_value": np.broadcast_to(across.values[:, None], outcome.q.shape),
        "y_value": np.broadcast_to(up.values, outcome.q.shape),
        "moe": outcome.moe.throughput,
        "dense": outcome.dense.throughput,
        "ratio": outcome.ratio,
        "verdict": np.array(outcome.verdicts),
        "s": outcome.s,
        "q": outcome.q,
        "unsure": _flags(None if outcome.sure is None else ~outcome.sure, outcome.q.shape),
        "believed": _flags(outcome.believed, outcome.q.shape),
    }
    values = [column.ravel().tolist() for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def _flags(flags: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, None) if flags is None else flags


def summary(rows: list[Row], drawn: list[Row]) -> Row:
    """Shares of a map's points, extremes of the ratio, and how often the qs criterion and the map
    that is drawn agree.
    """
    counts = Counter(row["verdict"] for row in rows)
    decided = [row for row in rows if row["verdict"] in ("dense wins", "moe wins")]
    ratios = [row["ratio"] for row in decided] or [np.nan]
    foretold = [(row["q"] * row["s"] < 1.0) == (row["verdict"] == "dense wins") for row in decided]
    outcomes = ("dense wins", "moe wins", "moe infeasible", "dense infeasible", "both infeasible")
    shares = {
        f"share_{outcome.replace(' ', '_')}": counts[outcome] / len(rows) for outcome in outcomes
    }
    pairs = zip(rows, drawn, strict=True)
    unsure = [row["unsure"] for row in decided if row["unsure"] is not None]
    return {
        "points": len(rows),
        **shares,
        "ratio_least": min(ratios),
        "ratio_median": float(np.median(ratios)),
        "ratio_most": max(ratios),
        "share_unsure": float(np.mean(unsure)) if unsure else None,
        "qs_least": min(row["q"] * row["s"] for row in rows),
        "qs_most": max(row["q"] * row["s"] for row in rows),
        "qs_calls_it_right": float(np.mean(foretold)) if foretold else None,
        "share_verdict_differs_from_drawn": float(
            np.mean([one["verdict"] != other["verdict"] for one, other in pairs])
        ),
    }


def operating_points() -> list[Row]:
    """Real deployments with their sources."""
    return tomllib.loads((study.SETTINGS / "operating_points.toml").read_text())["points"]


# ---- figures -------------------------------------------------------------------------------------


def figures(settings: Settings, maps: dict[tuple[str, ...], list[Row]]) -> dict[str, Figure]:
    """One figure for each model and pair of axes, with a panel for each accelerator."""
    return {
        f"{x}_{y}_{model}": _figure(
            settings, model, x, y, [maps[model, x, y, name] for name in settings.accelerators]
        )
        for model in settings.models
        for x, y in settings.pairs
    }


def _figure(settings: Settings, model: str, x: str, y: str, panels: list[list[Row]]) -> Figure:
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure, grid = style.subplots(
        rows, columns, 2.9 * columns + 1.2, 2.6 * rows + 0.9, squeeze=False, sharex=x in RANGES
    )
    pictures = [_picture(x, y, panel) for panel in panels]
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    meshes = []
    for axes, accelerator, picture in zip(grid.flat, settings.accelerators, pictures, strict=False):
        meshes.append(draw_map(axes, picture, _marks(settings, model, accelerator, x, y)))
        axes.set_title(style.display_name(accelerator), fontsize=10)
        axes.tick_params(labelsize=8)
    for axes in grid[-1]:
        axes.set_xlabel(axis_label(x), fontsize=8.5)
    for axes in grid[:, 0]:
        axes.set_ylabel(axis_label(y), fontsize=8.5)
    figure.suptitle(_title(settings, model, x, y), fontsize=11, x=0.01, ha="left")
    finish(figure, meshes[-1], list(grid.flat), pictures)
    return figure


def _title(settings: Settings, model: str, x: str, y: str) -> str:
    fixed = [] if "devices" in (x, y) else [f"{settings.devices} devices"]
    fixed += [] if "context" in (x, y) else [f"{settings.context / 1024:g}k tokens of context"]
    law = "" if "q" in (x, y) else f", q by the {settings.law} law"
    return (
        ", ".join([f"{style.display_name(model)} against its dense twin", *fixed])
        + f"{law}; {settings.efficiency} efficiencies"
    )


def _picture(x: str, y: str, rows: list[Row]) -> Picture:
    values = [np.array(sorted({row[name] for row in rows})) for name in ("x_value", "y_value")]
    shape = (len(values[0]), len(values[1]))

    def column(name: str) -> np.ndarray:
        return np.array([row[name] for row in rows]).reshape(shape)

    flags = {
        name: None if rows[0][name] is None else column(name).astype(bool)
        for name in ("unsure", "believed")
    }
    return Picture(
        x,
        y,
        values[0],
        values[1],
        column("moe"),
        column("dense"),
        column("q") * column("s"),
        **flags,
    )


def _marks(settings: Settings, model: str, accelerator: str, x: str, y: str) -> list[Mark]:
    """Real deployments, the accelerator's own memory, or the model's own s and q."""
    if {x, y} == {"bandwidth", "capacity"}:
        chip = load_cluster(f"1x{accelerator}").accelerator
        own = {"bandwidth": float(chip.bandwidth), "capacity": float(chip.memory_bytes)}
        return [Mark(own[x], own[y], "as built")]
    if {x, y} == {"sparsity", "q"}:
        q = belief(load_model(model), settings.law, model_facts(model).training_tokens, raw=True).q
        own = {"sparsity": Sparsity.from_model(load_model(model)).own, "q": q}
        return [Mark(own[x], own[y], "as trained")]
    here = [
        point
        for point in operating_points()
        if (point["model"], point["accelerator"]) == (model, accelerator)
    ]
    return [Mark(point[x], point[y], point["text"]) for point in here if {x, y} <= point.keys()]


if __name__ == "__main__":
    study.start(main, Settings, "phase_maps")
