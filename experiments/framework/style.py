"""The look of the findings' figures: readable log axes, direct labels, colours that colour-blind
readers tell apart.
"""

from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator
from scipy.optimize import isotonic_regression

from experiments.framework.pieces import Row
from qsopt.report.style import AMBER, BLUE, FIGURES, GREEN, GREY, ORANGE, PURPLE, tokens_text

matplotlib.rcParams.update(FIGURES)  # pyright: ignore[reportArgumentType, reportCallIssue]

SKY, BLACK = "#56B4E9", "#000000"
"""Of Okabe and Ito (2008) too."""

CYCLE = (BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER, BLACK, GREY)
"""For lines, in this order."""

NAMES = {
    "a100-80gb": "A100 80 GB",
    "deepseek-v3": "DeepSeek-V3",
    "qwen3-235b-a22b": "Qwen3-235B-A22B",
    "qwen3-30b-a3b": "Qwen3-30B-A3B",
    "qwen3-14b": "Qwen3-14B",
    "gpt-oss-120b": "gpt-oss-120b",
    "grok-1": "Grok-1",
    "same-body": "same body",
    "released": "released shape",
    "switch-c": "Switch-C",
    "h100": "H100",
    "h200": "H200",
    "b200": "B200",
    "b300": "B300",
    "gb200": "GB200 NVL72",
    "mi300x": "MI300X",
    "mi355x": "MI355X",
    "mi455x": "MI455X",
    "trainium3": "Trainium3",
    "vera-rubin": "Vera Rubin",
    "tpu-v5p": "TPU v5p",
    "tpu-v6e": "TPU v6e",
}


def display_name(key: str) -> str:
    """A model or accelerator as people write it."""
    return NAMES.get(key, key)


def cluster_name(cluster: str) -> str:
    """A cluster such as `8xmi300x` as people write it."""
    count, accelerator = cluster.split("x", 1)
    return f"{count} {display_name(accelerator)}"


def subplots(
    rows: int = 1, columns: int = 1, width: float = 8.0, height: float = 4.5, **options
) -> tuple:
    """Figure and axes in the common layout."""
    return plt.subplots(rows, columns, figsize=(width, height), layout="constrained", **options)


def case_panels(
    rows: list[Row], keys: tuple[str, ...], width: float, height: float
) -> tuple[Figure, list[tuple[Axes, list[Row]]]]:
    """A figure with a panel for each case, side by side, and the rows of each.

    Args:
        rows: of all cases.
        keys: columns that make a case.
        width: of a panel [inch].
        height: of the figure [inch].
    """
    cases: dict[tuple, list[Row]] = {}
    for row in rows:
        cases.setdefault(tuple(row[key] for key in keys), []).append(row)
    figure, panels = subplots(1, len(cases), width=width * len(cases), height=height, sharey=True)
    return figure, list(zip(panels, cases.values(), strict=True))


def headline(figure: Figure, text: str, size: int = 9) -> None:
    """What a figure shows, above it at the left."""
    figure.suptitle(text, fontsize=size, x=0.01, ha="left")


def left_title(axes: Axes, text: str) -> None:
    """What a panel shows, above it at the left."""
    axes.set_title(text, fontsize=9, loc="left")


def place_name(row: Row) -> str:
    """The model of a row and its cluster, as people write them."""
    return f"{display_name(row['model'])} on {cluster_name(row['cluster'])}"


def even_line(axis: Axis) -> None:
    """A line where a ratio on this axis is 1."""
    axes: Axes = axis.axes  # pyright: ignore[reportAssignmentType]
    (axes.axvline if axis is axes.xaxis else axes.axhline)(1.0, color="black", linewidth=0.8)


def tokens_axis(axis: Axis, low: float, high: float, every: int = 1) -> None:
    """A log axis of tokens: 1k, 2k, 4k, ... with every so many powers of two."""
    first, last = int(np.ceil(np.log2(low) - 1e-9)), int(np.floor(np.log2(high) + 1e-9))
    log_axis(axis, [2.0**power for power in range(first, last + 1, every)], tokens_text)


def ratio_axis(axis: Axis, low: float, high: float) -> None:
    """A log axis of ratios: 0.5x, 1x, 2x, 5x, 10x."""
    ticks = [lead * 10.0**power for power in range(-4, 6) for lead in (1, 2, 5)]
    log_axis(axis, [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001], times)


def times(value: float, _position: object = None) -> str:
    """A ratio as people say it: 1.5x."""
    return f"{value:g}x"


def log_axis(axis: Axis, ticks: Sequence[float], text=None) -> None:
    """A log axis with these ticks and no others."""
    axes: Axes = axis.axes  # pyright: ignore[reportAssignmentType]
    (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(text or (lambda value, _: f"{value:g}")))


def label_ends(
    axes: Axes, labels: Sequence[tuple[str, float, float, str]], gap: float = 0.05
) -> None:
    """Write labels beside the right ends of lines, moved apart where they would overlap, as little
    as possible.

    Args:
        axes: whose limits and scale are final.
        labels: text, x and y of the line's end, and colour.
        gap: least distance in units of the axes' height.
    """
    to_axes = axes.transData + axes.transAxes.inverted()
    ends = [(*to_axes.transform((x, y)), text, colour) for text, x, y, colour in labels]
    ends = sorted(ends, key=lambda end: end[1])
    heights = spread([float(end[1]) for end in ends], gap)
    for height, (x, _, text, colour) in zip(heights, ends, strict=True):
        axes.text(
            x + 0.015,
            height,
            text,
            color=colour,
            va="center",
            fontsize=8,
            transform=axes.transAxes,
            clip_on=False,
        )


def spread(places: Sequence[float], gap: float) -> np.ndarray:
    """Ascending places, moved at least a gap apart by the least sum of squares: what is left of
    them without the gaps must not fall, which is an isotonic regression.
    """
    gaps = gap * np.arange(len(places))
    return isotonic_regression(np.asarray(places) - gaps).x + gaps if len(places) else gaps
