"""How far end-to-end predictions are off, measured on models and accelerators that the constants of
serving have not seen.

Every row is predicted four times: by constants fitted to all rows, to all but those of its model,
but those of its accelerator, and but both. Without its accelerator also the operators take the
values of its siblings (those were fitted with it, so a little is seen still). Each is done for the
sets of one software and for the set pooled over software, whose constants are the mean of all.

The quantiles that a row's coverage is counted with come from rows of other models (accelerators),
each predicted by constants that saw neither that row's model (accelerator) nor its own.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from qsopt.calibration.serving.cells import cells, nested
from qsopt.calibration.serving.host import fit_host
from qsopt.calibration.serving.pairs import measured_pairs
from qsopt.calibration.serving.runs import Host, Runs, read_runs, throughput, tpot
from qsopt.calibration.serving.served_run import model_name
from qsopt.calibration.tables.columns import Skipped, Table
from qsopt.fitted.errors import Column
from qsopt.fitted.groups import Calibration
from qsopt.fitted.server import POOLED
from qsopt.fitted.spread import INTERVALS, POOL, SEEN, SOFTWARE, Cell, Spreads, regimes

QUANTITIES = ("tpot", "throughput")

Left = tuple[frozenset[str], frozenset[str]]
"""Models and accelerators that a fit has not seen."""

_NOBODY: Left = (frozenset(), frozenset())

_AXES = {
    "fitted": (False, False),
    "other_shapes": (True, False),
    "other_accelerators": (False, True),
    "neither": (True, True),
}
"""Whether a row's model and its accelerator are left out, by the names of `SEEN`."""


class Evidence(NamedTuple):
    """End-to-end results with what the decode model says of each, three times."""

    own: Runs
    """By the values of the software on the accelerator."""
    siblings: Runs
    """By those of the software on others of its generation, or pooled ones."""
    pooled: Runs
    """By the set that is pooled over software and accelerators."""


def read_evidence(table: Table, calibration: Calibration, own: Runs) -> Evidence:
    """The same results by the values of siblings and of the pooled set.

    Args:
        table: end-to-end results.
        calibration: fitted groups.
        own: as they were read already.
    """
    groups = tuple(replace(group, own={}) for group in calibration.groups)
    anyone = {**table.columns, "backend": np.full(len(table), POOLED)}
    return Evidence(
        own,
        read_runs(table, replace(calibration, groups=groups), Skipped()),
        read_runs(Table(table.file, anyone), calibration, Skipped()),
    )


class Fits:
    """Constants by what was left out, each fitted once."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.regimes = {source: regimes_of(evidence.own, source) for source in (SOFTWARE, POOL)}
        """Of every row, widest first, by source."""
        self._hosts: dict[Left, Host] = {}
        self._errors: dict[tuple[str, str, Left], Column] = {}

    def fit(self, wanted: Iterable[Left]) -> None:
        """Fit what is not there yet, all at once; nothing where no row is left."""
        runs = self.evidence.own
        new = {left: ~_rows_of(runs, left) * 1.0 for left in wanted if left not in self._hosts}
        new = {left: weights for left, weights in new.items() if weights.any()}
        if new:
            hosts, _ = fit_host(runs, np.stack([*new.values()]))
            for place, left in enumerate(new):
                self._hosts[left] = jax.tree.map(lambda leaf, at=place: leaf[at], hosts)

    def errors(self, quantity: str, source: str, left: Left) -> Column:
        """log(measured / predicted) of every row; NaN where no such fit could be made."""
        key = quantity, source, left
        if left not in self._hosts:
            return np.full(len(self.evidence.own.tpot), np.nan)
        if key not in self._errors:
            self._errors[key] = self._log_errors(*key)
        return self._errors[key]

    def _log_errors(self, quantity: str, source: str, left: Left) -> Column:
        own, siblings, pooled = self.evidence
        host = self._hosts[left]
        if source == POOL:
            numbers = pooled.unlabelled
            each = [np.full_like(own.backend, place) for place in range(len(own.backends))]
            runs = [eqx.tree_at(lambda one: one.backend, numbers, place) for place in each]
        else:
            runs = [(siblings if left[1] else own).unlabelled]
        values = np.mean([np.asarray(_TIMES[quantity](one, host)) for one in runs], axis=0)
        measured = own.tpot if quantity == "tpot" else 1.0 / own.throughput
        error = np.log(measured / values)
        return error if quantity == "tpot" else -error


_TIMES = {"tpot": jax.jit(tpot), "throughput": jax.jit(lambda *run: 1.0 / throughput(*run))}
"""Times that the constants of a software are linear in, so that a mean over software is that of its
constants: for each token of a sequence, and of a device [s].
"""


def _rows_of(runs: Runs, left: Left) -> np.ndarray:
    """Rows of the models or accelerators that are left out."""
    return np.isin(runs.model, [*left[0]]) | np.isin(runs.gpu, [*left[1]])


def _parts(runs: Runs, seen: str) -> Iterator[tuple[np.ndarray, Left]]:
    """Rows that one fit predicts, with what it leaves out."""
    by_model, by_gpu = _AXES[seen]
    models = np.unique(runs.model) if by_model else [None]
    gpus = np.unique(runs.gpu) if by_gpu else [None]
    for model, gpu in product(models, gpus):
        rows = np.ones(len(runs.tpot), dtype=bool)
        rows &= (runs.model == model) if by_model else True
        rows &= (runs.gpu == gpu) if by_gpu else True
        if rows.any():
            left = [frozenset(() if one is None else (str(one),)) for one in (model, gpu)]
            yield rows, (left[0], left[1])


def _unseen(fits: Fits, quantity: str, source: str, seen: str, without: Left) -> Column:
    """Errors of every row by the fit that did not see it, nor what is left out of all fits."""
    runs = fits.evidence.own
    parts = [
        (rows, (left[0] | without[0], left[1] | without[1])) for rows, left in _parts(runs, seen)
    ]
    fits.fit(left for _, left in parts)
    found = np.full(len(runs.tpot), np.nan)
    for rows, left in parts:
        found[rows] = fits.errors(quantity, source, left)[rows]
    return found


def regimes_of(runs: Runs, source: str) -> list[np.ndarray]:
    """Regimes of every row, widest first."""
    backends = (
        np.array(runs.backends)[runs.backend] if source == SOFTWARE else [POOL] * len(runs.backend)
    )
    batches = runs.sequences * runs.devices
    names = list(map(regimes, backends, batches, runs.devices))
    return [np.array(level) for level in zip(*names, strict=True)]


def _columns(
    fits: Fits, quantity: str, wanted: tuple[str, ...], without: Left = _NOBODY
) -> dict[str, dict[str, Cell]]:
    """Cells by who saw the rows, of software and pooled; rows that are left out do not count."""
    runs = fits.evidence.own
    columns: dict[str, dict[str, Cell]] = {}
    labels = {"model": runs.model, "gpu": runs.gpu}
    for seen in wanted:
        groups = {name: labels[name] for name, by in zip(labels, _AXES[seen], strict=True) if by}
        columns[seen] = {}
        for source in (SOFTWARE, POOL):
            errors = _unseen(fits, quantity, source, seen, without)
            errors = np.where(_rows_of(runs, without), np.nan, errors)
            columns[seen] |= cells(errors, fits.regimes[source], groups)
    return {seen: one for seen, one in nested(columns).items() if one}


def fit_spreads(fits: Fits) -> Spreads:
    """Quantiles of the errors of every quantity, and how those of pairs go together."""
    runs = fits.evidence.own
    names = tuple(sorted({model_name(str(name)) or "" for name in np.unique(runs.model)}))
    pairs = {
        source: measured_pairs(runs, _unseen(fits, "throughput", source, "other_shapes", _NOBODY))
        for source in (SOFTWARE, POOL)
    }
    return Spreads(
        models=names,
        accelerators=tuple(map(str, np.unique(runs.gpu))),
        cells={name: _columns(fits, name, SEEN) for name in QUANTITIES},
        ratio={source: one for source, one in pairs.items() if one is not None},
    )


def coverage(fits: Fits) -> list[dict[str, Any]]:
    """Shares of rows inside their intervals, whose quantiles did not see the row's model, or its
    accelerator: one record for each quantity, source of values, and what is left out.
    """
    runs = fits.evidence.own
    return [
        {
            "quantity": quantity,
            "source": source,
            "left_out": seen,
            **_shares(fits, quantity, source, seen, label),
        }
        for quantity in QUANTITIES
        for seen, label in (("other_shapes", runs.model), ("other_accelerators", runs.gpu))
        for source in (SOFTWARE, POOL)
    ]


def _shares(fits: Fits, quantity: str, source: str, seen: str, label: np.ndarray) -> dict[str, Any]:
    """Rows, and the share of them inside the intervals: over all, and of the worst group."""
    errors, names = _unseen(fits, quantity, source, seen, _NOBODY), fits.regimes[source]
    quantiles = np.full((len(errors), 5), np.nan)
    for group in np.unique(label):
        one = frozenset((str(group),))
        without = (one, frozenset[str]()) if seen == "other_shapes" else (frozenset[str](), one)
        columns = _columns(fits, quantity, ("fitted", seen), without)
        for row in np.flatnonzero((label == group) & np.isfinite(errors)):
            quantiles[row] = narrowest(columns.get(seen, {}), [level[row] for level in names])
    known = np.isfinite(errors) & np.isfinite(quantiles[:, 0])
    inside = {
        name: (errors >= quantiles[:, low]) & (errors <= quantiles[:, high])
        for name, (low, high) in INTERVALS.items()
    }
    groups = {
        str(group): float(inside["80"][known & (label == group)].mean())
        for group in np.unique(label[known])
    }
    return {
        "n": int(known.sum()),
        **{f"coverage{name}": float(one[known].mean()) for name, one in inside.items()},
        "groups": groups,
    }


def narrowest(found: dict[str, Cell], keys: list[str]) -> Any:
    """Quantiles of the narrowest cell that there is; NaN without any."""
    return next((found[str(key)].quantiles for key in reversed(keys) if key in found), np.nan)
