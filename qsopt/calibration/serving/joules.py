"""Energy per output token of servers, predicted and measured.

    joules per token = devices * limit * share(step) * TPOT / batch

The share of the limit comes from the power law of a step; TPOT is that of the server, scale * step
+ host. Prompts of such tables are short beside the answers and their lengths guesses, so reading
them costs nothing here.
"""

import equinox as eqx
import numpy as np

from qsopt.calibration.serving.power import PowerRows, power_rows, predicted_power, usable
from qsopt.calibration.tables import names
from qsopt.calibration.tables.columns import Skipped, Table, per_name
from qsopt.fitted.errors import Column
from qsopt.fitted.groups import Calibration
from qsopt.fitted.power import PACE, STEP, shipped_power
from qsopt.fitted.server import server_fit


class EnergyRows(eqx.Module):
    """Measured energy, and what the decode model says of each row."""

    joules: Column
    """Measured energy of all devices for an output token [J]."""
    limit: Column
    """Power limit of all devices [W]."""
    batch: Column
    """Sequences that decode at once."""
    backend: np.ndarray
    power: PowerRows


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
        batch=table.number("batch"),
        backend=table.text("backend"),
        power=rows,
    )


def predicted_joules(rows: EnergyRows, of: str = STEP) -> Column:
    """Energy per output token by the laws that ship [J].

    Args:
        rows: what was measured; its pace is not looked at.
        of: `STEP` for shares of a step, `PACE` for shares of the server's time per token.
    """
    server = [server_fit().server(str(name)) for name in rows.backend]
    scale, host = (
        np.array([float(getattr(each, name)) for each in server]) for name in ("scale", "host")
    )
    tpot = scale * rows.power.step + host
    served = eqx.tree_at(lambda p: p.pace, rows.power, tpot) if of == PACE else rows.power
    return rows.limit * predicted_power(served, shipped_power(of).law, of) * tpot / rows.batch
