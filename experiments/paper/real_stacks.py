"""What do measured MoE and dense models say on the same accelerator and stack, and does the model
predict it?

`python -m experiments.paper.real_stacks --data FOLDER` writes every pair with its measured and
predicted ratio, and a figure of them, into `results/real_stacks`.

Every MoE is paired with every dense model that was served on the same accelerator and stack, with
equal lengths of prompt and answer (see `measured_runs`); what counts is the most tokens/s per
device of any configuration: of runs whose time per output token keeps a limit, for several limits,
or at published full load. The pairs are not matched in quality: `size_over_match` is the size of a
pair's dense model over the one that the law calls a match.
"""

import itertools
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.framework import study, style
from experiments.framework.measured import measured_rows
from experiments.framework.pieces import Row
from experiments.paper.measured_runs import Group, Served, served_published, served_runs
from qsopt import belief
from qsopt.catalog.models import load_model, model_facts
from qsopt.physics.parameters import parameter_count
from qsopt.spec.model import moe_layers
from qsopt.units import MILLISECOND

RUNS, PUBLISHED = "e2e_inferencex.csv", "e2e_published.csv"

MISSING = (
    "real_stacks: no measured results, so nothing is drawn. They are not part of the package; "
    "give the folder that holds "
    f"{RUNS} and {PUBLISHED}: python -m experiments.paper.real_stacks --data FOLDER"
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Where the measured results are, and at which speeds runs are compared."""

    data: Path | None = None
    """Folder with e2e_inferencex.csv and e2e_published.csv."""
    tpot_ms: tuple[float, ...]
    """Limits of the time per output token [ms]."""
    law: str
    """Whose match the pair's dense model is measured against."""
    efficiency: str


# ---- pairs ---------------------------------------------------------------------------------------


def pairs(groups: Mapping[Group, list[Served]], limits: Sequence[float], law: str) -> list[Row]:
    """Every MoE against every dense model of a group, by its best configuration under each limit of
    TPOT [s]; a limit of NaN is none.
    """
    rows = []
    for group, runs in groups.items():
        by_model: dict[str, list[Served]] = defaultdict(list)
        for run in sorted(runs, key=lambda run: run.model):
            by_model[run.model].append(run)
        routed = [name for name in by_model if moe_layers(load_model(name)) is not None]
        dense = [name for name in by_model if name not in routed]
        accelerator, stack, prompt, answer, *_ = group
        about = {
            "accelerator": accelerator,
            "stack": stack,
            "prompt": float(prompt),
            "answer": float(answer),
        }
        for moe, other, limit in itertools.product(routed, dense, limits):
            ratios = pair_ratios(by_model[moe], by_model[other], limit)
            if ratios is not None:
                names = {"moe": moe, "dense": other}
                rows.append({**names, **about, **ratios, **sizes(moe, other, law)})
    return rows


def pair_ratios(moe: list[Served], dense: list[Served], limit: float) -> Row | None:
    """Measured and predicted ratio of the best configurations under a limit of TPOT; None where a
    side has none.
    """
    sides = moe, dense
    measured = [
        _most(run.rate for run in side if np.isnan(limit) or run.tpot <= limit) for side in sides
    ]
    predicted = [
        _most(run.predicted_rate for run in side if not run.predicted_tpot > limit)
        for side in sides
    ]
    if not (all(measured) and all(predicted)):
        return None
    precisions = [min(run.precision or "as published" for run in side) for side in sides]
    return {
        "precisions": " / ".join(precisions),
        "tpot_limit": None if np.isnan(limit) else limit,
        "moe_tokens_per_s": measured[0],
        "dense_tokens_per_s": measured[1],
        "measured_ratio": measured[1] / measured[0],
        "predicted_ratio": predicted[1] / predicted[0],
    }


def _most(rates: Iterable[float]) -> float:
    """The largest rate, 0 where there is none."""
    return max(rates, default=0.0)


def sizes(moe: str, dense: str, law: str) -> Row:
    """How the pair's dense model compares with the MoE, and with the one that the law calls its
    match.
    """
    routed, other = parameter_count(load_model(moe)), parameter_count(load_model(dense))
    known = belief(load_model(moe), law, model_facts(moe).training_tokens, raw=True)
    q = float(other.total / routed.active)
    low, high = known.interval or (known.q, known.q)
    return {
        "q": q,
        "qs": float(other.total / routed.total),
        "law_q": known.q,
        "law_q_low": low,
        "law_q_high": high,
        "size_over_match": q / known.q,
    }


def agreement(rows: list[Row]) -> dict[str, float]:
    """How well the ratios of pairs are predicted."""
    measured = np.log([row["measured_ratio"] for row in rows])
    wrong = np.log([row["predicted_ratio"] for row in rows]) - measured
    return {
        "same_winner": float(np.mean(np.sign(measured + wrong) == np.sign(measured))),
        "median_factor": float(np.exp(np.median(np.abs(wrong)))),
        "p90_factor": float(np.exp(np.quantile(np.abs(wrong), 0.9))),
    }


# ---- figure --------------------------------------------------------------------------------------


def draw(rows: list[Row]) -> Figure:
    """Measured ratio against the dense model's size, and predicted against measured."""
    figure, (left, right) = style.subplots(1, 2, width=12.5, height=5.0)
    _points(left, rows, "size_over_match")
    _points(right, rows, "predicted_ratio")
    _size_axes(left, rows)
    _prediction_axes(right)
    figure.legend(
        *left.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        fontsize=8,
        frameon=False,
    )
    figure.suptitle(
        "Measured MoE and dense models on the same accelerator, stack and lengths: none of the "
        "pairs is matched in quality",
        fontsize=11,
        x=0.01,
        ha="left",
    )
    return figure


def _points(axes: Axes, rows: list[Row], across: str) -> None:
    """The measured ratio over something, a colour and mark for each pair."""
    names = sorted({(row["moe"], row["dense"]) for row in rows})
    looks = zip(itertools.cycle(style.CYCLE), itertools.cycle(style.MARKS), strict=False)
    for (moe, dense), (colour, mark) in zip(names, looks, strict=False):
        members = [row for row in rows if (row["moe"], row["dense"]) == (moe, dense)]
        axes.plot(
            [row[across] for row in members],
            [row["measured_ratio"] for row in members],
            mark,
            color=colour,
            markersize=5,
            alpha=0.7,
            label=f"{dense} over {moe}",
        )


def _prediction_axes(axes: Axes) -> None:
    low, high = 0.05, 20.0
    axes.plot([low, high], [low, high], color=style.GREY, linewidth=1)
    axes.axhline(1.0, color=style.GREY, linewidth=0.6, linestyle=":")
    axes.axvline(1.0, color=style.GREY, linewidth=0.6, linestyle=":")
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    style.ratio_axis(axes.xaxis, low, high)
    style.ratio_axis(axes.yaxis, low, high)
    axes.set_xlabel("predicted: dense over MoE, tokens/s per device")
    axes.set_ylabel("measured: dense over MoE, tokens/s per device")
    axes.set_title("does the model predict it?", loc="left", fontsize=10)
    style.plain(axes)


def _size_axes(axes: Axes, rows: list[Row]) -> None:
    low, high = 0.1, 20.0
    spread = [(row["law_q_low"] / row["law_q"], row["law_q_high"] / row["law_q"]) for row in rows]
    axes.axvspan(
        min(first for first, _ in spread),
        max(last for _, last in spread),
        color=style.GREEN,
        alpha=0.12,
        linewidth=0,
    )
    axes.axvline(1.0, color=style.GREEN, linewidth=1)
    axes.axhline(1.0, color=style.GREY, linewidth=1)
    axes.set_xlim(low, high)
    axes.set_ylim(0.05, 20.0)
    style.ratio_axis(axes.xaxis, low, high)
    style.ratio_axis(axes.yaxis, 0.05, 20.0)
    axes.text(
        1.05, 13.0, "the law's match\n(band: its 80% interval)", fontsize=8, color=style.GREEN
    )
    axes.set_xlabel("size of the dense model over the one that the law calls a match")
    axes.set_ylabel("measured: dense over MoE, tokens/s per device")
    axes.set_title("the measured pairs stand on either side of a match", loc="left", fontsize=10)
    style.plain(axes)


def main(settings: Settings) -> None:
    if settings.data is None:
        print(MISSING, file=sys.stderr)
        return
    folder, efficiency = settings.data, settings.efficiency
    limits = [limit * MILLISECOND for limit in settings.tpot_ms]
    with study.Study("real_stacks", settings) as run:
        rows = pairs(served_runs(measured_rows(folder, RUNS), efficiency), limits, settings.law)
        rows += pairs(
            served_published(measured_rows(folder, PUBLISHED), efficiency),
            [float("nan")],
            settings.law,
        )
        run.write(rows, draw, agreement=agreement(rows))


if __name__ == "__main__":
    study.start(main, Settings, "real_stacks")
