"""The constants of serving, fitted to end-to-end results and checked on whole models and
accelerators left out.
"""

import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tomlkit
from jaxtyping import Array, Float

from qsopt.arrays import Scalar
from qsopt.calibration.descent import minimiser
from qsopt.calibration.serving.runs import Host, Runs, tpot
from qsopt.errors import InputError
from qsopt.files import write_text
from qsopt.fitted.errors import Column, Errors, ranked_right
from qsopt.fitted.groups import digits, errors_list
from qsopt.units import MILLISECOND

STEPS, RATE = 800, 0.05
_FIRST_HOST = 2e-3


def fit_host(
    runs: Runs, weights: Float[np.ndarray, "sets rows"]
) -> tuple[Host, Float[np.ndarray, "sets rows"]]:
    """Constants by robust descent on log time, for each set of weights, and the times that they
    predict.
    """
    count = len(runs.backends)
    first = Host(jnp.zeros(count), jnp.full(count, jnp.log(_FIRST_HOST)), jnp.zeros(()))
    numbers = runs.unlabelled

    def loss(free: Host, weight: Float[Array, " rows"]) -> Scalar:
        error = jnp.log(tpot(numbers, jax.tree.map(jnp.exp, free))) - jnp.log(runs.tpot)
        return jnp.sum(weight * optax.losses.huber_loss(error, delta=0.15)) / jnp.sum(weight)

    def descend(weight: Float[Array, " rows"]) -> tuple[Host, Scalar]:
        free = minimiser(lambda free: loss(free, weight), first, RATE, STEPS)
        host = jax.tree.map(jnp.exp, free)
        return host, tpot(numbers, host)

    host, times = jax.jit(lambda sets: jax.lax.map(descend, sets))(jnp.asarray(weights))
    return host, np.asarray(times)


def check_host(runs: Runs) -> tuple[Host, dict[str, Column]]:
    """Constants fitted to all rows, and the times of fits that saw the row, not its model, or not
    its accelerator.
    """
    models, gpus = (
        [column == name for name in np.unique(column)] for column in (runs.model, runs.gpu)
    )
    sets = np.stack([np.ones(len(runs.tpot)), *(~rows * 1.0 for rows in (*models, *gpus))])
    host, times = fit_host(runs, sets)
    unseen = {"fitted": times[0]}
    for name, parts, predicted in (
        ("other_shapes", models, times[1 : 1 + len(models)]),
        ("other_accelerators", gpus, times[1 + len(models) :]),
    ):
        unseen[name] = sum(
            np.where(rows, time, 0.0) for rows, time in zip(parts, predicted, strict=True)
        )
    return jax.tree.map(lambda leaf: np.asarray(leaf[0]), host), unseen


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
    document.add("interference", digits(float(host.interference)))
    for name, one in left.items():
        document.add(name, errors_list(one))
    constants = {
        backend: {
            "scale": digits(float(host.scale[place])),
            "host_ms": digits(float(host.host[place]) / MILLISECOND),
        }
        for place, backend in enumerate(backends)
    }
    document.add("backend", constants)
    write_text(path, tomlkit.dumps(document))


def load_host(path: Path, backends: tuple[str, ...]) -> Host:
    """Read the constants of these backends; those of an unknown one are the mean.

    Raises:
        InputError: if the file cannot be read.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        known = {
            name: (float(one["scale"]), float(one["host_ms"]) * MILLISECOND)
            for name, one in table["backend"].items()
        }
        mean = tuple(np.mean(list(known.values()), axis=0))
        scale, host = zip(*(known.get(name, mean) for name in backends), strict=True)
        return Host(jnp.array(scale), jnp.array(host), float(table["interference"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); `qsopt calibrate` writes such a file"
        ) from None
