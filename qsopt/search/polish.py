"""The relaxed optimum in one legal layout, to convergence: architecture and batch real, parallel
sizes whole.

Sequential quadratic programming (SLSQP) on the model with exact maxima and real counts, as whole
experts on a rank would make it jump where the experts move. Its multipliers solve the conditions of
Karush, Kuhn and Tucker at the end point,

    grad f = sum_i l_i grad g_i + sum_j m_j e_j,    l_i >= 0 where g_i = 0,

with f the log of the objective and m_j of the bounds that x_j lies on, in the least squares that
keep them from being negative. In the logs in which everything stands, l_i is d log objective / d
log limit_i of the re-optimised design.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import minimize, nnls

from qsopt.arrays import Scalar
from qsopt.deployments.batches import in_numpy
from qsopt.programs import compiled
from qsopt.search.constraints import ARCHITECTURE_LIMITS, DEPLOYMENT_LIMITS
from qsopt.search.relaxed import Relaxed, joined, terms_of
from qsopt.search.variables import ARCHITECTURE, DEPLOYMENT, SEARCHED_SIZES
from qsopt.spec.deployment import Deployment

LIMITS: tuple[str, ...] = (*DEPLOYMENT_LIMITS, *ARCHITECTURE_LIMITS)
"""All constraints, in the order of multipliers."""

SHARP = 1e-9
"""Softness at which maxima are exact, and counts of layers, replicas and experts of a rank real."""

KEPT = 1e-6
"""Excess of a log ratio that counts as kept, and distance from a limit at which it is active."""

MOVING = ("batch", *(name for name in ARCHITECTURE if name != "layers"))
"""What moves; layers stay whole, as a stage holds whole ones and its time jumps with them."""

STEPS = 200

PRECISION = 1e-13
"""Change of a log at which the descent stops."""


@dataclass(frozen=True)
class Polished:
    """A relaxed optimum in a legal layout."""

    values: dict[str, float]
    """Of all variables."""
    layout: Deployment
    """The layout."""
    log_objective: float
    """Log of the objective (see `relaxed.Terms`)."""
    multipliers: dict[str, float]
    """Of every constraint: d log objective / d log limit."""
    residual: float
    """Largest part of the gradient that no multiplier explains: 0 at a smooth optimum, more at a
    kink.
    """


def polished(relaxed: Relaxed, start: Mapping[str, float], layout: Deployment) -> Polished | None:
    """The best real architecture and batch in a layout, from a start; None where the descent meets
    nothing that keeps the constraints.

    Args:
        relaxed: the relaxed problem, of which the best architecture is wanted.
        start: values of the free variables; those of the layout count instead where they differ.
        layout: a legal layout.
    """
    local = _Local(relaxed, start, layout)
    as_it_is = local.optimum(local.point)
    if not local.moving.size:
        return as_it_is
    end = minimize(
        lambda x: -local.outputs(x)[0][0],
        local.point[local.moving],
        jac=lambda x: -local.outputs(x)[1][0],
        bounds=[(0.0, 1.0)] * local.moving.size,
        constraints={
            "type": "ineq",
            "fun": lambda x: -local.ratios(x)[0],
            "jac": lambda x: -local.ratios(x)[1],
        },
        method="SLSQP",
        options={"maxiter": STEPS, "ftol": PRECISION},
    )
    optima = (as_it_is, local.optimum(local.whole_point(end.x)))
    return max(
        (optimum for optimum in optima if optimum is not None),
        key=lambda optimum: optimum.log_objective,
        default=None,
    )


class _Local:
    """A relaxed problem in one layout: a point of the whole cube of which some coordinates move."""

    def __init__(self, relaxed: Relaxed, start: Mapping[str, float], layout: Deployment) -> None:
        sizes = {name: float(getattr(layout, DEPLOYMENT[name])) for name in SEARCHED_SIZES}
        values = {**start, **sizes}
        low, high = np.asarray(relaxed.low), np.asarray(relaxed.high)
        logs = np.log([values[name] for name in relaxed.names])
        self.relaxed, self.layout = relaxed, in_numpy(layout)
        self.point = np.clip((logs - low) / np.where(high > low, high - low, 1.0), 0.0, 1.0)
        self.moving = np.flatnonzero([name in MOVING for name in relaxed.names])
        self.kept = {name: np.asarray(values[name]) for name in relaxed.names if name not in MOVING}
        """Whole numbers that stay, as they are: through logs and back they would not be whole."""
        self.known: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
        slopes = self.outputs(self.point[self.moving])[1][1:]
        self.bent = np.flatnonzero(np.abs(slopes).max(axis=1, initial=0.0) > 0.0)
        """Constraints that the moving variables bend; the others are constant here."""

    def whole_point(self, x: Float[np.ndarray, " moving"]) -> Float[np.ndarray, " free"]:
        """The point of the whole cube at which the moving coordinates are `x`."""
        point = self.point.copy()
        point[self.moving] = np.clip(x, 0.0, 1.0)
        return point

    def outputs(self, x: Float[np.ndarray, " moving"]) -> tuple[np.ndarray, np.ndarray]:
        """The log objective and all ratios, and their slopes along what moves, computed once for
        each point.
        """
        key = x.tobytes()
        if key not in self.known:
            point: Any = self.whole_point(x)
            values, slopes = terms_and_slopes(self.relaxed, point, self.kept, self.layout)
            self.known[key] = np.asarray(values), np.asarray(slopes)[:, self.moving]
        return self.known[key]

    def ratios(self, x: Float[np.ndarray, " moving"]) -> tuple[np.ndarray, np.ndarray]:
        """The ratios that the moving variables bend, and their slopes."""
        values, slopes = self.outputs(x)
        return values[1:][self.bent], slopes[1:][self.bent]

    def optimum(self, point: Float[np.ndarray, " free"]) -> Polished | None:
        """The record of a point; None where it breaks a constraint."""
        values, slopes = self.outputs(point[self.moving])
        if not (np.isfinite(values[0]) and np.all(values[1:] <= KEPT)):
            return None
        multipliers, residual = _multipliers(values, slopes, point[self.moving])
        named = {
            **self.relaxed.named(point),
            **{name: float(value) for name, value in self.kept.items()},
        }
        return Polished(
            named,
            self.layout,
            float(values[0]),
            dict(zip(LIMITS, map(float, multipliers), strict=True)),
            residual,
        )


def _multipliers(
    values: Float[np.ndarray, " all"],
    slopes: Float[np.ndarray, "all moving"],
    x: Float[np.ndarray, " moving"],
) -> tuple[Float[np.ndarray, " limits"], float]:
    """Of every constraint, 0 where it is not active; and the largest part of the gradient that they
    leave over.
    """
    active = np.flatnonzero(
        (values[1:] > -KEPT) & (np.abs(slopes[1:]).max(axis=1, initial=0.0) > 0.0)
    )
    # a bound acts as one more constraint, whose gradient is a unit vector out of the cube
    bounds = [
        side * unit
        for side, near in ((1.0, x > 1.0 - KEPT), (-1.0, x < KEPT))
        for unit in np.eye(x.size)[near]
    ]
    columns = np.concatenate([slopes[1:][active], np.reshape(bounds, (len(bounds), x.size))])
    multipliers = np.zeros(len(values) - 1)
    if not columns.size:
        return multipliers, float(np.abs(slopes[0]).max(initial=0.0))
    weights, _ = nnls(columns.T, slopes[0])
    multipliers[active] = weights[: active.size]
    return multipliers, float(np.abs(slopes[0] - weights @ columns).max())


@compiled
def terms_and_slopes(
    relaxed: Relaxed, point: Float[Array, " free"], kept: Mapping[str, Scalar], layout: Deployment
) -> tuple[Float[Array, " all"], Float[Array, "all free"]]:
    """The log objective, all log ratios, and their derivatives, where some values are kept."""

    def outputs(at: Float[Array, " free"]) -> tuple[Array, Array]:
        values = {**relaxed.values(at), **kept}
        together = joined(terms_of(relaxed, values, layout, jnp.asarray(SHARP)))
        return together, together

    slopes, values = jax.jacfwd(outputs, has_aux=True)(jnp.asarray(point))
    return values, slopes
