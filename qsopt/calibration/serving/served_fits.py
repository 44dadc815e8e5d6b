"""End-to-end results predicted by fits that saw them or not, for `serving.spread`.

Without its accelerator a row is predicted by the operators' values of its siblings (those were
fitted with it, so a little is seen still). Each is done for the sets of one software and for the
set pooled over software, whose constants are the mean of all.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np

from qsopt.calibration.serving.host import fit_host
from qsopt.calibration.serving.pairs import measured_pairs
from qsopt.calibration.serving.runs import Host, Runs, read_runs, throughput, tpot, ttft
from qsopt.calibration.serving.spread import (
    NOBODY,
    SOURCES,
    Left,
    levels_of,
    rows_of,
    spreads,
    unseen,
)
from qsopt.calibration.tables.columns import Skipped, Table
from qsopt.fitted.errors import Column
from qsopt.fitted.groups import Calibration
from qsopt.fitted.server import POOLED
from qsopt.fitted.spread import POOL, Spreads


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


class ServedFits:
    """Constants by what was left out, each fitted once."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.quantities: tuple[str, ...] = ("tpot", "throughput", "ttft")
        self.model, self.gpu = evidence.own.model, evidence.own.gpu
        self.regimes = levels_of(evidence.own.software, evidence.own.batch, evidence.own.devices)
        self._hosts: dict[Left, Host] = {}
        self._errors: dict[tuple[str, str, Left], Column] = {}

    def fit(self, wanted: Iterable[Left]) -> None:
        """Fit what is not there yet, all at once; nothing where no row is left."""
        runs = self.evidence.own
        new = {left: ~rows_of(self, left) * 1.0 for left in wanted if left not in self._hosts}
        new = {left: weights for left, weights in new.items() if weights.any()}
        if new:
            hosts, _ = fit_host(runs, np.stack([*new.values()]))
            for place, left in enumerate(new):
                self._hosts[left] = jax.tree.map(lambda leaf, at=place: leaf[at], hosts)

    def host(self, left: Left) -> Host:
        """The constants of a fit without these."""
        self.fit([left])
        return self._hosts[left]

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
        measured = {"tpot": own.tpot, "throughput": 1.0 / own.throughput, "ttft": own.ttft}
        error = np.log(measured[quantity] / values)
        return -error if quantity == "throughput" else error


_TIMES = {
    "tpot": jax.jit(tpot),
    "throughput": jax.jit(lambda *run: 1.0 / throughput(*run)),
    "ttft": jax.jit(ttft),
}
"""Times for each token of a sequence, for each of a device, and to the first token [s]. They are
linear in the constants of a software, but for `late` steps of its `scale`, so that a mean over
software is that of its constants.
"""


def fit_spreads(fits: ServedFits) -> Spreads:
    """Quantiles of the errors of every quantity, and how those of pairs go together."""
    pairs = {
        source: measured_pairs(
            fits.evidence.own, unseen(fits, "throughput", source, "other_shapes", NOBODY)
        )
        for source in SOURCES
    }
    return spreads(fits, {source: one for source, one in pairs.items() if one is not None})
