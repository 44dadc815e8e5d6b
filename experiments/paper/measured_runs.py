"""Measured serving results of MoE and dense models where they meet, and their predictions.

* Runs at stated concurrency (`e2e_inferencex.csv`): tokens/s while decoding is concurrency / TPOT;
  runs whose requests mostly wait in a queue are left out, as fewer of them decode at once than the
  concurrency says.
* Published full load (`e2e_published.csv`): tokens/s of a source and format. Full load is the
  largest batch that fits.

The prediction is made for the same configurations: TPOT = step(B, prompt + answer/2) + B
prefill(prompt)/answer.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

import qsopt
from qsopt.api.names import load_efficiency
from qsopt.calibration.serving.served_run import model_name, precise
from qsopt.calibration.tables.names import accelerator_name
from qsopt.catalog.models import load_model
from qsopt.deployments.request import Request, resolve
from qsopt.spec.model import moe_layers
from qsopt.spec.service import Service
from qsopt.units import MILLISECOND

TOTALS = {"out_tok_s_total": "total", "out_tok_s_per_gpu": "per device"}
"""Metrics of published results that are read."""

Group = tuple[str, ...]
"""What runs have in common: accelerator, stack or source, lengths of prompt and answer, and for
published results the format.
"""


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


def served_runs(rows: list[dict[str, str]], efficiency: str) -> dict[Group, list[Served]]:
    """Runs by accelerator, backend and lengths, where MoE and dense models meet."""
    fine = [row for row in rows if not queues(row)]
    groups = where_both_meet(fine, lambda row: (row["gpu"], row["backend"], row["isl"], row["osl"]))
    return {key: [_run(row, efficiency) for row in members] for key, members in groups.items()}


def queues(row: dict[str, str]) -> bool:
    """Whether a request waited longer for its first token than it took for all others."""
    return float(row["ttft_ms"]) > float(row["osl"]) * float(row["tpot_ms"])


def served_published(rows: list[dict[str, str]], efficiency: str) -> dict[Group, list[Served]]:
    """Published full loads by accelerator, source, lengths and format, where MoE and dense models
    meet.
    """
    fine = [
        row
        for row in rows
        if row["metric"] in TOTALS and not row["batch"] and row["isl"] and row["osl"] and row["tp"]
    ]
    groups = where_both_meet(
        fine, lambda row: (row["gpu"], row["source"], row["isl"], row["osl"], row["precision"])
    )
    return {
        key: [_published(row, efficiency) for row in members] for key, members in groups.items()
    }


def where_both_meet(
    rows: Iterable[dict[str, str]], group: Callable[[dict[str, str]], Group]
) -> dict[Group, list[dict[str, str]]]:
    """Rows of known models by group, only where both an MoE and a dense model were measured."""
    groups: dict[Group, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        if model_name(row["model"]) is not None and accelerator_name(row["gpu"]) is not None:
            groups[group(row)].append(row)
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
        model, Service(cluster, workload, load_efficiency(efficiency)), wanted
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
