"""Calibration on the device at hand: kernels of decode sizes, the same fit, and reuse fragmentation
as measured.

Peaks are those that the device shows for a large product and for adding to an array in place, so
shares are of what it does, not of a datasheet. Weights may stay in a cache between runs, which a
served model's do not.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qsopt.calibration.device import kernels
from qsopt.calibration.fit import RELATED, Fit, fit
from qsopt.calibration.form import FORMS
from qsopt.calibration.points import Labels, OperatorPoints, where
from qsopt.calibration.tables.operators import gqa_cost
from qsopt.files import read_text, write_text
from qsopt.fitted.errors import errors
from qsopt.physics import layer_weights, operators
from qsopt.physics.roofline import Cost

WIDTHS = ("half_width", "half_columns")
"""Parameters of the width of a product, of which one is run."""


@dataclass(frozen=True)
class Sizes:
    """What is run."""

    hidden: int = 1024
    width: int = 1024
    """Of an expert; the dense layer is top_k as wide, so that both compute the same for a token."""
    experts: int = 32
    top_k: int = 4
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    contexts: tuple[int, ...] = (512, 2048, 8192)
    kv_heads: int = 4
    group: int = 4
    head_dim: int = 64
    copy_megabytes: int = 256
    peak_size: int = 2048
    ragged_up_to: int = 16
    """Largest batch that `ragged_dot` is run at, which on a CPU computes every expert for every
    row.
    """


@dataclass(frozen=True)
class Timing:
    """One kernel at one size."""

    kind: str
    kernel: str
    batch: int
    context: int
    hit: int
    """Experts hit."""
    seconds: float


def measure(sizes: Sizes, dtype: Any = None) -> tuple[list[Timing], float, float]:
    """Run all kernels: their times, the peak [FLOP/s] and the bandwidth [byte/s]."""
    dtype = dtype or (jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16)
    top = kernels.peak(sizes.peak_size, dtype)
    copied = kernels.bandwidth(sizes.copy_megabytes)
    return [*_dense(sizes, dtype), *_routed(sizes, dtype), *_attended(sizes, dtype)], top, copied


def _dense(sizes: Sizes, dtype: Any) -> list[Timing]:
    width = sizes.width * sizes.top_k
    up, down = jnp.ones((sizes.hidden, 2 * width), dtype), jnp.ones((width, sizes.hidden), dtype)

    def at(batch: int) -> float:
        return kernels.timed(kernels.dense_ffn, jnp.ones((batch, sizes.hidden), dtype), up, down)

    return [Timing("gemm", "dense", batch, 0, 0, at(batch)) for batch in sizes.batches]


def _routed(sizes: Sizes, dtype: Any) -> list[Timing]:
    up = jnp.ones((sizes.experts, sizes.hidden, 2 * sizes.width), dtype)
    down = jnp.ones((sizes.experts, sizes.width, sizes.hidden), dtype)
    cpu = jax.default_backend() == "cpu"
    timings = []
    for batch in sizes.batches:
        rows = kernels.routing(batch, sizes.experts, sizes.top_k, 0)
        runs: dict[str, Callable[..., float]] = {"looped": kernels.run_looped}
        if not cpu or batch <= sizes.ragged_up_to:
            runs["ragged_dot"] = kernels.run_ragged
        for name, run in runs.items():
            seconds = run((sizes.hidden, sizes.width), rows, up, down)
            timings.append(Timing("experts", name, batch, 0, int(np.sum(rows > 0)), seconds))
    return timings


def _attended(sizes: Sizes, dtype: Any) -> list[Timing]:
    timings = []
    for batch in sizes.batches[::2]:
        for context in sizes.contexts:
            if batch * context <= 2**17:
                query = jnp.ones((batch, sizes.kv_heads, sizes.group, sizes.head_dim), dtype)
                cache = jnp.ones((batch, sizes.kv_heads, context, sizes.head_dim), dtype)
                seconds = kernels.timed(kernels.decode_attention, query, cache, cache)
                timings.append(Timing("attention", "attention", batch, context, 0, seconds))
    return timings


def points(
    timings: list[Timing], sizes: Sizes, peak: float, bandwidth: float, element: float
) -> OperatorPoints:
    """Timings as points: costs from the package's oracles."""
    count = len(timings)
    cost = [_cost(one, sizes, element) for one in timings]
    batch = np.array([float(one.batch) for one in timings])
    text = {
        name: np.array([str(getattr(one, name)) for one in timings])
        for name in ("kind", "kernel", "batch")
    }
    labels = Labels(
        np.full(count, "device"),
        text["kind"],
        np.full(count, "here"),
        text["kernel"],
        np.full(count, "own"),
        text["batch"],
    )
    return OperatorPoints(
        labels=labels,
        cost=jax.tree.map(lambda *leaves: np.array([float(leaf) for leaf in leaves]), *cost),
        peak=np.full(count, peak),
        bandwidth=np.full(count, bandwidth),
        rows=batch,
        tokens=batch,
        seconds=np.array([one.seconds for one in timings]),
    )


def _cost(one: Timing, sizes: Sizes, element: float) -> Cost:
    if one.kind == "attention":
        heads = float(sizes.kv_heads * sizes.group)
        return gqa_cost(
            heads,
            float(sizes.kv_heads),
            float(sizes.head_dim),
            float(one.batch),
            float(one.context),
            element,
        )
    if one.kind == "gemm":
        gemms = layer_weights.ffn_gemms(float(sizes.hidden), float(sizes.width * sizes.top_k), 3.0)
        cost = operators.products(gemms, float(one.batch), element, element)
        return eqx.tree_at(lambda cost: cost.launches, cost, 1.0)
    rows, hit = float(one.batch * sizes.top_k), float(one.hit)
    if one.kernel == "ragged_dot" and jax.default_backend() == "cpu":
        rows, hit = rows * sizes.experts, float(sizes.experts)
    return operators.grouped_experts(
        float(sizes.hidden), float(sizes.width), 3.0, hit, rows, element, element
    )


def fragmentation(timings: list[Timing], predicted: np.ndarray) -> list[dict[str, Any]]:
    """Time of the MoE layer over that of the dense layer at each batch, measured and predicted."""
    times = {
        (one.kernel, one.batch): (one.seconds, float(guess))
        for one, guess in zip(timings, predicted, strict=True)
    }
    rows = []
    for (kernel, batch), (seconds, guess) in times.items():
        if kernel in ("looped", "ragged_dot"):
            dense, dense_guess = times["dense", batch]
            rows.append(
                {
                    "kernel": kernel,
                    "batch": batch,
                    "measured": seconds / dense,
                    "predicted": guess / dense_guess,
                }
            )
    return rows


def calibrate_device(sizes: Sizes) -> dict[str, Any]:
    """Run, fit and compare, as one record."""
    timings, peak, bandwidth = measure(sizes)
    element = 4.0 if jax.default_backend() == "cpu" else 2.0
    all_points = points(timings, sizes, peak, bandwidth, element)
    predicted, parameters = np.full(len(timings), np.nan), {}
    for kind in ("gemm", "experts", "attention"):
        rows = all_points.labels.kind == kind
        one = fit(where(all_points, rows), _form(kind), np.full((1, int(rows.sum())), RELATED))
        predicted[rows] = np.exp(one.log_seconds[0])
        parameters |= _parameters(one)
    error = errors(predicted, all_points.seconds)
    return {
        "device": str(jax.devices()[0].device_kind),
        "platform": jax.default_backend(),
        "peak_flops": peak,
        "bandwidth_bytes_per_s": bandwidth,
        "sizes": asdict(sizes),
        "parameters": parameters,
        "errors": {"n": error.n, "median": error.median, "p90": error.p90, "bias": error.bias},
        "timings": [
            {**asdict(one), "predicted": float(guess)}
            for one, guess in zip(timings, predicted, strict=True)
        ],
        "fragmentation": fragmentation(timings, predicted),
    }


def _form(kind: str):
    """Without widths: one width is run, so nothing can be said about others."""
    form = FORMS[kind]
    kept = [place for place, name in enumerate(form.names) if name not in WIDTHS]
    return type(form)(
        tuple(form.names[place] for place in kept), tuple(form.start[place] for place in kept)
    )


def _parameters(one: Fit) -> dict[str, dict[str, float]]:
    names = one.membership.families
    return {name.removesuffix("/own"): one.values(place, 0) for place, name in enumerate(names)}


def run_device(out: Path) -> dict[str, Any]:
    """Measure in a process of its own, whose compiler does its best; write `device.json` and
    `device.png`.

    Returns:
        The record.
    """
    own = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    subprocess.run(
        [sys.executable, "-m", "qsopt.calibration.device.measure", str(out)], check=True, env=own
    )
    return json.loads(read_text(out / "device.json", "measure again"))


def write_device(out: Path) -> None:
    """Measure, and write the record and its plot."""
    from qsopt.calibration.device.plot import plot_fragmentation  # noqa: PLC0415  (matplotlib is slow to import)

    jax.config.update("jax_enable_x64", True)
    record = calibrate_device(Sizes())
    write_text(out / "device.json", json.dumps(record, indent=2) + "\n")
    plot_fragmentation(record, out / "device.png")


if __name__ == "__main__":
    write_device(Path(sys.argv[1]))
