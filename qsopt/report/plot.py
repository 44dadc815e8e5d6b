"""Plots that are read without the text: units on the axes, readable ticks on log axes, labels on
the curves, safe colours.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from qsopt.comparison.compare import verdict

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"
"""Colours that colour-blind readers tell apart (Okabe and Ito, 2008)."""


def tokens_text(value: float, _position: object = None) -> str:
    """A number of tokens as people say it: 512, 4k, 128k, 1M."""
    for size, letter in ((2.0**20, "M"), (2.0**10, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def ratio_over_context(
    contexts: Float[np.ndarray, " points"],
    throughputs: Sequence[tuple[float, float]],
    marked: float,
    title: str,
    path: Path,
) -> None:
    """Throughput of dense over MoE along the context length, who wins, and where a side does not
    fit.

    Args:
        contexts: tokens of context.
        throughputs: of the MoE and of its twin at each, 0 where infeasible [tokens/s].
        marked: the context that is pointed out.
        title: of the plot.
        path: PNG file to write.
    """
    ratios = np.array([dense / moe if moe and dense else np.nan for moe, dense in throughputs])
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    axes.axhline(1.0, color=GREY, linewidth=1)
    axes.plot(contexts, ratios, color=BLUE, marker="o", markersize=4)
    _scales(axes)
    axes.set_xlim(contexts[0] / 1.2, contexts[-1] * 1.2)
    _mark(axes, contexts, ratios, marked)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.8), max(high, 1.5))
    _shade(axes, contexts, [verdict(*pair) for pair in throughputs])
    axes.annotate(
        "equal throughput",
        (contexts[0], 1.0),
        xytext=(2, 3),
        textcoords="offset points",
        color=GREY,
        fontsize=9,
    )
    axes.set_title(title, loc="left", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _scales(axes: Axes) -> None:
    """Both in log, with their words."""
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(tokens_text))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.yaxis.set_minor_formatter(FuncFormatter(_minor_text))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("context length [tokens]")
    axes.set_ylabel("throughput, dense twin over MoE")


def _mark(
    axes: Axes,
    contexts: Float[np.ndarray, " points"],
    ratios: Float[np.ndarray, " points"],
    marked: float,
) -> None:
    """A line at one context, and the ratio at the point that is nearest to it."""
    axes.axvline(marked, color=GREY, linewidth=1, linestyle=":")
    nearest = int(np.argmin(np.abs(np.log(contexts / marked))))
    if np.isfinite(ratios[nearest]):
        axes.annotate(
            f" {tokens_text(contexts[nearest])}: {ratios[nearest]:.1f}x",
            (contexts[nearest], ratios[nearest]),
            xytext=(4, 6),
            textcoords="offset points",
            color=BLUE,
        )


def _minor_text(value: float, _position: object) -> str:
    """Label the minor ticks 2 and 5 of a decade only."""
    leading = f"{value:e}"[0]
    return f"{value:g}x" if leading in "25" else ""


def _shade(axes: Axes, contexts: Float[np.ndarray, " points"], verdicts: Sequence[str]) -> None:
    """Mark the contexts at which a side has no deployment, with a word in the middle of each
    stretch.
    """
    step = (contexts[1] / contexts[0]) ** 0.5
    for outcome in ("moe infeasible", "dense infeasible", "both infeasible"):
        hit = [
            context for context, found in zip(contexts, verdicts, strict=True) if found == outcome
        ]
        if hit:
            axes.axvspan(hit[0] / step, hit[-1] * step, color=ORANGE, alpha=0.15, linewidth=0)
            middle = (hit[0] * hit[-1]) ** 0.5
            text = outcome.replace("moe", "MoE").replace(" ", "\n", 1)
            axes.text(
                middle, 0.5, text, ha="center", color=ORANGE, transform=axes.get_xaxis_transform()
            )
