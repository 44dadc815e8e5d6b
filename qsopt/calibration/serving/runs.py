"""End-to-end serving: time per output token from a decode step, the prompts read in between, and a
host; time to first token from the prompts.

    TPOT = scale step(B, isl + osl/2) + host L + interference B prefill(isl)/osl
    TTFT = prefill(isl) + first L + late (scale step + host L)
           + burst (B - 1) prefill of one prompt among others

A server with B sequences reads, while one of them decodes its osl tokens, the prompts of the B that
replace them, so each token waits for B prefill/osl of that work. Step and prefill come from the
decode model with the operators' efficiencies of that backend and accelerator; L is the number of
layers; `scale` and `late` are one number for each backend, `scale` with a factor for the bits of
the weights, and `host`, `first`, `interference` and `burst` one for all. Clients that keep B
requests up begin at once and ask again when they are answered, so a share of the others' prompts
comes before one's own; and servers under such a load send tokens, and look for new requests, every
so many steps (`late`). A request takes its TTFT and osl TPOT, and as many run at once as there are
sequences: that gives tokens/s.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qsopt.arrays import Scalar, number
from qsopt.calibration.serving.served_run import (
    FORMATS,
    SIZES,
    joined,
    model_name,
    served_runs,
    times,
)
from qsopt.calibration.tables import names
from qsopt.calibration.tables.columns import Skipped, Table, known, per_name, timed
from qsopt.errors import InputError
from qsopt.fitted.errors import Column
from qsopt.fitted.groups import Calibration
from qsopt.fitted.server import width
from qsopt.physics.server import step_format
from qsopt.units import MILLISECOND

_DEFAULTS = {"precision": "", "ep": "1", "attention_dp": "1", "pp": "1"}
"""Columns that a table of results may leave out, and what they are then."""


class Runs(eqx.Module):
    """End-to-end results with what the decode model says of each."""

    step: Column
    """Time of a decode step at the mean context [s]."""
    waiting: Column
    """Prefill work that falls on one token: B prefill/osl [s]."""
    backend: np.ndarray
    """Index into `backends`."""
    width: np.ndarray
    """Index into the widths of weights, `fitted.server.BITS`."""
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
    concurrency: Column
    """Requests that are kept up in all; NaN if not known."""
    layers: Column
    """Of the model."""
    answer: Column
    """Tokens of an answer."""
    ahead: Column
    """Time to read the prompts of the other sequences of a replica, for each output token [s]."""
    ttft: Column
    """Measured time to first token; NaN if not known [s]."""
    lengths: np.ndarray
    """Lengths of prompt and answer."""
    devices: Column
    """Of a replica."""
    source: np.ndarray
    """Where each result was stated; empty if the table does not say."""
    backends: tuple[str, ...] = eqx.field(static=True)

    @property
    def batch(self) -> Column:
        """Sequences that a replica decodes at once."""
        return self.sequences * self.devices

    @property
    def software(self) -> np.ndarray:
        """Name of the software of each."""
        return np.array(self.backends)[self.backend]

    @property
    def unlabelled(self) -> "Runs":
        """Numbers alone, which JAX can trace."""
        return eqx.tree_at(
            lambda runs: (runs.model, runs.gpu, runs.layout, runs.lengths, runs.source),
            self,
            (None,) * 5,
        )

    def where(self, keep: np.ndarray) -> "Runs":
        """Only some rows."""
        return jax.tree.map(lambda column: np.asarray(column)[keep], self)


class Host(eqx.Module):
    """The constants of serving."""

    scale: Float[Array, " backends"]
    """Time of a step in service over that of its operators."""
    by_bits: Float[Array, "backends widths"]
    """The same for weights of each width, in units of `scale`."""
    late: Float[Array, " backends"]
    """Steps after the reading of its prompt with which a first token is sent."""
    first_layer: Scalar = number()
    """Of a first token beyond the reading of its prompt, for each layer [s]."""
    host_layer: Scalar = number()
    """Small kernels and gaps between kernels of a step, for each layer [s]."""
    interference: Scalar = number()
    """Share of the prefill work that decoding waits for."""
    burst: Scalar = number()
    """Share of the other sequences whose prompts come before one's own."""


def bare_step(runs: Runs, host: Host) -> Scalar:
    """Predicted time of a step in which no prompt is read [s]."""
    scale = jnp.asarray(host.scale)[runs.backend]
    scale = scale * jnp.asarray(host.by_bits)[runs.backend, runs.width]
    return scale * runs.step + host.host_layer * runs.layers


def tpot(runs: Runs, host: Host) -> Scalar:
    """Predicted time per output token [s]."""
    return bare_step(runs, host) + host.interference * runs.waiting


def ttft(runs: Runs, host: Host) -> Scalar:
    """Predicted time to first token. Its step has no slope, so that a fit takes the time of a step
    from times per token [s].
    """
    late = jnp.asarray(host.late)[runs.backend] * jax.lax.stop_gradient(bare_step(runs, host))
    reading = runs.answer * (runs.reading + host.burst * runs.ahead)
    return reading + host.first_layer * runs.layers + late


def throughput(runs: Runs, host: Host) -> Scalar:
    """Predicted output tokens per second and device [tokens/s]."""
    return runs.sequences / (tpot(runs, host) + ttft(runs, host) / runs.answer)


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
    cases = served_runs(table, calibration)
    batch = np.array([float(case.deployment.batch) for case in cases])
    fits = batch > 0.0
    skipped.add(table.file, "the model does not fit the memory", int(np.sum(~fits)))
    table, cases = table.where(fits), [case for case, fine in zip(cases, fits, strict=True) if fine]
    step, reading, waiting, ahead = times(table.text("model"), cases)
    return Runs(
        step=step,
        waiting=waiting,
        backend=backend[fits],
        width=np.array([width(step_format(case.model)) for case in cases]),
        tpot=_optional(table, "tpot_ms") * MILLISECOND,
        reading=reading,
        sequences=np.array(
            [float(case.deployment.batch / case.deployment.replica_devices) for case in cases]
        ),
        throughput=_measured(table),
        model=table.text("model"),
        gpu=per_name(table.text("gpu"), lambda name: names.accelerator_name(name) or ""),
        layout=joined(table, ("model", "gpu", "backend", "precision", *SIZES, "concurrency")),
        concurrency=table.number("concurrency"),
        layers=np.array([float(case.model.layers) for case in cases]),
        answer=np.array([float(case.answer) for case in cases]),
        ahead=ahead,
        ttft=_optional(table, "ttft_ms") * MILLISECOND,
        lengths=joined(table, ("isl", "osl")),
        devices=np.array([float(case.deployment.replica_devices) for case in cases]),
        source=table.columns.get("source", np.full(len(table), "")),
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
    sizes = np.array([table.number(name) for name in SIZES])
    sound = np.all(np.isfinite(sizes) & (sizes > 0.0), axis=0) & ~(
        table.number("concurrency") <= 0.0
    )
    skipped.add(table.file, "a size that is missing or not positive", int(np.sum(~sound)))
    table = table.where(sound)
    return _kept(
        table,
        joined(table, ("gpu", "n_gpus")),
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
    return name in ("", "w4a16") or names.dtype(FORMATS.get(name, name)) is not None


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
