"""The replica behind each row of a table of end-to-end results, and the times that the decode model
gives for its steps and prompts.
"""

from functools import cache
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qsopt.arrays import Scalar, scalar
from qsopt.calibration.tables import names
from qsopt.calibration.tables.columns import Table
from qsopt.catalog.efficiencies import KERNELS, efficiency_set
from qsopt.catalog.models import load_model
from qsopt.fitted import sets
from qsopt.fitted.errors import Column
from qsopt.fitted.groups import Calibration
from qsopt.fitted.server import POOLED, by_default
from qsopt.physics.evaluate import timing, whole_units
from qsopt.physics.memory import memory
from qsopt.physics.prefill import prefill_phase
from qsopt.spec.deployment import Deployment
from qsopt.spec.efficiency import Efficiency
from qsopt.spec.formats import number_format
from qsopt.spec.hardware import Accelerator, Cluster
from qsopt.spec.model import Model
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

_MODELS = {
    "minimax-m2.5": "minimax-m2",
    "kimi-k2.5": "kimi-k2",
}
"""Checkpoints whose layers are those of another model of the catalog."""

_BLOCK_FP8 = ("deepseek-v3", "deepseek-r1", "qwen3-235b-a22b", "minimax-m2", "qwen3.5-397b-a17b")
"""Models whose fp8 checkpoints are scaled by blocks."""

FORMATS = {"fp4": "nvfp4", "fp16": "bf16"}

BUDGET = 8192.0
"""Tokens of prompts that a forward reads at most where several wait, the usual limit of vLLM,
SGLang and TensorRT-LLM (max_num_batched_tokens, chunked_prefill_size, max_num_tokens).
"""

SIZES = ("tp", "ep", "attention_dp", "pp", "isl", "osl", "n_gpus")
"""Columns of a run that are numbers."""


def model_name(name: str) -> str | None:
    """The catalog's model of that name, or None."""
    return names.model_name(_MODELS.get(name.lower(), name))


def joined(table: Table, columns: tuple[str, ...]) -> np.ndarray:
    """The texts of several columns as one for each row."""
    return np.array(
        ["|".join(row) for row in zip(*(table.text(name) for name in columns), strict=True)],
        dtype=str,
    )


@cache
def precise(name: str, precision: str) -> Model:
    """A model of the catalog with its weights in the format of a checkpoint.

    fp8 checkpoints store all projections so, fp4 ones the feed-forward layers and experts, int4
    ones the experts; where the table says nothing, and for the 4-bit checkpoints of gpt-oss, the
    catalog's own formats stand.
    """
    model = load_model(name)
    if precision in ("", "w4a16") or (precision == "fp4" and name.startswith("gpt-oss")):
        return model
    form = (
        "fp8_block"
        if precision == "fp8" and name in _BLOCK_FP8
        else FORMATS.get(precision, precision)
    )
    weights = number_format(form)
    attention = number_format("bf16") if form in ("nvfp4", "int4") else weights
    ffn = weights if form != "int4" else number_format("bf16")
    return eqx.tree_at(
        lambda m: (m.precision.attention, m.precision.ffn, m.precision.experts),
        model,
        (attention, ffn, weights),
    )


class ServedRun(NamedTuple):
    """One replica, and the mean request that it serves."""

    model: Model
    service: Service
    """Exactly the replica's devices, and a workload at the mean context of a step."""
    deployment: Deployment
    prompt: Scalar
    """Tokens of a prompt."""
    answer: Scalar
    """Tokens of its answer."""


def served_runs(table: Table, calibration: Calibration) -> list[ServedRun]:
    """What every row ran; its batch is 0 where the model does not fit. The backend `POOLED` has
    values pooled over software and accelerators.
    """
    columns = {name: table.number(name) for name in (*SIZES, "concurrency")}
    base = by_default(efficiency_set(KERNELS))
    keys = joined(table, ("backend", "gpu"))
    efficiencies = {str(key): _efficiency(calibration, str(key), base) for key in np.unique(keys)}
    return [
        _case(
            precise(model_name(str(name)) or "", str(precision)),
            names.accelerator(names.accelerator_name(str(gpu)) or ""),
            efficiencies[str(keys[row])],
            {key: float(column[row]) for key, column in columns.items()},
        )
        for row, (name, precision, gpu) in enumerate(
            zip(*(table.text(name) for name in ("model", "precision", "gpu")), strict=True)
        )
    ]


def _efficiency(calibration: Calibration, key: str, base: Efficiency) -> Efficiency:
    backend, gpu = key.split("|")
    return efficiency_of(calibration, backend, gpu, base)


def efficiency_of(calibration: Calibration, backend: str, gpu: str, base: Efficiency) -> Efficiency:
    """Efficiencies of a software on an accelerator, or, for `POOLED`, those pooled over both."""
    if backend == POOLED:
        return sets.efficiency(calibration, None, None, base)
    return sets.efficiency(calibration, backend, names.accelerator_name(gpu), base)


def _case(
    model: Model, accelerator: Accelerator, efficiency: Efficiency, row: dict[str, float]
) -> ServedRun:
    """One replica; `tp` counts the devices of a copy of attention, also where experts are spread
    over all of them.
    """
    devices = row["tp"] * row["attention_dp"]
    unit = row["attention_dp"] * row["pp"]
    deployment = Deployment(
        row["tp"], row["attention_dp"], row["pp"], min(row["ep"], devices), unit
    )
    prompt, answer = scalar(row["isl"]), scalar(row["osl"])
    cluster = Cluster(accelerator, deployment.replica_devices)
    service = Service(cluster, Workload(context=prompt + answer / 2.0), efficiency)
    case = ServedRun(model, service, deployment, prompt, answer)
    if np.isnan(row["concurrency"]):
        batch = unit * float(_largest(case))
    else:
        batch = max(row["concurrency"] / max(row["n_gpus"] / (devices * row["pp"]), 1.0), unit)
    return case._replace(deployment=eqx.tree_at(lambda d: d.batch, deployment, scalar(batch)))


@jax.jit
def _largest(case: ServedRun) -> Scalar:
    """Largest whole number of batch units that fits the memory, from a deployment with one of
    them.
    """
    held = memory(case.model, case.service, case.deployment)
    return whole_units(held, scalar(1.0))


def times(model: np.ndarray, cases: list[ServedRun]) -> tuple[Column, Column, Column, Column]:
    """Step time, and prefill work for each output token, of every row: to read one's own prompt,
    what decoding waits for, and what may come before one's own. One compilation for each model.
    """
    found = np.empty((4, len(cases)))
    for name in np.unique(model):
        rows = np.flatnonzero(model == name)
        batched = jax.tree.map(
            lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]),
            *(cases[row] for row in rows),
        )
        found[:, rows] = np.stack(_both(batched))
    return found[0], found[1], found[2], found[3]


@jax.jit
@jax.vmap
def _both(case: ServedRun) -> tuple[Scalar, Scalar, Scalar, Scalar]:
    deployment = case.deployment
    step = timing(case.model, case.service, deployment).tpot
    prompts = eqx.tree_at(lambda s: s.workload, case.service, Workload(context=case.prompt))

    def read(tokens: Scalar) -> tuple[Scalar, Scalar]:
        """Time to first token of a prompt in forwards of so many tokens of a rank, and what it
        takes of a full pipeline.
        """
        found = prefill_phase(case.model, prompts, deployment, deployment.data * tokens)
        return found.latency, found.per_prompt

    budgets = jnp.stack([case.prompt, jnp.maximum(case.prompt, BUDGET)])
    latency, per_prompt = jax.vmap(read)(budgets)
    reading, others = latency[0] / case.answer, deployment.batch - 1.0
    waiting = deployment.batch / deployment.data / deployment.pipeline * reading
    return step, reading, waiting, others * per_prompt[1] / case.answer
