"""A map of who wins over two axes: colour for the ratio, hatching where a side does not fit or the
winner is unsure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from qsopt.maps.phase_map import PhaseMap
from qsopt.maps.request_map import RequestMap
from qsopt.quality.belief import LEVEL
from qsopt.report.map_axes import FORMS, axis_label, cell_edges, set_ticks
from qsopt.report.plot import save
from qsopt.report.style import BLUE, GREY, NEITHER, ONLY_DENSE, ONLY_MOE, ORANGE, PALE, SPAN

Grid = Float[np.ndarray, "x y"]

COLOURS = LinearSegmentedColormap.from_list("moe_dense", [BLUE, PALE, ORANGE])

NOT_FIT = {
    "moe infeasible": (ONLY_DENSE, "////", "only dense fits"),
    "dense infeasible": (ONLY_MOE, "\\\\\\\\", "only MoE fits"),
    "both infeasible": (NEITHER, "xxxx", "neither fits"),
}
"""Colour, hatching and words of points where a side has no deployment."""


@dataclass(frozen=True)
class Picture:
    """What is drawn of a map; arrays are [x, y]."""

    x_name: str
    y_name: str
    x: Float[np.ndarray, " x"]
    y: Float[np.ndarray, " y"]
    moe: Grid
    """Throughput, 0 where infeasible [tokens/s]."""
    dense: Grid
    qs: Grid
    unsure: Bool[np.ndarray, "x y"] | None = None
    """Points whose winner depends on q within its interval."""
    believed: Bool[np.ndarray, "x y"] | None = None
    """Points in the interval of q, where q is an axis."""

    @classmethod
    def of(cls, found: PhaseMap | RequestMap) -> "Picture":
        """Of a map."""
        sides = found.moe.throughput, found.dense.throughput
        unsure = None if found.sure is None else ~found.sure
        axes = found.x.name, found.y.name, found.x.values, found.y.values
        return cls(*axes, *sides, found.qs, unsure, found.believed)


@dataclass(frozen=True)
class Mark:
    """A point of a map that is pointed out."""

    x: float
    y: float
    text: str


def plot_map(
    found: PhaseMap | RequestMap, title: str, path: Path, marks: Sequence[Mark] = ()
) -> None:
    """Write a map, and its numbers to a CSV file beside it."""
    picture = Picture.of(found)
    figure, axes = plt.subplots(figsize=(8, 5.6), layout="constrained")
    mesh = draw_map(axes, picture, marks)
    axes.set_xlabel(axis_label(picture.x_name))
    axes.set_ylabel(axis_label(picture.y_name))
    axes.set_title(title, loc="left", fontsize=11)
    finish(figure, mesh, [axes], [picture])
    save(figure, path, map_rows(found))


def map_rows(found: PhaseMap | RequestMap) -> list[dict[str, Any]]:
    """Points of a map as a table has them."""
    return [
        {
            found.x.name: float(found.x.values[i]),
            found.y.name: float(found.y.values[j]),
            "verdict": found.verdicts[i][j],
            "ratio_dense_over_moe": float(found.ratio[i, j]),
            "q": float(found.q[i, j]),
            "sure": None if found.sure is None else bool(found.sure[i, j]),
            "moe_tokens_per_s": float(found.moe.throughput[i, j]),
            "dense_tokens_per_s": float(found.dense.throughput[i, j]),
        }
        for i, j in np.ndindex(found.ratio.shape)
    ]


def draw_map(axes: Axes, picture: Picture, marks: Sequence[Mark] = ()) -> QuadMesh:
    """Draw a map into axes, without labels of the axes; returns what a colour bar is made for."""
    form_x, form_y = FORMS[picture.x_name], FORMS[picture.y_name]
    x, y = picture.x / form_x.unit, picture.y / form_y.unit
    both = (picture.moe > 0.0) & (picture.dense > 0.0)
    logs = np.where(
        both, np.log2(np.where(both, picture.dense, 1.0) / np.where(both, picture.moe, 1.0)), np.nan
    )
    edges = cell_edges(x), cell_edges(y)
    mesh = axes.pcolormesh(
        *edges, np.clip(logs, -SPAN, SPAN).T, cmap=COLOURS, vmin=-SPAN, vmax=SPAN, rasterized=True
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    _mark_not_fit(axes, edges, picture)
    for stippled in (picture.unsure, picture.believed):
        if stippled is not None:
            _hatch(axes, edges, stippled & both, "...", "#888888")
    _contour(axes, x, y, logs, "-", 1.8)
    _contour(axes, x, y, np.log2(picture.qs), "--", 1.2)
    for mark in marks:
        here = mark.x / form_x.unit, mark.y / form_y.unit
        _point_out(axes, here, mark.text, to_the_left=here[0] > np.sqrt(x[0] * x[-1]))
    set_ticks(axes.xaxis, x, form_x)
    set_ticks(axes.yaxis, y, form_y)
    axes.set_xlim(edges[0][0], edges[0][-1])
    axes.set_ylim(edges[1][0], edges[1][-1])
    return mesh


def _point_out(axes: Axes, here: tuple[float, float], text: str, to_the_left: bool) -> None:
    """A star, and its words on the side where there is room."""
    axes.plot(*here, "*", color="black", markersize=11, markeredgecolor="white")
    axes.annotate(
        text,
        here,
        xytext=(-6 if to_the_left else 6, 5),
        textcoords="offset points",
        ha="right" if to_the_left else "left",
        fontsize=7.5,
        bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.75, "linewidth": 0},
    )


def finish(
    figure: Figure, mesh: QuadMesh, axes: Sequence[Axes], pictures: Sequence[Picture]
) -> None:
    """Colour bar and a legend of what the maps of a figure hold."""
    bar = figure.colorbar(mesh, ax=list(axes), shrink=0.8, aspect=30, pad=0.02)
    steps = np.arange(-SPAN, SPAN + 1)
    bar.set_ticks(list(steps), labels=[_advantage(step) for step in steps])
    bar.set_label("which side has more throughput")
    handles = [*_lines(pictures), *_areas(pictures)]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), 3),
        fontsize=9,
        frameon=False,
    )


def _lines(pictures: Sequence[Picture]) -> Iterator[Line2D]:
    """Of the legend."""
    yield Line2D([], [], color="black", linewidth=1.8, label="equal throughput")
    if any(_crosses(np.log2(picture.qs)) for picture in pictures):
        yield Line2D([], [], color="black", linewidth=1.2, linestyle="--", label="q s = 1")


def _areas(pictures: Sequence[Picture]) -> Iterator[Patch]:
    """Of the legend: what is stippled, and where a side does not fit."""
    stippled = {
        f"winner depends on q ({LEVEL:.0%} interval)": [picture.unsure for picture in pictures],
        f"q by the law ({LEVEL:.0%} interval)": [picture.believed for picture in pictures],
    }
    for words, areas in stippled.items():
        if any(area is not None and area.any() for area in areas):
            yield Patch(facecolor="white", edgecolor=GREY, hatch="...", label=words)
    for outcome, (colour, hatch, words) in NOT_FIT.items():
        if any(_is(outcome, picture).any() for picture in pictures):
            yield Patch(facecolor=colour, edgecolor="white", hatch=hatch, label=words)


def _advantage(log2_ratio: float) -> str:
    if log2_ratio == 0:
        return "equal"
    return f"{'dense' if log2_ratio > 0 else 'MoE'} {2 ** abs(log2_ratio):g}x"


def _is(outcome: str, picture: Picture) -> Bool[np.ndarray, "x y"]:
    """Where a map has this verdict."""
    moe, dense = picture.moe > 0.0, picture.dense > 0.0
    return {
        "moe infeasible": ~moe & dense,
        "dense infeasible": moe & ~dense,
        "both infeasible": ~moe & ~dense,
    }[outcome]


def _mark_not_fit(axes: Axes, edges: tuple[np.ndarray, np.ndarray], picture: Picture) -> None:
    for outcome, (colour, hatch, _) in NOT_FIT.items():
        there = _is(outcome, picture)
        if there.any():
            axes.pcolormesh(*edges, _only(there), cmap=ListedColormap([colour]), rasterized=True)
            _hatch(axes, edges, there, hatch, "white")


def _hatch(
    axes: Axes,
    edges: tuple[np.ndarray, np.ndarray],
    there: Bool[np.ndarray, "x y"],
    hatch: str,
    colour: str,
) -> None:
    """Hatching over some cells, and nothing else; cells beside each other are one path, as every
    path costs time.
    """
    across, up = edges
    paths = []
    for j, row in enumerate(there.T):
        ends = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(int)))
        for first, last in zip(across[ends[::2]], across[ends[1::2]], strict=True):
            paths.append([(first, up[j]), (last, up[j]), (last, up[j + 1]), (first, up[j + 1])])
    axes.add_collection(
        PolyCollection(paths, hatch=hatch, facecolor="none", edgecolor=colour, linewidth=0.0)
    )


def _only(there: Bool[np.ndarray, "x y"]) -> np.ma.MaskedArray:
    """An array for a mesh that has only these cells."""
    return np.ma.masked_where(~there, np.ones(there.shape)).T


def _crosses(logs: Grid) -> bool:
    return bool(np.nanmin(logs) < 0.0 < np.nanmax(logs))


def _contour(
    axes: Axes, x: np.ndarray, y: np.ndarray, logs: Grid, style: str, width: float
) -> None:
    """The line where a log is 0, if there is one."""
    if np.isfinite(logs).any() and _crosses(logs):
        axes.contour(
            x,
            y,
            np.ma.masked_invalid(logs).T,
            levels=[0.0],
            colors="black",
            linestyles=style,
            linewidths=width,
        )
