"""Held-out error of the laws: each exact match predicted from the others only, by law and by
laboratory.

For each held-out group the correction and spread come from the remaining rows, bounds among them.
Leaving out a whole laboratory is the harder test, as its models share data, recipe and the wish to
look good.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from qsopt.quality.calibration import location_scale, residuals
from qsopt.quality.fitted_law import FittedLaw
from qsopt.quality.match import Match, Observations, observations
from qsopt.quality.matches import FITTED
from qsopt.quality.quality_law import QualityLaw, Status
from qsopt.quality.student import cdf


class HeldOut(eqx.Module):
    """Errors of the exact rows when they were held out."""

    error: Float[Array, " n"]
    """log q_obs - log q predicted, correction included."""
    level: Float[Array, " n"]
    """Level of the central predictive interval on whose edge the row lies."""

    @property
    def rms_factor(self) -> float:
        """exp of the root mean square error."""
        return float(jnp.exp(jnp.sqrt(jnp.mean(self.error**2))))

    def coverage(self, level: float) -> float:
        """Share of rows inside the central interval of a level."""
        return float(np.mean(np.asarray(self.level) <= level))


@dataclass(frozen=True)
class LooRow:
    """Held-out error of one law."""

    law: str
    n: int
    """Exact matches."""
    bias: float
    """Geometric mean of q_law / q_obs, uncorrected."""
    rms_raw: float
    """rms factor of the law as published, uncorrected."""
    rms: float
    """rms factor with the correction fitted on the other rows."""
    rms_laboratory: float
    """The same with the whole laboratory left out."""
    coverage80: float
    """Share of held-out rows inside their 80 % interval."""
    coverage90: float
    unphysical: int
    """Rows whose dense match the law itself puts out of reach (its `Status`)."""


def leave_one_out(laws: Iterable[QualityLaw], matches: Sequence[Match] = FITTED) -> list[LooRow]:
    """The table of held-out errors, one row a law."""
    return [_row(law, matches) for law in laws]


def held_out(law: QualityLaw, matches: Sequence[Match], groups: Sequence[str]) -> HeldOut:
    """Errors of the exact rows, each with the rows of its own group held out."""
    train = jnp.array([[group != other for other in groups] for group in groups], float)
    law = law.refitted(matches) if isinstance(law, FittedLaw) else law
    table = observations(matches)
    residual = np.asarray(_fold_residuals(law, table, train), float)
    bound, used = np.asarray(table.bound), np.asarray(train) > 0.0
    rows = np.flatnonzero(bound == 0.0)
    fits = [location_scale(residual[row, used[row]], bound[used[row]]) for row in rows]
    mean, scale, dof = map(jnp.asarray, zip(*fits, strict=True))
    error = jnp.asarray(residual[rows, rows]) - mean
    return HeldOut(error, _level(error / scale, dof))


@jax.jit
def _level(standardised: Float[Array, " n"], dof: Float[Array, " n"]) -> Float[Array, " n"]:
    """Level of the central interval of Student's t on whose edge a value lies."""
    return 1.0 - 2.0 * jax.vmap(cdf)(-jnp.abs(standardised), dof)


def chosen_inside(
    laws: Sequence[QualityLaw], matches: Sequence[Match] = FITTED
) -> tuple[float, tuple[str, ...]]:
    """The price of choosing: rms factor when the law is chosen anew for each held-out exact row, by
    the others' held-out error.

    Returns also the names chosen. Equal to the error of one law only if every fold would have
    chosen it.
    """
    errors, names = [], []
    for match in (each for each in matches if each.is_exact):
        rest = [other for other in matches if other is not match]
        best = min(laws, key=lambda law: held_out(law, rest, _each(rest)).rms_factor)
        errors.append(held_out(best, [*rest, match], _each([*rest, match])).error[-1])
        names.append(best.name)
    return float(np.exp(np.sqrt(np.mean(np.square(errors))))), tuple(names)


def _row(law: QualityLaw, matches: Sequence[Match]) -> LooRow:
    law = law.refitted(matches) if isinstance(law, FittedLaw) else law
    table = observations(matches)
    raw, status = (np.asarray(each)[np.asarray(table.exact)] for each in _raw(law, table))
    single = held_out(law, matches, _each(matches))
    laboratory = held_out(law, matches, [match.laboratory for match in matches])
    return LooRow(
        law=law.name,
        n=len(raw),
        bias=float(np.exp(-raw.mean())),
        rms_raw=float(np.exp(np.sqrt(np.mean(raw**2)))),
        rms=single.rms_factor,
        rms_laboratory=laboratory.rms_factor,
        coverage80=single.coverage(0.8),
        coverage90=single.coverage(0.9),
        unphysical=int(np.sum(status != Status.PHYSICAL)),
    )


@eqx.filter_jit
def _raw(law: QualityLaw, table: Observations) -> tuple[Float[Array, " n"], Int[Array, " n"]]:
    """Residuals without correction, and statuses."""
    weights = jnp.ones_like(jnp.asarray(table.q))
    return residuals(law, table, weights), jax.vmap(law.match)(table.architecture).status


def _each(matches: Sequence[Match]) -> list[str]:
    return [match.moe for match in matches]


@eqx.filter_jit
def _fold_residuals(
    law: QualityLaw, table: Observations, train: Float[Array, "n n"]
) -> Float[Array, "n n"]:
    """Row i: the residuals of all matches by the law that may use only the rows of weight 1 in row
    i of `train`.
    """
    return jax.vmap(lambda weight: residuals(law, table, weight))(train)
