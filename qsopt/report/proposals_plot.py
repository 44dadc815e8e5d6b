"""Fronts of proposals as a picture and as a table: MoE and dense designs, with the reference and
its dense matches marked.
"""

import csv
import io
from pathlib import Path
from typing import Any

from qsopt.files import write_figure, write_text
from qsopt.report.proposals_text import leaders_text

AXES = {
    "speed": ("tokens_per_s_per_user", "output tokens/s of one user"),
    "quality": ("dense_equivalent_parameters", "dense model of the same quality [parameters]"),
    "training": ("training_flops", "training compute 6 N D [FLOP]"),
}
"""What stands on the horizontal axis of each front."""

RATE = "tokens_per_s_per_device"

_COLUMNS = (
    "front",
    "family",
    RATE,
    "tokens_per_s_per_user",
    "dense_equivalent_parameters",
    "training_flops",
    "total",
    "active",
    "layers",
    "hidden",
    "kv",
    "experts",
    "top_k",
    "shared",
    "leading",
    "width",
)


def write_table(record: dict[str, Any], path: Path) -> None:
    """All fronts as a CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for measure, fronts in record["pareto"].items():
        for front in fronts:
            for point in front["points"]:
                known = {"front": measure, "family": front["family"], **point}
                writer.writerow([known[name] for name in _COLUMNS])
    write_text(path, text.getvalue())


def write_plot(record: dict[str, Any], title: str, path: Path) -> None:
    """The three fronts side by side."""
    from qsopt.report.plot import BLUE, ORANGE, plt  # noqa: PLC0415  (slow to import)

    figure, panels = plt.subplots(1, len(AXES), figsize=(13, 4.2), layout="constrained")
    for axes, (measure, (key, label)) in zip(panels, AXES.items(), strict=True):
        for front in record["pareto"].get(measure, ()):
            colour = BLUE if front["family"] == "moe" else ORANGE
            across = [point[key] for point in front["points"]]
            up = [point[RATE] for point in front["points"]]
            axes.plot(across, up, "o-", color=colour, label=front["family"], markersize=3)
        _released(axes, record, measure)
        axes.set(xlabel=label, xscale="log", yscale="log")
    panels[0].set_ylabel("output tokens/s per device")
    if record["winner_along_front"]:
        panels[0].set_title(f"most: {leaders_text(record)}", fontsize=6, wrap=True)
    handles, _ = panels[0].get_legend_handles_labels()
    if handles:
        panels[0].legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    write_figure(figure, path, metadata={"Software": None} if path.suffix == ".png" else None)
    plt.close(figure)


def _released(axes: Any, record: dict[str, Any], measure: str) -> None:
    """The reference and its dense matches, where they are served."""
    from qsopt.report.plot import GREY  # noqa: PLC0415

    size, flops = record["goal"]["dense_equivalent_parameters"], record["goal"]["training_tokens"]
    sides = [record["reference"], *record["dense_matches"]]
    markers = ("*", "s", "D", "^")
    for side, marker in zip([each for each in sides if each], markers, strict=False):
        if not side["feasible"]:
            continue
        across = {
            "speed": side["metrics"]["tokens_per_s_per_user"],
            "quality": size,
            "training": 6.0 * side["parameters"]["active"] * flops,
        }[measure]
        if across:
            rate = side["metrics"][RATE]
            axes.scatter([across], [rate], marker=marker, color=GREY, zorder=3, label=side["name"])
