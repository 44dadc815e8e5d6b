"""A plot of what comes of a claim."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from qsopt.claims.paper import Picture
from qsopt.report.plot import plt, save
from qsopt.report.style import AMBER, BLUE, GREEN, GREY, ORANGE, PURPLE

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, AMBER, GREY)
"""Of series, in this order."""


def plot_claim(rows: list[dict[str, Any]], picture: Picture, path: Path) -> None:
    """Write the rows of a claim as a plot, and its numbers to a CSV file beside it."""
    figure, axes = plt.subplots(figsize=(9.5, 4.5), layout="constrained")
    shown = _by_side(rows) if picture.series == "side" else rows
    series = list(dict.fromkeys(row[picture.series] for row in shown))
    if isinstance(shown[0][picture.x], str):
        _bars(axes, shown, series, picture)
    else:
        _lines(axes, shown, series, picture)
    if picture.y.startswith("ratio"):
        axes.axhline(1.0, color=GREY, linewidth=1)
    axes.set_yscale("log")
    axes.set_xlabel(picture.x.replace("_", " "))
    axes.set_ylabel(_WORDS.get(picture.y, picture.y.replace("_", " ")))
    axes.set_title(picture.title, loc="left", fontsize=11)
    hollow = any(row.get("beyond_trained_context") for row in shown)
    note = "hollow: beyond the trained context" if hollow else None
    beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "alignment": "left"}
    axes.legend(frameon=False, fontsize=9, title=note, title_fontsize=9, **beside)
    save(figure, path, rows)


_WORDS = {
    "ratio_dense_over_moe": "throughput, dense over MoE",
    "of_dense": "tokens per read over those of a dense layer",
}


def _by_side(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each side instead of a column."""
    return [
        {**row, "side": words, "devices": row[f"{side}_devices"]}
        for side, words in (("moe", "MoE"), ("dense", "dense match"))
        for row in rows
    ]


def _bars(axes: Axes, rows: list[dict[str, Any]], series: list[str], picture: Picture) -> None:
    places = list(dict.fromkeys(row[picture.x] for row in rows))
    width = 0.8 / len(series)
    for number, name in enumerate(series):
        kept = [row for row in rows if row[picture.series] == name and row[picture.y]]
        across = [places.index(row[picture.x]) + (number - 0.5) * width for row in kept]
        heights = [row[picture.y] for row in kept]
        axes.bar(across, heights, width, color=COLOURS[number % len(COLOURS)], label=name)
    axes.set_xticks(range(len(places)), places)


def _lines(axes: Axes, rows: list[dict[str, Any]], series: list[str], picture: Picture) -> None:
    views = list(dict.fromkeys(row.get("view", "") for row in rows))
    for number, name in enumerate(series):
        for view, style in zip(views, ("-", "--"), strict=False):
            kept = [
                row
                for row in rows
                if row[picture.series] == name
                and row.get("view", "") == view
                and row[picture.y] is not None
            ]
            if not kept:
                continue
            points = sorted((row[picture.x], row[picture.y]) for row in kept)
            label = name if view in ("", name) else f"{name}, {view}"
            joined = "" if picture.x == "qs" else style
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(*zip(*points, strict=True), joined, marker="o", color=colour, label=label)
            _hollow(axes, kept, picture, colour)
    axes.set_xscale("log")


def _hollow(axes: Axes, rows: list[dict[str, Any]], picture: Picture, colour: str) -> None:
    """Points beyond what a model was made for, empty."""
    beyond = [row for row in rows if row.get("beyond_trained_context")]
    if beyond:
        points = zip(*((row[picture.x], row[picture.y]) for row in beyond), strict=True)
        axes.plot(*points, "o", color=colour, markerfacecolor="white")
