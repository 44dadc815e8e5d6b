"""Energy per output token of servers: a law fitted to it, and checked on whole models and
accelerators left out.

    joules per token = limit * devices * ((step * T + memory * M + compute * C) / batch + sequence)

T, M and C are the time of a step's operators, and those parts of it in which memory and matrix
units work, from the decode model. Prompts of such tables are short beside the answers and their
lengths guesses, so reading them is in the constants.
"""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import numpy as np
from scipy.optimize import least_squares

from qsopt.calibration.serving.power import PowerRows, checked, power_rows, usable
from qsopt.calibration.tables import names
from qsopt.calibration.tables.columns import Skipped, Table, per_name
from qsopt.fitted.errors import Column
from qsopt.fitted.groups import Calibration, digits, errors_list
from qsopt.fitted.power import FittedTokens
from qsopt.physics.energy import TokenLaw, token_energy
from qsopt.units import MICROSECOND

_START, _HIGHEST = (0.8, 0.3, 1.0, 20.0), (3.0, 3.0, 10.0, 1000.0)
"""Of step, memory and compute in units of the limit, and of the time of a sequence [us]."""

_ROBUST = 0.15
"""Relative error above which a row counts less."""


class EnergyRows(eqx.Module):
    """Measured energy, and what the decode model says of each row."""

    joules: Column
    """Measured energy of all devices for an output token [J]."""
    limit: Column
    """Power limit of all devices [W]."""
    power: PowerRows
    """The rest of the rows."""

    def where(self, keep: np.ndarray) -> "EnergyRows":
        """Only some rows."""
        return jax.tree.map(lambda column: np.asarray(column)[keep], self)


def read_joules(table: Table, calibration: Calibration, skipped: Skipped) -> EnergyRows:
    """Measured energy per output token: as stated, else power over output tokens/s.

    Raises:
        InputError: if a column that is needed is missing.
    """
    table = usable(table, skipped)
    rows = power_rows(table, calibration)
    limit = per_name(rows.gpu, lambda name: float(names.accelerator(name).power_limit))
    joules = table.number("power_w") / table.number("out_tok_s")
    if "joules_per_token" in table.columns:
        stated = table.number("joules_per_token")
        joules = np.where(stated > 0.0, stated, joules)
    return EnergyRows(
        joules=joules,
        limit=np.asarray(limit, dtype=float) * table.number("n_gpus"),
        power=rows,
    )


def predicted_joules(rows: EnergyRows, law: TokenLaw) -> Column:
    """Energy per output token by a law [J]."""
    power = rows.power
    found = token_energy(law, rows.limit, power.step, power.compute, power.memory, power.batch)
    return np.asarray(found)


def fit_joules(rows: EnergyRows) -> TokenLaw:
    """Constants by robust least squares on the logarithm of the energy."""

    def residual(constants: np.ndarray) -> np.ndarray:
        return np.log(predicted_joules(rows, _law(constants)) / rows.joules)

    lowest = np.array([0.01, 0.0, 0.0, 0.0])
    found = least_squares(
        residual, _START, bounds=(lowest, _HIGHEST), loss="soft_l1", f_scale=_ROBUST
    )
    return _law(found.x)


def _law(constants: np.ndarray) -> TokenLaw:
    step, memory, compute, sequence = constants
    return TokenLaw(step, memory, compute, sequence * MICROSECOND)


def check_joules(rows: EnergyRows) -> FittedTokens:
    """Constants fitted to all rows, with the errors of fits that saw the row, not its model, or not
    its accelerator.
    """
    labels = (rows.power.model, rows.power.gpu)
    return FittedTokens(*checked(rows, rows.joules, labels, fit_joules, predicted_joules))


def tokens_table(found: FittedTokens) -> Mapping[str, Any]:
    """Constants and errors as the file lists them."""
    constants = {name: float(getattr(found.law, name)) for name in ("step", "memory", "compute")}
    constants["sequence_us"] = float(found.law.sequence) / MICROSECOND
    return {
        **{name: digits(value) for name, value in constants.items()},
        **{name: errors_list(left) for name, left in found.errors.items()},
    }


def joules_errors(found: FittedTokens) -> list[dict[str, Any]]:
    """Errors of the energy, one record for each of who saw the rows."""
    return [
        {"of": "joules per token", "rows_seen_by": name, **left._asdict()}
        for name, left in found.errors.items()
    ]
