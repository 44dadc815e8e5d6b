"""What do measured MoE and dense models say on the same accelerator and stack, and does the model
predict it?

Two kinds of pairs, both with equal lengths of prompt and answer on one accelerator, counted per
device:

* runs at stated concurrency (`e2e_inferencex.csv`): the most tokens/s while decoding, concurrency /
  TPOT, of any configuration whose time per output token keeps a limit, for several limits; runs
  whose requests mostly wait in a queue are left out, as fewer of them decode at once than the
  concurrency says;
* published full load (`e2e_published.csv`): the most tokens/s of any configuration of one source
  and format.

The prediction is made for the same configurations, TPOT = step(B, prompt + answer/2) + B
prefill(prompt)/answer, and the best is taken in the same way. Full load is the largest batch that
fits. The pairs are not matched in quality: `size_over_match` is the size of a pair's dense model
over the one that the law calls a match.
"""

import itertools
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import qsopt
from experiments.framework import study, style
from experiments.framework.measured import measured_rows
from experiments.framework.pieces import Row
from qsopt.calibration.serving.runs import model_name, precise
from qsopt.calibration.tables.names import accelerator_name
from qsopt.catalog.efficiencies import efficiency_set
from qsopt.catalog.models import load_model, model_facts
from qsopt.deployments.request import Request, resolve
from qsopt.physics.accounting import parameter_count
from qsopt.quality.belief import belief
from qsopt.spec.model import moe_layers
from qsopt.spec.service import Service
from qsopt.units import MILLISECOND

RUNS, PUBLISHED = "e2e_inferencex.csv", "e2e_published.csv"

MISSING = (
    "real_stacks: no measured results, so nothing is drawn. They are not part of the package; "
    "give the folder that holds "
    f"{RUNS} and {PUBLISHED}: python -m experiments.paper.real_stacks --data FOLDER"
)

TOTALS = {"out_tok_s_total": "total", "out_tok_s_per_gpu": "per device"}
"""Metrics of published results that are read."""


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


class Served(NamedTuple):
    """One configuration of one model: what was measured, and what is predicted."""

    model: str
    precision: str
    tpot: float
    """Measured time per output token [s]; NaN where none was published."""
    rate: float
    """Measured tokens/s per device."""
    predicted_tpot: float
    predicted_rate: float


# ---- reading -------------------------------------------------------------------------------------


def served_runs(rows: list[dict[str, str]], efficiency: str) -> dict[tuple[str, ...], list[Served]]:
    """Runs by accelerator, backend and lengths, where MoE and dense models meet."""
    fine = [row for row in rows if not queues(row)]
    groups = meeting(fine, lambda row: (row["gpu"], row["backend"], row["isl"], row["osl"]))
    return {key: [_run(row, efficiency) for row in members] for key, members in groups.items()}


def queues(row: dict[str, str]) -> bool:
    """Whether a request waited longer for its first token than it took for all others."""
    return float(row["ttft_ms"]) > float(row["osl"]) * float(row["tpot_ms"])


def served_published(
    rows: list[dict[str, str]], efficiency: str
) -> dict[tuple[str, ...], list[Served]]:
    """Published full loads by accelerator, source, lengths and format, where MoE and dense models
    meet.
    """
    fine = [
        row
        for row in rows
        if row["metric"] in TOTALS and not row["batch"] and row["isl"] and row["osl"] and row["tp"]
    ]
    groups = meeting(
        fine, lambda row: (row["gpu"], row["source"], row["isl"], row["osl"], row["precision"])
    )
    return {
        key: [_published(row, efficiency) for row in members] for key, members in groups.items()
    }


def meeting(
    rows: Iterable[dict[str, str]], place: Any
) -> dict[tuple[str, ...], list[dict[str, str]]]:
    """Rows of known models by place, only where both an MoE and a dense model were measured."""
    groups: dict[tuple[str, ...], list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        if model_name(row["model"]) is not None and accelerator_name(row["gpu"]) is not None:
            groups[place(row)].append(row)
    return {
        key: members
        for key, members in groups.items()
        if len({_routed(row["model"]) for row in members}) == 2
    }


def _routed(name: str) -> bool:
    return moe_layers(load_model(model_name(name) or "")) is not None


# ---- prediction ----------------------------------------------------------------------------------


def _run(row: dict[str, str], efficiency: str) -> Served:
    tensor, data = float(row["tp"]), float(row["attention_dp"] or 1)
    devices, asked = float(row["n_gpus"]), float(row["concurrency"])
    replicas = max(devices / (tensor * data), 1.0)
    batch = max(asked / replicas, data)
    layout = qsopt.Deployment(
        tensor=tensor, data=data, expert=min(float(row["ep"] or 1), tensor * data), batch=batch
    )
    name, measured = model_name(row["model"]) or "", float(row["tpot_ms"]) * MILLISECOND
    tpot = predicted_tpot(_model(row), row, layout, efficiency)
    return Served(
        name, row["precision"], measured, asked / measured / devices, tpot, asked / tpot / devices
    )


def _published(row: dict[str, str], efficiency: str) -> Served:
    tensor, stages = float(row["tp"]), float(row["pp"] or 1)
    per_replica = tensor * stages
    model, devices = _model(row), float(row["n_gpus"] or per_replica)
    cluster = qsopt.load_cluster(f"{int(per_replica)}x{accelerator_name(row['gpu'])}")
    workload = qsopt.Workload(context=float(row["isl"]) + float(row["osl"]) / 2.0)
    wanted = Request(
        tensor=tensor,
        pipeline=stages,
        expert=float(row["ep"] or 1) if _routed(row["model"]) else None,
    )
    layout = resolve(
        model, Service(cluster, workload, efficiency_set(efficiency)), wanted
    ).deployment
    tpot = predicted_tpot(model, row, layout, efficiency)
    measured = float(row["value"]) / (devices if TOTALS[row["metric"]] == "total" else 1.0)
    name = model_name(row["model"]) or ""
    return Served(
        name,
        row["precision"],
        float("nan"),
        measured,
        tpot,
        float(layout.batch) / tpot / per_replica,
    )


def _model(row: dict[str, str]) -> qsopt.Model:
    return precise(
        model_name(row["model"]) or "",
        {"fp16": "bf16", "w4a16": "mxfp4"}.get(row["precision"], row["precision"]),
    )


def predicted_tpot(
    model: qsopt.Model, row: dict[str, str], layout: qsopt.Deployment, efficiency: str
) -> float:
    """Time per output token, with the prompts that are read meanwhile [s]."""
    prompt, answer = float(row["isl"]), float(row["osl"])
    replica = int(float(layout.replica_devices))
    cluster = qsopt.load_cluster(f"{replica}x{accelerator_name(row['gpu'])}")
    step = qsopt.evaluate(
        model, cluster, qsopt.Workload(prompt + answer / 2.0), layout, efficiency
    ).tpot
    read = float(
        qsopt.prefill(model, cluster, qsopt.Workload(prompt), layout, efficiency).seconds.sum()
    )
    return float(step) + float(layout.batch / layout.data) * read / answer


# ---- pairs ---------------------------------------------------------------------------------------


def pairs(
    groups: dict[tuple[str, ...], list[Served]], limits: Iterable[float], law: str
) -> list[Row]:
    """Every MoE against every dense model of a group, by its best configuration under each limit of
    TPOT [s].
    """
    found = []
    for key, members in groups.items():
        routed = sorted(
            {run.model for run in members if moe_layers(load_model(run.model)) is not None}
        )
        dense = sorted({run.model for run in members} - set(routed))
        for moe, other, limit in itertools.product(routed, dense, limits):
            sides = [[run for run in members if run.model == name] for name in (moe, other)]
            measured = [
                _most((run.tpot, run.rate) for run in side if np.isnan(limit) or run.tpot <= limit)
                for side in sides
            ]
            told = [
                _most(
                    (run.predicted_tpot, run.predicted_rate)
                    for run in side
                    if not run.predicted_tpot > limit
                )
                for side in sides
            ]
            if all(measured) and all(told):
                found.append(
                    {
                        "moe": moe,
                        "dense": other,
                        "accelerator": key[0],
                        "stack": key[1],
                        "prompt": float(key[2]),
                        "answer": float(key[3]),
                        "precisions": " / ".join(
                            sorted({run.precision or "as published" for run in side})[0]
                            for side in sides
                        ),
                        "tpot_limit": None if np.isnan(limit) else limit,
                        "moe_tokens_per_s": measured[0],
                        "dense_tokens_per_s": measured[1],
                        "measured_ratio": measured[1] / measured[0],
                        "predicted_ratio": told[1] / told[0],
                        **sizes(moe, other, law),
                    }
                )
    return found


def _most(runs: Iterable[tuple[float, float]]) -> float:
    """The largest rate, 0 where there is none."""
    return max((rate for _, rate in runs), default=0.0)


def sizes(moe: str, dense: str, law: str) -> Row:
    """How the pair's dense model compares with the MoE, and with the one that the law calls its
    match.
    """
    routed, other = parameter_count(load_model(moe)), parameter_count(load_model(dense))
    believed = belief(load_model(moe), law, model_facts(moe).training_tokens, raw=True)
    q = float(other.total / routed.active)
    low, high = believed.interval or (believed.q, believed.q)
    return {
        "q": q,
        "qs": float(other.total / routed.total),
        "law_q": believed.q,
        "law_q_low": low,
        "law_q_high": high,
        "size_over_match": q / believed.q,
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
    names = sorted({(row["moe"], row["dense"]) for row in rows})
    for (moe, dense), colour, mark in zip(
        names, itertools.cycle(style.CYCLE), itertools.cycle(style.MARKS)
    ):
        kept = [row for row in rows if (row["moe"], row["dense"]) == (moe, dense)]
        measured = [row["measured_ratio"] for row in kept]
        label = f"{dense} over {moe}"
        left.plot(
            [row["size_over_match"] for row in kept],
            measured,
            mark,
            color=colour,
            markersize=5,
            alpha=0.7,
            label=label,
        )
        right.plot(
            [row["predicted_ratio"] for row in kept],
            measured,
            mark,
            color=colour,
            markersize=5,
            alpha=0.7,
        )
    _axes(left, rows)
    low, high = 0.05, 20.0
    right.plot([low, high], [low, high], color=style.GREY, linewidth=1)
    right.axhline(1.0, color=style.GREY, linewidth=0.6, linestyle=":")
    right.axvline(1.0, color=style.GREY, linewidth=0.6, linestyle=":")
    right.set_xlim(low, high)
    right.set_ylim(low, high)
    style.ratio_axis(right.xaxis, low, high)
    style.ratio_axis(right.yaxis, low, high)
    right.set_xlabel("predicted: dense over MoE, tokens/s per device")
    right.set_ylabel("measured: dense over MoE, tokens/s per device")
    right.set_title("does the model predict it?", loc="left", fontsize=10)
    style.plain(right)
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


def _axes(axes: Axes, rows: list[Row]) -> None:
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
