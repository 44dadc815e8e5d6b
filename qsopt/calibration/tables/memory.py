"""Start-up logs of servers: weights of a device, and the room for the cache, beside what a replica
of that kind would hold.

A row whose weights can be compared counts for them, also where the utilization was not printed or
the accelerator is not in the catalog; then it says nothing about the room.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from qsopt.arrays import Scalar
from qsopt.calibration.tables import names
from qsopt.calibration.tables.checkpoints import checkpoint
from qsopt.calibration.tables.columns import Skipped, Table
from qsopt.catalog.efficiencies import KERNELS, efficiency_set
from qsopt.fitted.errors import Column
from qsopt.fitted.memory import MemoryFit
from qsopt.physics.memory import memory, sequence_bytes
from qsopt.spec.deployment import Deployment
from qsopt.spec.efficiency import Efficiency
from qsopt.spec.formats import number_format
from qsopt.spec.hardware import Cluster
from qsopt.spec.model import Model
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload
from qsopt.units import GiB

SIZES = ("tp", "pp", "dp", "ep")
"""Columns that may be left out, and then are 1."""

ENGINES = ("vllm", "sglang", "trtllm")
"""Software whose room for the cache is predicted."""

FEWER_SEQUENCES = (0, 9)
"""vLLM before this version started with a quarter of today's sequences [major, minor]."""

_SAMPLED = (1000.0, 2000.0)
"""Contexts between which the cache's bytes of a token are taken [tokens]."""

_ANYWHERE = "h100"
"""Stands for an accelerator that is not in the catalog, where only weights are compared."""


class Started(eqx.Module):
    """Servers that have started: what they printed, and what they ran."""

    weights: Column
    """Measured weights of a device; NaN where not printed [byte]."""
    room: Column
    """Measured room for the cache of a device; NaN where not printed, or where nothing is predicted
    [byte].
    """
    software: np.ndarray
    model: np.ndarray
    gpu: np.ndarray
    cases: tuple[tuple[Model, Service, Deployment], ...]

    def where(self, keep: np.ndarray) -> "Started":
        """Only some rows."""
        return Started(
            self.weights[keep],
            self.room[keep],
            self.software[keep],
            self.model[keep],
            self.gpu[keep],
            tuple(case for case, fine in zip(self.cases, keep, strict=True) if fine),
        )


def read_memory(table: Table, fit: MemoryFit, skipped: Skipped) -> Started:
    """Rows of a table of start-up logs.

    Args:
        table: columns as in `template.MEMORY`.
        fit: constants of memory by software.
        skipped: gets the rows that cannot be used, and those whose room cannot.

    Raises:
        InputError: if a column that is needed is missing or no number.
    """
    table = _kept(table, skipped, "model", "unknown model", _known_model)
    formats = np.char.add(np.char.add(table.text("model"), "\n"), table.text("weight_dtype"))
    fine = np.array([_checkpoint(text) is not None for text in formats], dtype=bool)
    for text in np.unique(table.text("weight_dtype")[~fine]):
        count = int(np.sum(~fine & (table.text("weight_dtype") == text)))
        skipped.add(table.file, f"unknown format {text}", count)
    table = table.where(fine)
    rows = [_Row(table, place, fit) for place in range(len(table))]
    for reason in filter(None, (row.without_room for row in rows)):
        skipped.add(table.file, f"no room compared: {reason}")
    found = Started(
        weights=np.array([row.number("weights_gib_per_gpu") * GiB for row in rows]),
        room=np.array([np.nan if row.without_room else row.room() for row in rows]),
        software=np.array([row.software for row in rows], dtype=str),
        model=np.array([row.model for row in rows], dtype=str),
        gpu=np.array([row.gpu or "" for row in rows], dtype=str),
        cases=tuple(row.case for row in rows),
    )
    useful = np.isfinite(found.weights) | np.isfinite(found.room)
    skipped.add(table.file, "neither weights nor room to compare", int(np.sum(~useful)))
    return found.where(useful)


def _known_model(name: str) -> bool:
    return names.model_name(name) is not None


def _checkpoint(text: str) -> Model | None:
    name, written = text.split("\n")
    return checkpoint(names.model_name(name) or "", written, name)


def _kept(
    table: Table, skipped: Skipped, column: str, reason: str, accept: Callable[[str], bool]
) -> Table:
    values = table.text(column)
    fine = np.array([accept(str(value)) for value in values], dtype=bool)
    for value in np.unique(values[~fine]):
        skipped.add(table.file, f"{reason} {value}", int(np.sum(values == value)))
    return table.where(fine)


class _Row:
    """One row: numbers and names as the package has them."""

    def __init__(self, table: Table, place: int, fit: MemoryFit) -> None:
        self.table, self.place = table.where(np.arange(len(table)) == place), place
        self.gpu = names.accelerator_name(self.text("gpu"))
        self.model = names.model_name(self.text("model")) or ""
        self.software = self.text("engine").lower()
        self.utilization = self.number("utilization")
        self.case = self._case(fit)

    def text(self, name: str, usual: str = "") -> str:
        return str(self.table.text(name)[0]) if name in self.table.columns else usual

    def number(self, name: str, usual: float = np.nan) -> float:
        found = float(self.table.number(name)[0]) if name in self.table.columns else usual
        return usual if np.isnan(found) else found

    @property
    def without_room(self) -> str:
        """Why the room for the cache cannot be compared; empty if it can."""
        if self.software not in ENGINES:
            return f"no constants of {self.software}"
        if self.gpu is None:
            return f"unknown accelerator {self.text('gpu')}"
        if not 0.0 < self.utilization <= 1.0:
            return "utilization not stated"
        if np.isnan(self.room()):
            return "cache not stated"
        return ""

    def room(self) -> float:
        """Measured, or by the tokens that were printed [byte]."""
        size = self.number("kv_gib_per_gpu") * GiB
        if np.isfinite(size):
            return size
        model, _, deployment = self.case
        low, high = (
            float(sequence_bytes(model, np.asarray(context), np.asarray(0.0), deployment))
            for context in _SAMPLED
        )
        token = (high - low) / (_SAMPLED[1] - _SAMPLED[0])
        return self.number("kv_tokens") * token / float(deployment.pipeline)

    def _case(self, fit: MemoryFit) -> tuple[Model, Service, Deployment]:
        sizes = {name: self.number(name, 1.0) for name in SIZES}
        unit = sizes["dp"] * sizes["pp"]
        devices = sizes["tp"] * sizes["dp"]
        deployment = Deployment(
            sizes["tp"], sizes["dp"], sizes["pp"], min(sizes["ep"], devices), unit
        )
        model = checkpoint(self.model, self.text("weight_dtype"), self.text("model"))
        assert model is not None
        cache = number_format(self.text("kv_dtype") or "bf16")
        model = eqx.tree_at(lambda m: m.precision.kv_cache, model, cache)
        share = self.utilization if 0.0 < self.utilization <= 1.0 else 0.9
        efficiency = self._stated(fit.applied(efficiency_set(KERNELS), self.software, self.gpu))
        accelerator = names.accelerator(self.gpu or _ANYWHERE)
        cluster = Cluster(accelerator, deployment.replica_devices)
        return model, Service(cluster, Workload(0.0, utilization=share), efficiency), deployment

    def _stated(self, efficiency: Efficiency) -> Efficiency:
        """With the tokens and sequences of the first forward, where the row states them."""
        server = efficiency.memory
        share = 0.25 if self.software == "vllm" and _before(self.text("version")) else 1.0
        tokens = self.number("max_num_batched_tokens", float(server.prompt_tokens))
        sequences = self.number("max_num_seqs", float(server.sequences) * share)
        return eqx.tree_at(
            lambda e: (e.memory.prompt_tokens, e.memory.sequences),
            efficiency,
            (np.asarray(tokens), np.asarray(sequences)),
        )


def _before(version: str) -> bool:
    """Whether a version of vLLM is before `FEWER_SEQUENCES`; False where it is not known."""
    found = re.match(r"v?(\d+)\.(\d+)(?!\w)", version)
    return found is not None and (int(found[1]), int(found[2])) < FEWER_SEQUENCES


@jax.jit
@jax.vmap
def _parts(model: Model, service: Service, deployment: Deployment) -> tuple[Scalar, Scalar]:
    held = memory(model, service, deployment)
    return held.weights, held.room


class Batches(NamedTuple):
    """Servers in batches of one structure each, which are evaluated together."""

    rows: tuple[np.ndarray, ...]
    """Places of each batch's rows in the table."""
    cases: tuple[tuple[Model, Service, Deployment], ...]

    def parts(self) -> tuple[Column, Column]:
        """Weights and room of every row [byte]."""
        found = np.empty((2, sum(map(len, self.rows))))
        for rows, case in zip(self.rows, self.cases, strict=True):
            found[:, rows] = np.stack([np.asarray(part) for part in _parts(*case)])
        return found[0], found[1]

    def with_memory(self, reserve: Column, communication: Column) -> "Batches":
        """The same servers with other constants of memory, one for each row [byte]."""

        def changed(rows: np.ndarray, case: tuple[Model, Service, Deployment]):
            model, service, deployment = case
            values = (reserve[rows], communication[rows])
            return model, eqx.tree_at(_constants, service, values), deployment

        return Batches(
            self.rows,
            tuple(changed(*pair) for pair in zip(self.rows, self.cases, strict=True)),
        )


def _constants(service: Service) -> tuple[Scalar, Scalar]:
    return service.efficiency.reserve_bytes, service.efficiency.memory.communication


def batches(started: Started) -> Batches:
    """Rows whose models have the same kinds of layers, together."""
    places: dict[Any, list[int]] = {}
    for place, case in enumerate(started.cases):
        places.setdefault(jax.tree.structure(case), []).append(place)
    return Batches(
        tuple(np.array(rows) for rows in places.values()),
        tuple(
            jax.tree.map(
                lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]),
                *(started.cases[row] for row in rows),
            )
            for rows in places.values()
        ),
    )


def predicted(started: Started) -> tuple[Column, Column]:
    """Weights and room of every row [byte]."""
    return batches(started).parts()
