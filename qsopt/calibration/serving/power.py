"""The power law fitted to measured power of servers, and checked on whole models and accelerators
left out.

Shares of busy time come from the decode model with the operators' efficiencies of that software and
accelerator, at the mean context of an answer. They are of two times: of the decode step that the
model predicts, and of the measured pace, batch over output tokens/s. Prompts are not charged, as
their lengths are not measured; the compute constant of the pace takes up some of their work. A
table states attention's ranks as `n_gpus / attention_dp`, also where experts are spread over all
devices.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tomlkit
from scipy.optimize import least_squares

from qsopt.arrays import Scalar
from qsopt.calibration.serving.served_run import efficiency_of, model_name, precise
from qsopt.calibration.tables import names
from qsopt.calibration.tables.columns import Skipped, Table, known, per_name, timed
from qsopt.catalog.efficiencies import KERNELS, efficiency_set
from qsopt.catalog.models import load_model
from qsopt.files import write_text
from qsopt.fitted.errors import Column, Errors, errors
from qsopt.fitted.groups import Calibration, digits, errors_list
from qsopt.fitted.power import COLUMNS, PACE, STEP, TOKENS, FittedPower, load_power
from qsopt.fitted.server import width
from qsopt.physics.energy import PowerLaw
from qsopt.physics.evaluate import timing_by_operator
from qsopt.physics.server import step_format
from qsopt.spec.deployment import Deployment
from qsopt.spec.hardware import Cluster
from qsopt.spec.model import Model
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

_START, _LOWEST, _HIGHEST = (0.3, 0.2, 0.2), (0.01, 0.0, 0.0), (0.9, 3.0, 3.0)
"""Of the constants, in units of the limit."""

_CONSTANTS = ("idle", "memory", "compute")

_ROBUST = 0.15
"""Relative error above which a row counts less."""

_SHARPNESS = 20.0
"""Norm that joins the law to the limit while it is fitted, so that rows at the limit have a slope.
"""


class PowerRows(eqx.Module):
    """Measured power, and what the decode model says of each row."""

    power: Column
    """Of a device over its limit."""
    compute: Column
    """Time of a step in which matrix units work [s]."""
    memory: Column
    """Time of a step in which memory works [s]."""
    step: Column
    """Decode step that the model predicts [s]."""
    pace: Column
    """Measured time per output token of all sequences: batch over output tokens/s [s]."""
    model: np.ndarray
    gpu: np.ndarray
    backend: np.ndarray
    batch: Column
    """Sequences that decode at once."""
    devices: Column
    layers: Column
    """Of the model."""
    width: np.ndarray
    """Index into the widths of weights, `fitted.server.BITS`."""

    def where(self, keep: np.ndarray) -> "PowerRows":
        """Only some rows."""
        return jax.tree.map(lambda column: np.asarray(column)[keep], self)


def read_power(table: Table, calibration: Calibration, skipped: Skipped) -> PowerRows:
    """Measured power, with the busy times of a step.

    Raises:
        InputError: if a column that is needed is missing.
    """
    return power_rows(usable(table, skipped), calibration)


def usable(table: Table, skipped: Skipped) -> Table:
    """Rows with a power, whose model and accelerator the catalog knows; the others are counted.

    Raises:
        InputError: if a column that is needed is missing.
    """
    table = known(timed(table, "power_w", skipped), skipped, form=None)
    fine = per_name(table.text("model"), lambda name: float(model_name(name) is not None)) > 0
    for name in np.unique(table.text("model")[~fine]):
        count = int(np.sum(table.text("model") == name))
        skipped.add(table.file, f"unknown model {name}", count)
    return table.where(fine)


def power_rows(table: Table, calibration: Calibration) -> PowerRows:
    """The rows of a table of which all can be used."""
    gpu = per_name(table.text("gpu"), lambda name: names.accelerator_name(name) or "")
    devices, batch = table.number("n_gpus"), table.number("batch")
    limit = per_name(gpu, lambda name: float(names.accelerator(name).power_limit))
    busy = np.array([_busy(table, row, calibration) for row in range(len(table))]).reshape(-1, 3)
    return PowerRows(
        power=table.number("power_w") / devices / np.asarray(limit, dtype=float),
        compute=busy[:, 0],
        memory=busy[:, 1],
        step=busy[:, 2],
        pace=batch / table.number("out_tok_s"),
        model=table.text("model"),
        gpu=gpu,
        backend=table.text("backend"),
        batch=batch,
        devices=devices,
        layers=per_name(table.text("model"), _layers),
        width=np.array([width(step_format(_model(table, row))) for row in range(len(table))]),
    )


def _layers(model: str) -> float:
    return float(load_model(model_name(model) or "").layers)


def _model(table: Table, row: int) -> Model:
    precision = str(table.text("precision")[row])
    stored = "" if precision == "mxfp4" else precision  # the formats of the checkpoint itself
    return precise(model_name(str(table.text("model")[row])) or "", stored)


def _busy(table: Table, row: int, calibration: Calibration) -> tuple[float, float, float]:
    """Compute, memory and whole time of the step of one row [s]."""
    one = {
        name: float(table.text(name)[row])
        for name in ("n_gpus", "ep", "attention_dp", "batch", "isl_guess", "osl")
    }
    backend, gpu = (str(table.text(name)[row]) for name in ("backend", "gpu"))
    chip = names.accelerator_name(gpu) or ""
    context = one["isl_guess"] + one["osl"] / 2.0
    efficiency = efficiency_of(calibration, backend, gpu, efficiency_set(KERNELS))
    cluster = Cluster(names.accelerator(chip), one["n_gpus"])
    ranks = one["attention_dp"]
    deployment = Deployment(
        one["n_gpus"] / ranks, ranks, 1.0, max(one["ep"], 1.0), max(one["batch"], ranks)
    )
    service = Service(cluster, Workload(context), efficiency)
    return tuple(map(float, _times(_model(table, row), service, deployment)))  # pyright: ignore[reportReturnType]


@jax.jit
def _times(model: Model, service: Service, deployment: Deployment) -> tuple[Scalar, Scalar, Scalar]:
    _, spent = timing_by_operator(model, service, deployment)
    return jnp.sum(spent.compute), jnp.sum(spent.memory), jnp.sum(spent.seconds)


def _features(rows: PowerRows, of: str) -> np.ndarray:
    """What idle, memory and compute are multiplied by."""
    whole = getattr(rows, of)
    return np.stack([np.ones_like(whole), rows.memory / whole, rows.compute / whole], axis=1)


def fit_power(rows: PowerRows, of: str = STEP) -> PowerLaw:
    """Constants by robust least squares on the logarithm of power, for shares of a step or of the
    measured pace.
    """
    features, target = _features(rows, of), np.log(rows.power)

    def residual(constants: np.ndarray) -> np.ndarray:
        parts = features @ constants
        return np.log(parts) - np.log1p(parts**_SHARPNESS) / _SHARPNESS - target

    found = least_squares(
        residual, _START, bounds=(_LOWEST, _HIGHEST), loss="soft_l1", f_scale=_ROBUST
    )
    return PowerLaw(*found.x)


def predicted_power(rows: PowerRows, law: PowerLaw, of: str = STEP) -> Column:
    """Power of a device over its limit, by the law."""
    constants = np.array([float(law.idle), float(law.memory), float(law.compute)])
    return np.minimum(_features(rows, of) @ constants, 1.0)


def check_power(rows: PowerRows, of: str = STEP) -> FittedPower:
    """Constants fitted to all rows, with the errors of fits that saw the row, not its model, or not
    its accelerator.
    """

    def fit(some: PowerRows) -> PowerLaw:
        return fit_power(some, of)

    def predicted(some: PowerRows, law: PowerLaw) -> Column:
        return predicted_power(some, law, of)

    return FittedPower(*checked(rows, rows.power, (rows.model, rows.gpu), fit, predicted))


class Selectable(Protocol):
    """Rows of which some can be taken."""

    def where(self, keep: np.ndarray) -> Self:
        """Only some rows."""
        ...


Rows = TypeVar("Rows", bound=Selectable)
Law = TypeVar("Law")


def checked(
    rows: Rows,
    measured: Column,
    labels: tuple[np.ndarray, np.ndarray],
    fit: Callable[[Rows], Law],
    predicted: Callable[[Rows, Law], Column],
) -> tuple[Law, dict[str, Errors]]:
    """A law fitted to all rows, and errors by the names of `COLUMNS`: of the rows that it saw, and
    of rows by fits to those of other models, and of other accelerators; without any, NaN.

    Args:
        rows: what is fitted.
        measured: of the rows.
        labels: models and accelerators.
        fit: a law of some rows.
        predicted: what a law says of some rows.
    """
    law = fit(rows)
    columns = [predicted(rows, law)]
    for label in labels:
        unseen = np.full(len(measured), np.nan)
        for name in np.unique(label):
            mine = label == name
            if not mine.all():
                unseen[mine] = predicted(rows.where(mine), fit(rows.where(~mine)))
        columns.append(unseen)
    left = {
        name: errors(column[np.isfinite(column)], measured[np.isfinite(column)])
        for name, column in zip(COLUMNS, columns, strict=True)
    }
    return law, left


def save_power(
    rows: PowerRows, source: str, path: Path, tokens: Mapping[str, Any] | None = None
) -> None:
    """Fit both laws and write them with their errors.

    Args:
        rows: measured power.
        source: where it comes from.
        path: file to write.
        tokens: the law of the energy of a token, as the file lists it.

    Raises:
        InputError: if the file cannot be written.
    """
    document = tomlkit.document()
    for line in (
        "Power of a device over its limit: idle + memory * share of the time in which memory",
        "works + compute * that of matrix units, up to 1. Written by `qsopt calibrate`.",
        "step: shares of the decode step that the model predicts; pace: of the measured time.",
        "tokens: energy of an output token over the limit of all devices of a replica:",
        "(step * operators + memory * ... + compute * ...) / batch + sequence, in seconds.",
        "Lists of errors are [rows, median, 90th percentile, signed median] of relative error.",
    ):
        document.add(tomlkit.comment(line))
    document.add("source", source)
    for of in (STEP, PACE):
        found = check_power(rows, of)
        constants = {name: digits(float(getattr(found.law, name))) for name in _CONSTANTS}
        document.add(of, {**constants, **{k: errors_list(e) for k, e in found.errors.items()}})
    if tokens is not None:
        document.add(TOKENS, dict(tokens))
    write_text(path, tomlkit.dumps(document))


def power_errors(path: Path) -> list[dict[str, Any]]:
    """Errors in a file of power laws, one record for each law and who saw the rows."""
    return [
        {"of": of, "rows_seen_by": name, **left._asdict()}
        for of in (STEP, PACE)
        for name, left in load_power(path, of).errors.items()
    ]
