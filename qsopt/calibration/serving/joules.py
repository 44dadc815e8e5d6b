"""Energy per output token of servers: a law fitted to it, and checked on whole models and
accelerators left out.

    joules per token =
        by_bits * limit * devices * ((step * T + memory * M + compute * C) / batch + sequence)

with a factor for the bits of the weights, drawn to 1 as far as few models speak for it. T, M and C
are the time of a step's operators, and those parts of it in which memory and matrix units work,
from the decode model. Prompts of such tables are short beside the answers and their lengths
guesses, so reading them is in the constants.
"""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import numpy as np
from scipy.optimize import least_squares

from qsopt.calibration.serving import robust
from qsopt.calibration.serving.power import PowerRows, checked, power_rows, usable
from qsopt.calibration.tables import names
from qsopt.calibration.tables.columns import Skipped, Table, per_name
from qsopt.fitted.errors import Column
from qsopt.fitted.groups import Calibration, digits, errors_list
from qsopt.fitted.power import FittedTokens, ServedTokens
from qsopt.fitted.server import BITS, by_bits_table
from qsopt.physics.energy import TokenLaw, token_energy
from qsopt.units import MICROSECOND

_LAW = ((0.01, 0.8, 3.0), (0.0, 0.3, 3.0), (0.0, 1.0, 10.0), (0.0, 20.0, 1000.0))
"""Lowest, first and highest value of step, memory and compute in units of the limit, and of the
time of a sequence [us].
"""

_BY_BITS = (0.2, 1.0, 5.0)
"""The same of a factor for the bits of weights."""


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


def predicted_joules(rows: EnergyRows, served: ServedTokens) -> Column:
    """Energy per output token by a law [J]."""
    power, times = rows.power, (rows.power.step, rows.power.compute, rows.power.memory)
    found = token_energy(served.law, rows.limit, *times, power.batch)
    return np.array(served.by_bits)[power.width] * np.asarray(found)


def fit_joules(rows: EnergyRows) -> ServedTokens:
    """Constants by robust least squares on the logarithm of the energy."""
    lowest, start, highest = np.transpose([*_LAW, *[_BY_BITS] * len(BITS)])
    drawn = np.sqrt(robust.RIDGE * len(rows.joules))

    def residual(constants: np.ndarray) -> np.ndarray:
        served = _served(constants)
        error = np.log(predicted_joules(rows, served) / rows.joules)
        size = np.sqrt(np.asarray(robust.loss(error)))
        return np.concatenate([np.sign(error) * size, drawn * np.log(served.by_bits)])

    return _served(least_squares(residual, start, bounds=(lowest, highest)).x)


def _served(constants: np.ndarray) -> ServedTokens:
    step, memory, compute, sequence, *by_bits = map(float, constants)
    return ServedTokens(TokenLaw(step, memory, compute, sequence * MICROSECOND), tuple(by_bits))


def check_joules(rows: EnergyRows) -> FittedTokens:
    """Constants fitted to all rows, with the errors of fits that saw the row, not its model, or not
    its accelerator.
    """
    labels = (rows.power.model, rows.power.gpu)
    return FittedTokens(*checked(rows, rows.joules, labels, fit_joules, predicted_joules))


def tokens_table(found: FittedTokens) -> Mapping[str, Any]:
    """Constants and errors as the file lists them."""
    law = found.law.law
    constants = {name: float(getattr(law, name)) for name in ("step", "memory", "compute")}
    constants["sequence_us"] = float(law.sequence) / MICROSECOND
    return {
        **{name: digits(value) for name, value in constants.items()},
        "by_bits": by_bits_table(found.law.by_bits),
        **{name: errors_list(left) for name, left in found.errors.items()},
    }


def joules_errors(found: FittedTokens) -> list[dict[str, Any]]:
    """Errors of the energy, one record for each of who saw the rows."""
    return [
        {"of": "joules per token", "rows_seen_by": name, **left._asdict()}
        for name, left in found.errors.items()
    ]
