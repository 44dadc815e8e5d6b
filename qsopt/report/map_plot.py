"""A map of who wins over two axes: colour for the ratio, hatching where a side does not fit or the
winner is unsure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from qsopt.maps.phase_map import PhaseMap
from qsopt.quality.belief import LEVEL
from qsopt.report.plot import BLUE, GREY, ORANGE, tokens_text
from qsopt.units import GB, MILLISECOND, TB

Grid = Float[np.ndarray, "x y"]

SPAN = 2.0
"""Powers of two of the ratio that the colours span on each side of 1."""

COLOURS = LinearSegmentedColormap.from_list("moe_dense", [BLUE, "#F7F7F7", ORANGE])

MOST_TICKS = 6

NOT_FIT = {
    "moe infeasible": ("#F3B27F", "////"),
    "dense infeasible": ("#8FBBD9", "\\\\\\\\"),
    "both infeasible": ("#BBBBBB", "xxxx"),
}
"""Colour and hatching of points where a side has no deployment."""


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
    def of(cls, found: PhaseMap) -> "Picture":
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


@dataclass(frozen=True)
class _Form:
    """How an axis is told."""

    label: str
    unit: float = 1.0
    """The label's unit in SI."""
    base: int = 2
    """Ticks are powers of 2, or 1, 2 and 5 times powers of 10."""
    text: Callable[..., str] = lambda value, _=None: f"{value:g}"


_FORMS = {
    "context": _Form("context length [tokens]", text=tokens_text),
    "batch": _Form("sequences decoding at once in the cluster", text=tokens_text),
    "devices": _Form("devices"),
    "bandwidth": _Form("memory bandwidth [TB/s]", TB, 10),
    "capacity": _Form("memory per device [GB]", GB, 10),
    "scale_up": _Form("links inside the domain [GB/s]", GB, 10),
    "scale_out": _Form("links between domains [GB/s]", GB, 10),
    "domain": _Form("devices of a scale-up domain"),
    "sparsity": _Form("s, active over total parameters", base=10),
    "q": _Form("q, dense twin over active parameters", base=10),
    "tpot": _Form("longest time per token [ms]", MILLISECOND, 10),
}


def axis_label(name: str) -> str:
    """Words and unit of an axis."""
    return _FORMS[name].label


def axis_unit(name: str) -> float:
    """The unit of an axis' label in SI."""
    return _FORMS[name].unit


def plot_map(found: PhaseMap, title: str, path: Path, marks: Sequence[Mark] = ()) -> None:
    """Write a map to a PNG file."""
    picture = Picture.of(found)
    figure, axes = plt.subplots(figsize=(8, 5.6), layout="constrained")
    mesh = draw_map(axes, picture, marks)
    axes.set_xlabel(axis_label(picture.x_name))
    axes.set_ylabel(axis_label(picture.y_name))
    axes.set_title(title, loc="left", fontsize=11)
    finish(figure, mesh, [axes], [picture])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_map(axes: Axes, picture: Picture, marks: Sequence[Mark] = ()) -> QuadMesh:
    """Draw a map into axes, without labels of the axes; returns what a colour bar is made for."""
    form_x, form_y = _FORMS[picture.x_name], _FORMS[picture.y_name]
    x, y = picture.x / form_x.unit, picture.y / form_y.unit
    both = (picture.moe > 0.0) & (picture.dense > 0.0)
    logs = np.where(
        both, np.log2(np.where(both, picture.dense, 1.0) / np.where(both, picture.moe, 1.0)), np.nan
    )
    edges = _edges(x), _edges(y)
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
        axes.plot(
            mark.x / form_x.unit,
            mark.y / form_y.unit,
            "*",
            color="black",
            markersize=11,
            markeredgecolor="white",
        )
        right = mark.x / form_x.unit > np.sqrt(x[0] * x[-1])
        axes.annotate(
            mark.text,
            (mark.x / form_x.unit, mark.y / form_y.unit),
            xytext=(-6 if right else 6, 5),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=7.5,
            bbox={
                "boxstyle": "round,pad=0.15",
                "facecolor": "white",
                "alpha": 0.75,
                "linewidth": 0,
            },
        )
    for axis, values, form in ((axes.xaxis, x, form_x), (axes.yaxis, y, form_y)):
        axis.set_major_locator(FixedLocator(ticks(values[0], values[-1], form.base)))
        axis.set_major_formatter(FuncFormatter(form.text))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlim(edges[0][0], edges[0][-1])
    axes.set_ylim(edges[1][0], edges[1][-1])
    return mesh


def finish(
    figure: Figure, mesh: QuadMesh, axes: Sequence[Axes], pictures: Sequence[Picture]
) -> None:
    """Colour bar and a legend of what the maps of a figure hold."""
    bar = figure.colorbar(mesh, ax=list(axes), shrink=0.8, aspect=30, pad=0.02)
    steps = np.arange(-SPAN, SPAN + 1)
    bar.set_ticks(list(steps), labels=[_advantage(step) for step in steps])
    bar.set_label("which side has more throughput")
    handles: list = [Line2D([], [], color="black", linewidth=1.8, label="equal throughput")]
    if any(_crosses(np.log2(picture.qs)) for picture in pictures):
        handles.append(
            Line2D([], [], color="black", linewidth=1.2, linestyle="--", label="q s = 1")
        )
    if any(picture.unsure is not None and picture.unsure.any() for picture in pictures):
        handles.append(
            Patch(
                facecolor="white",
                edgecolor=GREY,
                hatch="...",
                label=f"winner depends on q ({LEVEL:.0%} interval)",
            )
        )
    if any(picture.believed is not None and picture.believed.any() for picture in pictures):
        handles.append(
            Patch(
                facecolor="white",
                edgecolor=GREY,
                hatch="...",
                label=f"q by the law ({LEVEL:.0%} interval)",
            )
        )
    words = {
        "moe infeasible": "only dense fits",
        "dense infeasible": "only MoE fits",
        "both infeasible": "neither fits",
    }
    for outcome, (colour, hatch) in NOT_FIT.items():
        if any(_is(outcome, picture).any() for picture in pictures):
            handles.append(
                Patch(facecolor=colour, edgecolor="white", hatch=hatch, label=words[outcome])
            )
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), 3),
        fontsize=9,
        frameon=False,
    )


def ticks(low: float, high: float, base: int) -> list[float]:
    """At most `MOST_TICKS` round values between two ends."""
    if base == 2:
        powers = np.arange(np.ceil(np.log2(low) - 1e-9), np.floor(np.log2(high) + 1e-9) + 1)
        return [2.0**power for power in powers[:: -(-len(powers) // MOST_TICKS)]]
    tens = [10.0**power for power in range(-6, 16)]
    for leads in ((1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        found = [
            lead * ten
            for ten in tens
            for lead in leads
            if low * 0.999 <= lead * ten <= high * 1.001
        ]
        if len(found) <= MOST_TICKS:
            break
    return found  # pyright: ignore[reportPossiblyUnboundVariable]


def _advantage(log2_ratio: float) -> str:
    if log2_ratio == 0:
        return "equal"
    return f"{'dense' if log2_ratio > 0 else 'MoE'} {2 ** abs(log2_ratio):g}x"


def _edges(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " edges"]:
    """Borders of cells around values, in the middle in log."""
    logs = np.log(values)
    middle = (logs[1:] + logs[:-1]) / 2.0
    return np.exp(np.concatenate([[2 * logs[0] - middle[0]], middle, [2 * logs[-1] - middle[-1]]]))


def _is(outcome: str, picture: Picture) -> Bool[np.ndarray, "x y"]:
    """Where a map has this verdict."""
    moe, dense = picture.moe > 0.0, picture.dense > 0.0
    return {
        "moe infeasible": ~moe & dense,
        "dense infeasible": moe & ~dense,
        "both infeasible": ~moe & ~dense,
    }[outcome]


def _mark_not_fit(axes: Axes, edges: tuple[np.ndarray, np.ndarray], picture: Picture) -> None:
    for outcome, (colour, hatch) in NOT_FIT.items():
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
