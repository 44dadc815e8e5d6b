"""The constants of serving, fitted to end-to-end results and checked on whole models and
accelerators left out.
"""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tomlkit
from jaxtyping import Array, Float

from qsopt.arrays import Scalar
from qsopt.calibration.descent import minimiser
from qsopt.calibration.serving import robust
from qsopt.calibration.serving.runs import Host, Runs, tpot, ttft
from qsopt.files import write_text
from qsopt.fitted.errors import Column, Errors, ranked_right
from qsopt.fitted.groups import digits, errors_list
from qsopt.fitted.server import BITS, by_bits_table, load_server_fit, of_software
from qsopt.units import MICROSECOND

STEPS, RATE = 800, 0.05
_START = {"late": 3.0, "first_layer": 1e-3, "host_layer": 3e-5, "burst": 0.1}
"""Constants that a descent does not begin with at 1."""


def fit_host(
    runs: Runs, weights: Float[np.ndarray, "sets rows"]
) -> tuple[Host, Float[np.ndarray, "sets rows"]]:
    """Constants by robust descent on the logs of both times, for each set of weights, and the times
    per token that they predict.
    """
    start = _start(len(runs.backends))
    numbers = runs.unlabelled

    def loss(free: Host, weight: Float[Array, " rows"]) -> Scalar:
        host = jax.tree.map(jnp.exp, free)
        drawn = robust.RIDGE * jnp.sum(free.by_bits**2)
        return drawn + sum(
            _mean_loss(of(numbers, host), getattr(runs, name), weight)
            for name, of in (("tpot", tpot), ("ttft", ttft))
        )

    def descend(weight: Float[Array, " rows"]) -> tuple[Host, Scalar]:
        free = minimiser(lambda free: loss(free, weight), start, RATE, STEPS)
        host = jax.tree.map(jnp.exp, free)
        return host, tpot(numbers, host)

    host, times = jax.jit(lambda sets: jax.lax.map(descend, sets))(jnp.asarray(weights))
    return host, np.asarray(times)


def _start(backends: int) -> Host:
    """Logs of the constants that a descent begins with."""
    by_bits = jnp.ones((backends, len(BITS)))
    ones = Host(jnp.ones(backends), by_bits, jnp.ones(backends), *(jnp.ones(()) for _ in range(4)))
    host = eqx.tree_at(
        lambda h: [getattr(h, name) for name in _START],
        ones,
        [getattr(ones, name) * value for name, value in _START.items()],
    )
    return jax.tree.map(jnp.log, host)


def _mean_loss(
    predicted: Float[Array, " rows"], measured: Column, weight: Float[Array, " rows"]
) -> Scalar:
    """Of the rows where anything was measured."""
    known = np.isfinite(measured)
    error = jnp.log(predicted) - np.log(np.where(known, measured, 1.0))
    counted = jnp.where(known, weight, 0.0)
    loss = jnp.sum(counted * robust.loss(error))
    return loss / jnp.maximum(jnp.sum(counted), 1.0)


def check_host(runs: Runs) -> tuple[Host, dict[str, Column], dict[str, Column]]:
    """Constants fitted to all rows, and times per token and to the first token of fits that saw the
    row, not its model, or not its accelerator.
    """
    models, gpus = (
        [column == name for name in np.unique(column)] for column in (runs.model, runs.gpu)
    )
    sets = np.stack([np.ones(len(runs.tpot)), *(~rows * 1.0 for rows in (*models, *gpus))])
    host, times = fit_host(runs, sets)
    first = np.asarray(jax.vmap(lambda one: ttft(runs.unlabelled, one))(host))
    fitted = jax.tree.map(lambda leaf: np.asarray(leaf[0]), host)
    return fitted, _unseen(times, models, gpus), _unseen(first, models, gpus)


def _unseen(
    times: Float[np.ndarray, "sets rows"], models: list[np.ndarray], gpus: list[np.ndarray]
) -> dict[str, Column]:
    """Each row's time by the fit to all, by the one without its model, and without its
    accelerator.
    """
    unseen = {"fitted": times[0]}
    for name, parts, predicted in (
        ("other_shapes", models, times[1 : 1 + len(models)]),
        ("other_accelerators", gpus, times[1 + len(models) :]),
    ):
        unseen[name] = sum(
            np.where(rows, time, 0.0) for rows, time in zip(parts, predicted, strict=True)
        )
    return unseen


def ordering(runs: Runs, predicted: Column) -> tuple[int, int]:
    """Pairs of configurations of one model and accelerator that are ranked right by time per token,
    and all pairs.
    """
    return ranked_right(predicted, runs.tpot, np.char.add(np.char.add(runs.model, "|"), runs.gpu))


def save_host(host: Host, backends: tuple[str, ...], left: dict[str, Errors], path: Path) -> None:
    """Write the constants of these backends with the errors that they leave.

    Raises:
        InputError: if the file cannot be written.
    """
    document = tomlkit.document()
    for line in (
        "What serving adds to a decode step, fitted to end-to-end results. Written by `qsopt "
        "calibrate`.",
        "Lists of errors are [rows, median, 90th percentile, signed median] of relative error.",
    ):
        document.add(tomlkit.comment(line))
    document.add("host_layer_us", digits(float(host.host_layer) / MICROSECOND))
    document.add("first_layer_us", digits(float(host.first_layer) / MICROSECOND))
    document.add("interference", digits(float(host.interference)))
    document.add("burst", digits(float(host.burst)))
    for name, one in left.items():
        document.add(name, errors_list(one))
    constants = {
        backend: {
            "scale": digits(float(host.scale[place])),
            "by_bits": by_bits_table(host.by_bits[place]),
            "late_steps": digits(float(host.late[place])),
        }
        for place, backend in enumerate(backends)
    }
    document.add("backend", constants)
    write_text(path, tomlkit.dumps(document))


def load_host(path: Path, backends: tuple[str, ...]) -> Host:
    """Read the constants of these backends; those of an unknown one are the mean of all.

    Raises:
        InputError: if the file cannot be read.
    """
    fit = load_server_fit(path)
    return Host(
        jnp.array([of_software(fit.scale, name) for name in backends]),
        jnp.array([fit.factors(name) for name in backends]),
        jnp.array([of_software(fit.late, name) for name in backends]),
        jnp.asarray(fit.first_layer),
        jnp.asarray(fit.host_layer),
        jnp.asarray(fit.interference),
        jnp.asarray(fit.burst),
    )
