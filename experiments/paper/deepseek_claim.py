"""Which clusters, precisions and q give the paper's 4.5 times for DeepSeek-V3 at 128k, and what is
the ratio elsewhere?

`python -m experiments.paper.deepseek_claim` writes the ratio on every cluster and the q that would
give the claimed one, and a figure of them, into `results/deepseek_claim`.

The paper (arXiv 2603.08960) does not publish its cluster, precision and q. Here both sides stand at
their exact optimum on every cluster, with q by the laws and over a range.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.framework import study, style
from experiments.framework.pieces import Row
from experiments.paper import claims
from qsopt.cli.options import Question
from qsopt.quality import BAND

FORMATS: dict[str, tuple[str | None, str | None]] = {
    "bf16": ("bf16", None),
    "published": (None, None),
    "fp8": ("fp8", "fp8"),
}
"""Weights and KV cache; None for the checkpoint's own weights, and for a cache in bf16."""

TITLES = {
    "bf16": "all in bf16",
    "published": "as published (fp8 weights, bf16 cache)",
    "fp8": "weights and cache in fp8",
}

LAWS = (*BAND, "combined")

WITHIN = 0.1
"""Relative distance at which a ratio counts as the claimed one."""


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Clusters, formats and values of q."""

    model: str
    context: float
    claimed: float
    """Throughput of the dense match over the MoE."""
    accelerators: tuple[str, ...]
    devices: tuple[int, ...]
    precisions: tuple[str, ...]
    efficiencies: tuple[str, ...]
    law: str
    """The law of the figure."""
    other_q: tuple[float, ...]
    """Values of q beside those of the laws."""


def ratios_on_clusters(
    model: str,
    context: float,
    claimed: float,
    accelerators: Sequence[str],
    devices: int,
    precision: str,
    efficiency: str,
    other_q: Sequence[float],
) -> list[Row]:
    """Clusters of one size in one precision: every accelerator and every q, and the q that gives
    the claimed ratio.
    """
    weights, cache = FORMATS[precision]
    formats = {"weight_dtype": weights, "kv_dtype": cache}
    questions = [
        replace(Question(model, f"{devices}x{name}", context, efficiency=efficiency), **formats)
        for name in accelerators
    ]
    moe = questions[0].load()[0]
    values = claims.law_values(moe, questions[0].training_tokens)
    qs = [(law, values[law]) for law in LAWS if law in values] + [("", q) for q in other_q]
    services = [question.load()[1] for question in questions]
    points = [claims.Point(service, q) for service in services for _, q in qs]
    outcomes, share = claims.outcomes(moe, points), claims.active_share(moe)
    first = slice(None, None, len(qs))  # the MoE is the same for every q
    wanted = [claimed * outcome.throughputs[0] for outcome in outcomes[first]]
    claimed_qs = claims.q_of_throughput(moe, points[first], wanted)
    about = {"devices": devices, "precision": precision, "efficiency": efficiency}
    places = itertools.product(zip(accelerators, claimed_qs, strict=True), qs)
    return [
        {"accelerator": name, **about, "law": law, "q": q, "qs": q * share}
        | claims.summary(outcome)
        | {"q_of_claim": claimed_q}
        for ((name, claimed_q), (law, q)), outcome in zip(places, outcomes, strict=True)
    ]


def near(ratio: float | None, claimed: float) -> bool:
    """Whether a ratio counts as the claimed one."""
    return ratio is not None and abs(ratio / claimed - 1.0) <= WITHIN


def draw(rows: list[Row], settings: Settings) -> Figure:
    """The ratio in every cluster, one panel for each precision and efficiency, the claimed ratio
    framed.
    """
    size = len(settings.efficiencies), len(settings.precisions)
    shared = {"squeeze": False, "sharex": True, "sharey": True}
    figure, grid = style.subplots(*size, width=4.2 * size[1], height=3.1 * size[0] + 0.7, **shared)
    image = None
    for line, efficiency in zip(grid, settings.efficiencies, strict=True):
        for axes, precision in zip(line, settings.precisions, strict=True):
            kept = [
                row
                for row in rows
                if (row["efficiency"], row["precision"]) == (efficiency, precision)
            ]
            image = _panel(axes, [row for row in kept if row["law"] == settings.law], settings)
            axes.set_title(f"{TITLES[precision]}; {efficiency}", fontsize=10, loc="left")
    for axes in grid[-1]:
        axes.set_xlabel("devices")
    bar = figure.colorbar(image, ax=grid, shrink=0.8, pad=0.01)
    style.ratio_axis(bar.ax.yaxis, 0.125, 8.0)
    bar.set_label("throughput, dense twin over MoE")
    figure.suptitle(
        f"{style.display_name(settings.model)} at {settings.context / 1024:g}k: throughput of its "
        f"dense twin (q: {settings.law} "
        f"law) over its own.\nFramed: within {WITHIN:.0%} of the claimed {settings.claimed:g}x.  "
        f"q: what would give {settings.claimed:g}x, where a q of 1 or more would.  Hatched: the "
        f"MoE does not fit",
        fontsize=11,
        x=0.01,
        ha="left",
    )
    return figure


def _panel(axes: Axes, rows: list[Row], settings: Settings):
    shape = len(settings.accelerators), len(settings.devices)
    cells = {(row["accelerator"], row["devices"]): row for row in rows}
    ratios = np.full(shape, np.nan)
    for place in np.ndindex(shape):
        row = cells[settings.accelerators[place[0]], settings.devices[place[1]]]
        ratios[place] = row["ratio"] or np.nan
        _cell(axes, place, row, settings.claimed)
    image = axes.imshow(ratios, norm=LogNorm(0.125, 8.0), cmap="PuOr_r", aspect="auto")
    axes.set_xticks(range(shape[1]), [str(count) for count in settings.devices])
    axes.set_yticks(range(shape[0]), [style.display_name(name) for name in settings.accelerators])
    return image


def _cell(axes: Axes, place: tuple[int, ...], row: Row, claimed: float) -> None:
    """The ratio of one cluster; hatched where a side does not fit, framed where it is the claimed
    one.
    """
    if row["ratio"] is None:
        _box(axes, place, 1.0, hatch="////", linewidth=0, edgecolor=style.GREY)
        return
    down, right = place
    centred: dict[str, Any] = {
        "ha": "center",
        "va": "center",
        "color": "white" if row["ratio"] > 3.5 else "black",
    }
    axes.text(right, down - 0.1, f"{row['ratio']:.2f}", fontsize=8.5, **centred)
    if (row["q_of_claim"] or 0.0) >= 1.0:
        axes.text(right, down + 0.27, f"q {row['q_of_claim']:.2g}", fontsize=7, **centred)
    if near(row["ratio"], claimed):
        _box(axes, place, 0.96, linewidth=2, edgecolor=style.BLACK)


def _box(axes: Axes, place: tuple[int, ...], size: float, **look: Any) -> None:
    corner = place[1] - size / 2.0, place[0] - size / 2.0
    axes.add_patch(Rectangle(corner, size, size, fill=False, **look))


def main(settings: Settings) -> None:
    keys = [
        {
            "model": settings.model,
            "context": settings.context,
            "claimed": settings.claimed,
            "accelerators": list(settings.accelerators),
            "devices": count,
            "precision": precision,
            "efficiency": efficiency,
            "other_q": list(settings.other_q),
        }
        for efficiency in settings.efficiencies
        for precision in settings.precisions
        for count in settings.devices
    ]
    with study.Study("deepseek_claim", settings) as run:
        rows = [row for piece in run.pieces(keys, ratios_on_clusters, (claims,)) for row in piece]
        run.write(rows, lambda rows: draw(rows, settings))


if __name__ == "__main__":
    study.start(main, Settings, "deepseek_claim")
