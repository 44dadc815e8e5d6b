"""How sure a law is: its error on the observed matches, turned into a predictive distribution of q.

    log q = log q_law + correction + scale * t,      t ~ Student with n - 1 degrees of freedom

With n equalities, correction is the mean of the residuals log q_obs - log q_law and scale = sd *
sqrt(1 + 1/n) with their sample deviation: the exact prediction of one more normal residual, wide
because n is small. Bounds move both through their likelihood (`location_scale`). The distribution
covers matches like the observed ones; at frontier sizes the law extrapolates and its warnings hold
beside the interval. A blend knows more: where its laws disagree further than on any of the matches,
the excess of their variance is added to scale**2.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from qsopt import xp
from qsopt.arrays import Scalar, scalar
from qsopt.errors import InputError
from qsopt.programs import compiled
from qsopt.quality.architecture import MoeArchitecture
from qsopt.quality.blend import Blend
from qsopt.quality.fitted_law import FittedLaw
from qsopt.quality.match import Match, Observations, observations
from qsopt.quality.matches import FITTED
from qsopt.quality.quality_law import QualityLaw
from qsopt.quality.student import QDistribution
from qsopt.record import Record

ROUNDS = 100
"""Rounds of expectation-maximisation; each bound slows it to the share of rows that are bounds."""
FAR = 30.0
"""Standard deviations beyond which the hazard of a normal is its series, to 1e-8."""


class Calibrated(Record):
    """A law with its correction and spread."""

    law: QualityLaw
    correction: Scalar = eqx.field(converter=scalar)
    """Location of log q_obs - log q_law."""
    scale: Scalar = eqx.field(converter=scalar)
    """Scale of the next residual about it."""
    dof: Scalar = eqx.field(converter=scalar)
    tested_disagreement: Scalar
    """Of a blend: the largest variance of log q over its laws on the matches; otherwise 0."""

    def predict(self, architecture: MoeArchitecture) -> QDistribution:
        """Distribution of q for an architecture."""
        match = self.law.match(architecture)
        untested = xp.maximum(_disagreement(self.law, architecture) - self.tested_disagreement, 0.0)
        scale = xp.sqrt(self.scale**2 + untested)
        return QDistribution(xp.log(match.q) + self.correction, scale, self.dof, match.status)


def calibrate(law: QualityLaw, matches: Sequence[Match] = FITTED) -> Calibrated:
    """Fit correction and spread of a law.

    Raises:
        InputError: with fewer than two exact matches, which have no spread.
    """
    exact = sum(match.is_exact for match in matches)
    if exact < 2:
        raise InputError(
            f"{exact} exact match cannot calibrate '{law.name}': pass two or more beside the bounds"
        )
    law = law.refitted(matches) if isinstance(law, FittedLaw) else law
    table = observations(matches)
    residual, tested = _on_matches(law, table)
    fit = location_scale(np.asarray(residual, float), np.asarray(table.bound))
    return Calibrated(law, *fit, tested)


def predict(
    law: QualityLaw, architecture: MoeArchitecture, matches: Sequence[Match] = FITTED
) -> QDistribution:
    """Calibrate and predict; calibrate once yourself to predict often."""
    return calibrate(law, matches).predict(architecture)


@compiled
def _on_matches(law: QualityLaw, table: Observations) -> tuple[Float[Array, " n"], Scalar]:
    """Residuals of the rows, and the largest disagreement of a blend on the exact ones."""
    residual = residuals(law, table, xp.ones_like(xp.asarray(table.q)))
    disagreement = jax.vmap(lambda architecture: _disagreement(law, architecture))
    return residual, xp.max(xp.where(table.exact, disagreement(table.architecture), 0.0))


def _disagreement(law: QualityLaw, architecture: MoeArchitecture) -> Scalar:
    return (
        law.disagreement(architecture)
        if isinstance(law, Blend)
        else xp.zeros_like(xp.asarray(architecture.active))
    )


def residuals(
    law: QualityLaw, table: Observations, trained: Float[Array, " n"]
) -> Float[Array, " n"]:
    """log q_obs - log q_law of each row. A law that is itself fitted to the table must not have
    seen the row: it uses the exact rows of `trained` only.
    """
    usable = xp.where(table.exact, trained, 0.0)

    def one(index: Array, architecture: MoeArchitecture, q: Scalar) -> Scalar:
        fitted = law
        if isinstance(law, FittedLaw):
            fitted = law.weighted(xp.where(xp.arange(trained.size) == index, 0.0, usable))
        return xp.log(q) - xp.log(fitted.q(architecture))

    return jax.vmap(one)(xp.arange(trained.size), table.architecture, table.q)


def location_scale(
    residual: Float[np.ndarray, " n"], bound: Float[np.ndarray, " n"]
) -> tuple[float, float, float]:
    """Location, predictive scale and degrees of freedom of residuals and of bounds on them.

    The maximum of the censored normal likelihood with the unbiased variance,

        -(m - 1) log sd - sum_exact z**2 / 2 + sum_bounds log P(on its side),   z = (r - mean) / sd

    over m exact rows, by expectation-maximisation: a bound counts as a normal row of which only the
    side is known (Tobin 1958). Without bounds it is the sample mean and deviation. Bounds add no
    degree of freedom.

    Args:
        residual: log q_obs - log q_law of each row.
        bound: its `Bound` as a sign.
    """
    return _location_scale(tuple(residual.tolist()), tuple(bound.tolist()))


@lru_cache(maxsize=64)  # the same rows are asked about with every comparison
def _location_scale(
    residuals: tuple[float, ...], bounds: tuple[float, ...]
) -> tuple[float, float, float]:
    residual, bound = np.array(residuals), np.array(bounds)
    exact, m = residual[bound == 0.0], float(np.sum(bound == 0.0))
    mean, variance = float(exact.mean()), float(exact.var(ddof=1))
    for _ in range(ROUNDS if m < len(residual) else 0):
        expected, unknown = _completed(residual, bound, mean, math.sqrt(variance))
        mean = float(expected.mean())
        variance = (np.sum((expected - mean) ** 2) + unknown) / (len(residual) - 1.0)
    return mean, math.sqrt(variance * (1.0 + 1.0 / m)), m - 1.0


def _completed(
    residual: Float[np.ndarray, " n"], bound: Float[np.ndarray, " n"], mean: float, sd: float
) -> tuple[Float[np.ndarray, " n"], float]:
    """The rows with the expectation of a normal beyond its bound for each bound, and the sum of the
    variances that these leave.
    """
    one_sided = bound != 0.0
    side = bound[one_sided]
    beyond = side * (residual[one_sided] - mean) / sd
    hazard = np.array([_hazard(float(z)) for z in beyond])
    expected = np.array(residual)
    expected[one_sided] = mean + side * sd * hazard
    return expected, float(sd**2 * np.sum(1.0 + beyond * hazard - hazard**2))


def _hazard(z: float) -> float:
    """Density over upper tail of the standard normal; its series where the tail has no digits."""
    if z > FAR:
        return z + 1.0 / z - 2.0 / z**3
    return math.sqrt(2.0 / math.pi) * math.exp(-0.5 * z * z) / math.erfc(z / math.sqrt(2.0))
