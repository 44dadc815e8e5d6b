"""The time of a measured point as a function of few parameters: the same roofline that predicts,
over rows of a table.

Operators:  `roofline.roofline`
Messages:   t = t0 + steps t_step + `collectives.on_link`(sent/(beta eta_b))
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from qsopt.arrays import Scalar
from qsopt.calibration.points import MessagePoints, OperatorPoints, Points
from qsopt.fitted.parameters import DEFAULTS, OPERATOR
from qsopt.physics import collectives
from qsopt.physics.roofline import roofline
from qsopt.spec.efficiency import OperatorEfficiency


class Form(NamedTuple):
    """Which parameters one kind of operator has, and where a fit starts."""

    names: tuple[str, ...]
    """Parameters that are fitted."""
    start: tuple[float, ...]
    """Their first guess."""


def form(**start: float) -> Form:
    """A form of these parameters, by name and first guess."""
    return Form(tuple(start), tuple(start.values()))


FORMS = {
    "experts": form(
        launch=28e-6,
        bandwidth=0.8,
        compute=0.6,
        softness=0.9,
        half_width=50.0,
        half_columns=150.0,
        elsewhere=0.5,
    ),
    "gemm": form(
        launch=4e-6,
        bandwidth=0.8,
        compute=0.7,
        softness=0.5,
        half_width=300.0,
        half_columns=100.0,
    ),
    "attention": form(launch=12e-6, bandwidth=0.8, compute=0.5),
    "mla": form(launch=14e-6, bandwidth=0.8, compute=0.6, softness=0.5, half_batch=0.3),
    "prefill_attention": form(
        launch=13e-6, bandwidth=0.5, compute=0.7, half_columns=40.0, half_rows=1.5e4
    ),
    "prefill_mla": form(launch=15e-6, bandwidth=0.5, compute=0.6, half_rows=2e4),
    "collective": form(launch=5e-6, step=0.3e-6, bandwidth=0.75, ramp=0.5),
    "exchange": form(launch=15e-6, step=0.3e-6, bandwidth=0.5, ramp=0.5),
}
"""The form of each kind, chosen by how it carries over to shapes and accelerators left out (see the
calibration page).
"""


def complete(values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """All parameters, with defaults for those that are not there."""
    like = next(iter(values.values()))
    return {
        name: values[name] if name in values else jnp.full_like(like, default)
        for name, default in DEFAULTS.items()
    }


def seconds(points: Points, parameters: Mapping[str, Scalar]) -> Scalar:
    """Predicted time of every row, with one value of every parameter for each row [s]."""
    if isinstance(points, MessagePoints):
        return jax.vmap(_message)(points, complete(parameters))
    return jax.vmap(_operator)(points, complete(parameters))


def _operator(row: OperatorPoints, p: dict[str, Scalar]) -> Scalar:
    efficiency = OperatorEfficiency(*(p[name] for name in OPERATOR))
    return roofline(
        row.cost, row.peak, row.bandwidth, efficiency, tokens=row.rows, batch=row.tokens
    ).seconds


def _message(row: MessagePoints, p: dict[str, Scalar]) -> Scalar:
    fixed = p["launch"] + p["step"] * row.steps
    wire = row.sent / (row.bandwidth * p["bandwidth"])
    return fixed + collectives.on_link(wire, fixed, p["ramp"])
