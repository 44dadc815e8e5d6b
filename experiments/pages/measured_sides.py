"""Measured speeds of servers, each with what is predicted of it by constants that did not see it.

End-to-end results are predicted by constants fitted without the result's model, published ones and
those of servers whose power was measured by the shipped constants, which saw neither. `decode` is
the same prediction for decoding alone, as `--context` has it: no prompt is read and none is waited
for.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qsopt.calibration.coverage import places, row_quantiles
from qsopt.calibration.serving.host import load_host
from qsopt.calibration.serving.paced import CAP, read_paced
from qsopt.calibration.serving.pairs import measured_pairs
from qsopt.calibration.serving.published import read_published
from qsopt.calibration.serving.runs import Host, Runs, read_runs, throughput, tpot
from qsopt.calibration.serving.served_fits import ServedFits, read_evidence
from qsopt.calibration.serving.served_run import model_name
from qsopt.calibration.serving.spread import NOBODY, columns, narrowest, unseen
from qsopt.calibration.tables.folder import Folder
from qsopt.catalog.models import load_model
from qsopt.errors import InputError
from qsopt.fitted.errors import Column
from qsopt.fitted.groups import load_calibration, shipped
from qsopt.fitted.spread import SOFTWARE, Pairs, Quantiles, ratio_quantiles, shipped_spreads
from qsopt.spec.model import moe_layers

RUNS, PUBLISHED, PACED = "end to end", "published", "power"
"""What a result was measured for."""


@dataclass(frozen=True)
class Side:
    """One measured configuration of one model."""

    kind: str
    """Of `RUNS`, `PUBLISHED` and `PACED`."""
    model: str
    moe: bool
    accelerator: str
    software: str
    source: str
    """Document, or task and most sequences at once."""
    precision: str
    lengths: str
    """Prompt and answer, joined by a bar."""
    devices: float
    batch: float
    tpot: float
    """Measured time per output token; NaN without one [s]."""
    rate: float
    """Measured output tokens/s of a device."""
    served_tpot: float
    served: float
    """Predicted output tokens/s of a device, on requests."""
    decode: float
    """The same for decoding alone."""
    quantiles: Quantiles
    """Of the expected log error of `served`, without what was seen of the result."""

    @property
    def task(self) -> str:
        """The source without the most sequences at once."""
        return self.source.partition(CAP)[0]


@dataclass(frozen=True)
class Measured:
    """All results, and how errors of pairs go together by the kind and the MoE of a pair."""

    sides: tuple[Side, ...]
    together: Mapping[tuple[str, str], Pairs]
    """By kind and MoE model; those that ship for a kind without any."""

    def ratio(self, dense: Side, moe: Side) -> Quantiles:
        """Quantiles of the log error of the ratio of two results."""
        pairs = self.together.get((moe.kind, moe.model)) or self.together[PUBLISHED, ""]
        return ratio_quantiles(dense.quantiles, moe.quantiles, pairs)


def measured(folders: Iterable[Folder]) -> Measured:
    """All results of some folders.

    Raises:
        InputError: if no end-to-end results are there, or no constants ship.
    """
    calibration, spreads = load_calibration(shipped()), shipped_spreads()
    if spreads is None:
        raise InputError("the shipped constants have no spreads; run `qsopt calibrate` first")
    sides: list[Side] = []
    together = {(PUBLISHED, ""): spreads.ratio[SOFTWARE]}
    for folder in folders:
        for table in folder.serving[:1]:
            own = read_runs(table, calibration, folder.skipped)
            fits = ServedFits(read_evidence(table, calibration, own))
            sides += _unseen_sides(fits)
            together |= _together(fits)
        for table in folder.published:
            for runs in read_published(table, calibration, folder.skipped).values():
                sides += _shipped_sides(PUBLISHED, runs)
        for table in folder.power:
            sides += _shipped_sides(PACED, read_paced(table, calibration, folder.skipped))
    return Measured(tuple(sides), together)


def _shipped_sides(kind: str, runs: Runs) -> Iterator[Side]:
    """By the constants and spreads that ship."""
    spreads = shipped_spreads()
    assert spreads is not None
    where = (runs.model, runs.gpu, places(runs))
    found = row_quantiles(spreads, "throughput", *where)
    quantiles = [np.full(5, np.nan) if one is None else one for one in found]
    host = load_host(shipped("serving"), runs.backends)
    return _sides(kind, runs, host, np.ones(len(runs.step), bool), quantiles)


def _unseen_sides(fits: ServedFits) -> Iterator[Side]:
    """By constants and spreads without the model."""
    runs = fits.evidence.own
    for name in np.unique(runs.model):
        model = frozenset((str(name),))
        cells = columns(fits, "throughput", ("fitted", "other_shapes"), (model, frozenset()))
        rows = runs.model == name
        keys = zip(*(level[rows] for level in fits.regimes[SOFTWARE]), strict=True)
        quantiles = [narrowest(cells["other_shapes"], [*one]) for one in keys]
        yield from _sides(RUNS, runs, fits.host((model, frozenset())), rows, quantiles)


def _sides(
    kind: str, runs: Runs, host: Host, rows: np.ndarray, quantiles: list[Quantiles]
) -> Iterator[Side]:
    """Some rows with a rate, each with its quantiles."""
    numbers = runs.unlabelled
    alone = eqx.tree_at(lambda h: h.interference, host, jnp.zeros(()))
    served, times, bare = (
        np.asarray(jax.jit(of)(numbers, constants))
        for of, constants in ((throughput, host), (tpot, host), (tpot, alone))
    )
    for place, row in enumerate(np.flatnonzero(rows)):
        name = str(runs.model[row])
        if not np.isfinite(runs.throughput[row]):
            continue
        yield Side(
            kind=kind,
            model=name,
            moe=routed(name),
            accelerator=str(runs.gpu[row]),
            software=str(runs.software[row]),
            source=str(runs.source[row]),
            precision=str(runs.layout[row]).split("|")[3],
            lengths=str(runs.lengths[row]),
            devices=float(runs.devices[row]),
            batch=float(runs.batch[row]),
            tpot=float(runs.tpot[row]),
            rate=float(runs.throughput[row]),
            served_tpot=float(times[row]),
            served=float(served[row]),
            decode=float(runs.sequences[row] / bare[row]),
            quantiles=quantiles[place],
        )


def _together(fits: ServedFits) -> dict[tuple[str, str], Pairs]:
    """How errors of pairs go together, without each MoE model."""
    runs = fits.evidence.own
    errors: Column = unseen(fits, "throughput", SOFTWARE, "other_shapes", NOBODY)
    found = {
        str(name): measured_pairs(runs, np.where(runs.model == name, np.nan, errors))
        for name in np.unique(runs.model)
        if routed(str(name))
    }
    return {(RUNS, name): pairs for name, pairs in found.items() if pairs is not None}


@cache
def routed(model: str) -> bool:
    """Whether a model of a table has experts."""
    return moe_layers(load_model(model_name(model) or model)) is not None
