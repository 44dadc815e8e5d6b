"""The ratio along one input, with every flip of the verdict marked."""

from pathlib import Path

import numpy as np
from matplotlib.ticker import FuncFormatter

from qsopt.comparison.compare import verdict
from qsopt.maps.crossover import Crossovers
from qsopt.report.map_axes import FORMS, set_ticks
from qsopt.report.plot import plt, save
from qsopt.report.style import BLUE, GREY, ORANGE


def plot_crossovers(found: Crossovers, over: str, title: str, path: Path) -> None:
    """Write the ratio along an input, and its numbers to a CSV file beside it.

    Args:
        found: all flips in a range.
        over: the input that moves.
        title: of the plot.
        path: file to write.
    """
    form = FORMS[over]
    moe, dense = found.throughputs.T
    both = (moe > 0.0) & (dense > 0.0)
    ratios = np.where(both, dense / np.where(both, moe, 1.0), np.nan)
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    axes.axhline(1.0, color=GREY, linewidth=1)
    axes.plot(found.values / form.unit, ratios, color=BLUE)
    for crossing in found.crossings:
        axes.axvline(crossing.value / form.unit, color=ORANGE, linewidth=1, linestyle=":")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    set_ticks(axes.xaxis, found.values / form.unit, form)
    axes.set_xlabel(form.label)
    axes.set_ylabel("throughput, dense match over MoE")
    axes.set_title(title, loc="left", fontsize=11)
    rows = [
        {
            over: float(value),
            "verdict": verdict(float(first), float(second)),
            "ratio_dense_over_moe": float(ratio),
            "moe_tokens_per_s": float(first),
            "dense_tokens_per_s": float(second),
        }
        for value, first, second, ratio in zip(found.values, moe, dense, ratios, strict=True)
    ]
    save(figure, path, rows)
