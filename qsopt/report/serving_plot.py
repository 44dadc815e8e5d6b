"""The front of throughput against speed as a plot, or as a table of numbers."""

from pathlib import Path
from typing import Any

from qsopt.files import PLOTS, write_text
from qsopt.report.records import csv_text

ENDINGS = (*PLOTS, ".csv")
"""Endings of the files that can be written."""


def write_front(points: list[dict[str, Any]], title: str, path: Path) -> None:
    """Write the front.

    Args:
        points: `pareto` of a record of `qsopt serve`.
        title: of the plot.
        path: file to write, of one of `ENDINGS`.
    """
    if path.suffix == ".csv":
        write_text(path, csv_text(_rows(points)))
    else:
        _plot(points, title, path)


_COLUMNS = ("tokens_per_s_per_device", "tokens_per_s_per_user", "ttft_s", "tpot_s", "way")


def _rows(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Points as a table has them."""
    return [
        {name: point[name] for name in _COLUMNS}
        | {phase: point[phase]["in_words"] for phase in ("decode", "prefill")}
        for point in points
    ]


def _plot(points: list[dict[str, Any]], title: str, path: Path) -> None:
    from qsopt.report.plot import BLUE, GREY, ORANGE, plt, save  # noqa: PLC0415  (slow to import)

    styles = {"mixed": (BLUE, "o"), "alternating": (GREY, "^"), "disaggregated": (ORANGE, "s")}
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    speeds, rates = (
        [point[name] for point in points]
        for name in ("tokens_per_s_per_user", "tokens_per_s_per_device")
    )
    axes.plot(speeds, rates, color=GREY, linewidth=1)
    for way, (colour, marker) in styles.items():
        rows = [place for place, point in enumerate(points) if point["way"] == way]
        if rows:
            axes.scatter(
                [speeds[row] for row in rows],
                [rates[row] for row in rows],
                color=colour,
                marker=marker,
                label=way,
                zorder=3,
            )
    axes.set_xscale("log")
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("output tokens/s of one user")
    axes.set_ylabel("output tokens/s per device")
    axes.set_title(title, fontsize=10)
    if points:
        axes.legend(frameon=False)
    save(figure, path, _rows(points))
