"""End-to-end serving: time per output token from a decode step, the prompts read in between, and a
host.

    TPOT = scale step(B, isl + osl/2) + host + interference B prefill(isl)/osl

A server with B sequences reads, while one of them decodes its osl tokens, the prompts of the B that
replace them, so each token waits for B prefill/osl of that work. Step and prefill come from the
decode model with the operators' efficiencies of that backend and accelerator; `scale` and `host`
are one number for each backend and `interference` one for all. A request takes the time to read its
own prompt and osl TPOT, and as many run at once as there are sequences: that gives tokens/s.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qsopt.arrays import Scalar, number, scalar
from qsopt.calibration.tables import names
from qsopt.calibration.tables.columns import Skipped, Table, known, per_name, timed
from qsopt.catalog.efficiencies import efficiency_set
from qsopt.catalog.models import load_model, model_names
from qsopt.errors import InputError
from qsopt.fitted import sets
from qsopt.fitted.errors import Column
from qsopt.fitted.groups import Calibration
from qsopt.physics.evaluate import timing, whole_units
from qsopt.physics.memory import memory
from qsopt.physics.prefill import compiled_prefill
from qsopt.spec.deployment import Deployment
from qsopt.spec.efficiency import Efficiency
from qsopt.spec.formats import number_format
from qsopt.spec.hardware import Accelerator, Cluster
from qsopt.spec.model import Model
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload
from qsopt.units import MILLISECOND

_MODELS = {
    "minimax-m2.5": "minimax-m2",
    "kimi-k2.5": "kimi-k2",
    "mistral-7b": "mistral-7b-v0.1",
    "llama-7b": "llama-2-7b",
}
"""Names of checkpoints with the sizes of a model of the catalog."""

_BLOCK_FP8 = ("deepseek-v3", "deepseek-r1", "qwen3-235b-a22b", "minimax-m2", "qwen3.5-397b-a17b")
"""Models whose fp8 checkpoints are scaled by blocks."""

_FORMATS = {"fp4": "nvfp4", "fp16": "bf16"}

_DEFAULTS = {"precision": "", "ep": "1", "attention_dp": "1", "pp": "1"}
"""Columns that a table of results may leave out, and what they are then."""

_SIZES = ("tp", "ep", "attention_dp", "pp", "isl", "osl", "n_gpus")


class Runs(eqx.Module):
    """End-to-end results with what the decode model says of each."""

    step: Column
    """Time of a decode step at the mean context [s]."""
    waiting: Column
    """Prefill work that falls on one token: B prefill/osl [s]."""
    backend: np.ndarray
    """Index into `backends`."""
    tpot: Column
    """Measured time per output token; NaN if only throughput was published [s]."""
    reading: Column
    """Time to read one prompt, for each of its output tokens: prefill/osl [s]."""
    sequences: Column
    """Sequences that decode at once, for each device."""
    throughput: Column
    """Measured output tokens per second and device; NaN if not known [tokens/s]."""
    model: np.ndarray
    gpu: np.ndarray
    layout: np.ndarray
    """All that tells a configuration from others of the same model and accelerator, the repeat
    apart.
    """
    backends: tuple[str, ...] = eqx.field(static=True)

    @property
    def unlabelled(self) -> "Runs":
        """Numbers alone, which JAX can trace."""
        return eqx.tree_at(
            lambda runs: (runs.model, runs.gpu, runs.layout), self, (None, None, None)
        )

    def where(self, keep: np.ndarray) -> "Runs":
        """Only some rows."""
        return jax.tree.map(lambda column: np.asarray(column)[keep], self)


class Host(eqx.Module):
    """The constants of serving."""

    scale: Float[Array, " backends"]
    """Time of a step in service over that of its operators."""
    host: Float[Array, " backends"]
    """Scheduling, sampling and launches of a step [s]."""
    interference: Scalar = number()
    """Share of the prefill work that decoding waits for."""


def tpot(runs: Runs, host: Host) -> Scalar:
    """Predicted time per output token [s]."""
    scale, fixed = (jnp.asarray(column)[runs.backend] for column in (host.scale, host.host))
    return scale * runs.step + fixed + host.interference * runs.waiting


def throughput(runs: Runs, host: Host) -> Scalar:
    """Predicted output tokens per second and device [tokens/s]."""
    return runs.sequences / (tpot(runs, host) + runs.reading)


def model_name(name: str) -> str | None:
    """The catalog's model of that name, or None."""
    found = _MODELS.get(name.lower(), name.lower())
    return found if found in model_names() else None


def read_runs(table: Table, calibration: Calibration, skipped: Skipped) -> Runs:
    """End-to-end results, each with its step and prefill time.

    The measured throughput is `out_tok_s_gpu_measured` where the table has it, else
    `out_tok_s_gpu_est`.

    Raises:
        InputError: if a column that is needed is missing.
    """
    return runs_of(timed(table, "tpot_ms", skipped), calibration, skipped)


def runs_of(table: Table, calibration: Calibration, skipped: Skipped) -> Runs:
    """Results whose time per token may be unknown; without a `concurrency`, the batch is the
    largest that fits the memory.

    Raises:
        InputError: if a column that is needed is missing.
    """
    table = _usable(known(_completed(table), skipped, form=None), skipped)
    backends, backend = np.unique(table.text("backend"), return_inverse=True)
    cases = _cases(table, calibration)
    batch = np.array([float(case.deployment.batch) for case in cases])
    fits = batch > 0.0
    skipped.add(table.file, "the model does not fit the memory", int(np.sum(~fits)))
    table, cases = table.where(fits), [case for case, fine in zip(cases, fits, strict=True) if fine]
    step, reading, waiting = _times(table.text("model"), cases)
    return Runs(
        step=step,
        waiting=waiting,
        backend=backend[fits],
        tpot=_optional(table, "tpot_ms") * MILLISECOND,
        reading=reading,
        sequences=np.array(
            [float(case.deployment.batch / case.deployment.replica_devices) for case in cases]
        ),
        throughput=_measured(table),
        model=table.text("model"),
        gpu=per_name(table.text("gpu"), lambda name: names.accelerator_name(name) or ""),
        layout=_joined(table, ("model", "gpu", "backend", "precision", *_SIZES, "concurrency")),
        backends=tuple(map(str, backends)),
    )


def _completed(table: Table) -> Table:
    """With the columns that may be left out."""
    columns = {
        name: np.full(len(table), value) for name, value in _DEFAULTS.items()
    } | table.columns
    if "n_gpus" not in columns:
        full = Table(table.file, columns)
        columns["n_gpus"] = (
            full.number("tp") * full.number("attention_dp") * full.number("pp")
        ).astype(str)
    return Table(table.file, columns)


def _usable(table: Table, skipped: Skipped) -> Table:
    """Rows with a model of the catalog, sizes of a deployment and links between its devices; the
    others are counted.
    """
    table = _kept(
        table,
        table.text("model"),
        lambda name: model_name(name) is not None,
        "unknown model",
        skipped,
    )
    table = _kept(table, table.text("precision"), _has_format, "unknown format", skipped)
    sizes = np.array([table.number(name) for name in _SIZES])
    sound = np.all(np.isfinite(sizes) & (sizes > 0.0), axis=0) & ~(
        table.number("concurrency") <= 0.0
    )
    skipped.add(table.file, "a size that is missing or not positive", int(np.sum(~sound)))
    table = table.where(sound)
    return _kept(
        table,
        _joined(table, ("gpu", "n_gpus")),
        _linked,
        "no link speed known between so many devices:",
        skipped,
    )


def _kept(
    table: Table, column: np.ndarray, accept: Callable[[str], bool], reason: str, skipped: Skipped
) -> Table:
    fine = per_name(column, accept).astype(bool)
    for name in np.unique(column[~fine]):
        skipped.add(table.file, f"{reason} {name}", int(np.sum(column == name)))
    return table.where(fine)


def _has_format(name: str) -> bool:
    return name in ("", "w4a16") or names.dtype(_FORMATS.get(name, name)) is not None


def _linked(key: str) -> bool:
    gpu, devices = key.split("|")
    try:
        names.accelerator(names.accelerator_name(gpu) or "", int(float(devices)))
    except InputError:
        return False
    return True


def _optional(table: Table, name: str) -> Column:
    return table.number(name) if name in table.columns else np.full(len(table), np.nan)


def _measured(table: Table) -> Column:
    told, estimated = (
        _optional(table, "out_tok_s_gpu_measured"),
        _optional(table, "out_tok_s_gpu_est"),
    )
    return np.where(told > 0.0, told, np.where(estimated > 0.0, estimated, np.nan))


def _joined(table: Table, columns: tuple[str, ...]) -> np.ndarray:
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
        else _FORMATS.get(precision, precision)
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


def _cases(table: Table, calibration: Calibration) -> list[ServedRun]:
    """What every row ran; its batch is 0 where the model does not fit."""
    columns = {name: table.number(name) for name in (*_SIZES, "concurrency")}
    base = efficiency_set("fitted")
    keys = _joined(table, ("backend", "gpu"))
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


def _times(model: np.ndarray, cases: list[ServedRun]) -> tuple[Column, Column, Column]:
    """Step time, reading and waiting prefill work of every row, one compilation for each model."""
    found = np.empty((3, len(cases)))
    for name in np.unique(model):
        rows = np.flatnonzero(model == name)
        batched = jax.tree.map(
            lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]),
            *(cases[row] for row in rows),
        )
        found[:, rows] = np.stack(_both(batched))
    return found[0], found[1], found[2]


@jax.jit
@jax.vmap
def _both(case: ServedRun) -> tuple[Scalar, Scalar, Scalar]:
    deployment = case.deployment
    step = timing(case.model, case.service, deployment).tpot
    prompts = eqx.tree_at(lambda s: s.workload, case.service, Workload(context=case.prompt))
    read = compiled_prefill(case.model, prompts, deployment).seconds
    reading = read / case.answer
    return step, reading, deployment.batch / deployment.data / deployment.pipeline * reading
