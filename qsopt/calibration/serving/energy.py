"""Energy of output tokens predicted by power laws that saw the rows or not, for `serving.spread`.

A token takes the power of all devices times the time of a step over its sequences. Power comes from
the law for a server's own pace, at the pace that is predicted: the model's decode step with the
constants of serving of that software, which no energy was fitted to. Prompts are short here and
not charged.
"""

from collections.abc import Iterable

import numpy as np

from qsopt.calibration.serving.power import (
    PowerRows,
    fit_power,
    predicted_power,
    read_power,
)
from qsopt.calibration.serving.spread import Left, levels_of, rows_of
from qsopt.calibration.tables.columns import Skipped, Table
from qsopt.fitted.errors import Column
from qsopt.fitted.groups import Calibration
from qsopt.fitted.power import PACE
from qsopt.fitted.server import POOLED, ServerFit
from qsopt.fitted.spread import JOULES, POOL, SOFTWARE
from qsopt.physics.energy import PowerLaw


def at_predicted_pace(rows: PowerRows, server: ServerFit, source: str) -> PowerRows:
    """The rows with the pace that servers of their software, or of all, are predicted to have."""
    names = rows.backend if source == SOFTWARE else np.full(len(rows.step), POOLED)
    constants = [server.server(str(name)) for name in names]
    scale, host, layer = (
        np.array([float(getattr(one, name)) for one in constants])
        for name in ("scale", "host", "host_layer")
    )
    factors = np.array([server.factors(str(name)) for name in names])
    step = scale * np.take_along_axis(factors, rows.width[:, None], 1)[:, 0] * rows.step
    return PowerRows(**{**vars(rows), "pace": step + host + layer * rows.layers})


def log_errors(measured: PowerRows, predicted: PowerRows, law: PowerLaw) -> Column:
    """log(measured / predicted) joules of an output token; devices, limit and batch are the same
    on both sides.
    """
    power = predicted_power(predicted, law, PACE)
    return np.log(measured.power / power) + np.log(measured.pace / predicted.pace)


class EnergyFits:
    """Power laws by what was left out, each fitted once."""

    def __init__(self, rows: dict[str, PowerRows], server: ServerFit) -> None:
        """Args:
        rows: by source, those of the software first: its measured power is what laws are fitted to.
        server: constants of serving.
        """
        own = rows[SOFTWARE]
        self.rows = rows
        self.paced = {
            source: at_predicted_pace(one, server, source) for source, one in rows.items()
        }
        self.model, self.gpu = own.model, own.gpu
        self.quantities: tuple[str, ...] = (JOULES,)
        self.regimes = levels_of(own.backend, own.batch, own.devices, alone=True)
        self._laws: dict[Left, PowerLaw] = {}

    def fit(self, wanted: Iterable[Left]) -> None:
        """Fit what is not there yet; nothing where no row is left."""
        for left in wanted:
            kept = ~rows_of(self, left)
            if left not in self._laws and kept.any():
                self._laws[left] = fit_power(self.rows[SOFTWARE].where(kept), PACE)

    def errors(self, quantity: str, source: str, left: Left) -> Column:
        """log(measured / predicted) of every row; NaN where no such law could be fitted."""
        law = self._laws.get(left)
        if quantity != JOULES or law is None:
            return np.full(len(self.model), np.nan)
        return log_errors(self.rows[source], self.paced[source], law)


def energy_fits(
    table: Table, calibration: Calibration, server: ServerFit, own: PowerRows
) -> EnergyFits:
    """Fits to a table of measured power.

    Args:
        table: as it was read.
        calibration: fitted groups.
        server: constants of serving.
        own: rows of the table, by the values of their software.
    """
    anyone = {**table.columns, "backend": np.full(len(table), POOLED)}
    pooled = read_power(Table(table.file, anyone), calibration, Skipped())
    return EnergyFits({SOFTWARE: own, POOL: pooled}, server)
