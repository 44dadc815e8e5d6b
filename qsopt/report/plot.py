"""Plots that are read without the text: units on the axes, readable ticks on log axes, labels on
the curves, safe colours.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from qsopt.comparison.compare import verdict
from qsopt.files import write_figure, write_text
from qsopt.report.records import csv_text
from qsopt.report.style import BLUE, FIGURES, GREY, ORANGE, tokens_text

matplotlib.rcParams.update(FIGURES)  # pyright: ignore[reportArgumentType, reportCallIssue]

DPI = 150
"""Of figures that are pictures of points."""


def comparison_plot(
    lengths: Float[np.ndarray, " points"],
    throughputs: Sequence[tuple[float, float]],
    marked: float,
    penalties: Mapping[str, float | None],
    title: str,
    path: Path,
    what: str = "context",
    made_for: float = np.inf,
) -> None:
    """Throughput of dense over MoE along the length of context or answer, and what makes it at one
    of them. Points beyond the context that the MoE was made for are hollow.

    Args:
        lengths: of context or answer [tokens].
        throughputs: of the MoE and of its match at each, 0 where infeasible [tokens/s].
        marked: the length that is pointed out, and of the penalties.
        penalties: factors of the ratio there; where a side is infeasible there are none to show.
        title: of the plot.
        path: file to write; its numbers go into a CSV file beside it.
        what: the lengths are of, context or answer.
        made_for: the longest that the context of the MoE's config allows [tokens].
    """
    known = {name: factor for name, factor in penalties.items() if factor and np.isfinite(factor)}
    columns = 2 if len(known) == len(penalties) else 1
    figure, panels = plt.subplots(
        1, columns, figsize=(8 * columns, 4.5), layout="constrained", squeeze=False
    )
    _ratio_over_length(panels[0, 0], lengths, throughputs, marked, made_for)
    beyond = "; hollow: beyond the trained context" if lengths[-1] > made_for else ""
    panels[0, 0].set_xlabel(f"{what} length [tokens]{beyond}")
    panels[0, 0].set_title(title, loc="left", fontsize=11)
    if columns > 1:
        _waterfall(panels[0, 1], known)
        where = f"what makes the ratio at {tokens_text(marked)} tokens of {what}"
        panels[0, 1].set_title(where, loc="left", fontsize=11)
    rows = [
        _row(what, length, reached) | {"beyond_trained_context": bool(length > made_for)}
        for length, reached in zip(lengths, throughputs, strict=True)
    ]
    save(figure, path, [*rows, *({"cause": k, "factor": v} for k, v in penalties.items())])


def save(figure: Figure, path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a figure, and the numbers that it shows to a CSV file of the same name beside it.

    Raises:
        InputError: if a file cannot be written.
    """
    write_figure(figure, path, dpi=DPI)
    plt.close(figure)
    write_text(path.with_suffix(".csv"), csv_text(rows))


def _row(what: str, length: float, reached: tuple[float, float]) -> dict[str, Any]:
    """A point of the ratio as a table has it."""
    moe, dense = reached
    return {
        what: float(length),
        "verdict": verdict(moe, dense),
        "ratio_dense_over_moe": dense / moe if moe and dense else None,
        "moe_tokens_per_s": moe,
        "dense_tokens_per_s": dense,
    }


def _waterfall(axes: Axes, penalties: Mapping[str, float]) -> None:
    """Factors one after the other, each bar from where the last one ends; the ratio is the
    product.
    """
    names, factors = list(penalties), np.array(list(penalties.values()))
    ends = np.cumprod(factors)
    starts = np.concatenate([[1.0], ends[:-1]])
    places = np.arange(len(names))
    colours = [ORANGE if factor > 1.0 else BLUE for factor in factors]
    axes.barh(places, ends - starts, left=starts, color=colours, height=0.6)
    axes.barh(len(names), ends[-1] - 1.0, left=1.0, color=GREY, height=0.6)
    for place, end in zip(places[:-1], ends, strict=False):
        axes.plot([end, end], [place - 0.3, place + 1.3], color=GREY, linewidth=0.8)
    rights = np.maximum(starts, ends)
    for place, (right, factor) in enumerate(zip(rights, factors, strict=True)):
        axes.annotate(f" x{factor:.2f}", (right, place), va="center", fontsize=9)
    axes.annotate(f" {ends[-1]:.2f}", (max(ends[-1], 1.0), len(names)), va="center", fontsize=9)
    axes.axvline(1.0, color=GREY, linewidth=1)
    axes.set_xscale("log")
    low, high = min(starts.min(), ends.min()), max(starts.max(), ends.max())
    axes.set_xlim(low / 1.15, high * 1.35)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(np.arange(len(names) + 1), [*names, "ratio"])
    axes.invert_yaxis()
    axes.set_xlabel("throughput, dense over MoE; orange favours dense, blue the MoE")


def _ratio_over_length(
    axes: Axes,
    lengths: Float[np.ndarray, " points"],
    throughputs: Sequence[tuple[float, float]],
    marked: float,
    made_for: float,
) -> None:
    ratios = np.array([dense / moe if moe and dense else np.nan for moe, dense in throughputs])
    axes.axhline(1.0, color=GREY, linewidth=1)
    axes.plot(lengths, ratios, color=BLUE, marker="o", markersize=4)
    hollow = lengths > made_for
    axes.plot(lengths[hollow], ratios[hollow], "o", color=BLUE, mfc="white", markersize=4)
    _scales(axes)
    axes.set_xlim(lengths[0] / 1.2, lengths[-1] * 1.2)
    _mark(axes, lengths, ratios, marked)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.8), max(high, 1.5))
    _shade(axes, lengths, [verdict(*pair) for pair in throughputs])
    axes.annotate(
        "equal throughput",
        (lengths[0], 1.0),
        xytext=(2, 3),
        textcoords="offset points",
        color=GREY,
        fontsize=9,
    )


def _scales(axes: Axes) -> None:
    """Both in log, with their words."""
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(tokens_text))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.yaxis.set_minor_formatter(FuncFormatter(_minor_text))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("throughput, dense match over MoE")


def _mark(
    axes: Axes,
    lengths: Float[np.ndarray, " points"],
    ratios: Float[np.ndarray, " points"],
    marked: float,
) -> None:
    """A line at one length, and the ratio at the point that is nearest to it."""
    axes.axvline(marked, color=GREY, linewidth=1, linestyle=":")
    nearest = int(np.argmin(np.abs(np.log(lengths / marked))))
    if np.isfinite(ratios[nearest]):
        axes.annotate(
            f" {tokens_text(lengths[nearest])}: {ratios[nearest]:.1f}x",
            (lengths[nearest], ratios[nearest]),
            xytext=(4, -14),
            textcoords="offset points",
            color=BLUE,
        )


def _minor_text(value: float, _position: object) -> str:
    """Label the minor ticks 2 and 5 of a decade only."""
    leading = f"{value:e}"[0]
    return f"{value:g}x" if leading in "25" else ""


def _shade(axes: Axes, lengths: Float[np.ndarray, " points"], verdicts: Sequence[str]) -> None:
    """Mark the lengths at which a side has no deployment, with a word in the middle of each
    stretch.
    """
    step = (lengths[1] / lengths[0]) ** 0.5
    for outcome in ("moe infeasible", "dense infeasible", "both infeasible"):
        hit = [
            context for context, found in zip(lengths, verdicts, strict=True) if found == outcome
        ]
        if hit:
            axes.axvspan(hit[0] / step, hit[-1] * step, color=ORANGE, alpha=0.15, linewidth=0)
            middle = (hit[0] * hit[-1]) ** 0.5
            text = outcome.replace("moe", "MoE").replace(" ", "\n", 1)
            axes.text(
                middle, 0.5, text, ha="center", color=ORANGE, transform=axes.get_xaxis_transform()
            )
