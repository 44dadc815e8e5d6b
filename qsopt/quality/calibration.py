"""How sure a law is: its error on the observed matches, turned into a predictive distribution of q.

    log q = log q_law + correction + scale * t,      t ~ Student with n - 1 degrees of freedom

correction is the mean of the n residuals log q_obs - log q_law, scale = sd * sqrt(1 + 1/n) with
their sample deviation: the exact prediction of one more normal residual, wide because n is small.
It covers matches like the observed ones; at frontier sizes the law extrapolates and its warnings
hold beside the interval. A blend knows more: where its laws disagree further than on any of the
matches, the excess of their variance is added to scale**2.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qsopt.arrays import Scalar
from qsopt.errors import InputError
from qsopt.quality.architecture import MoeArchitecture
from qsopt.quality.blend import Blend
from qsopt.quality.empirical import Empirical, empirical
from qsopt.quality.law import QualityLaw
from qsopt.quality.matches import FITTED, Match, Observations, observations
from qsopt.quality.student import QDistribution


class Calibrated(eqx.Module):
    """A law with its correction and spread."""

    law: QualityLaw
    correction: Scalar
    """Mean of log q_obs - log q_law."""
    scale: Scalar
    """Scale of the next residual about it."""
    dof: Scalar
    tested_disagreement: Scalar
    """Of a blend: the largest variance of log q over its laws on the matches; otherwise 0."""

    def predict(self, architecture: MoeArchitecture) -> QDistribution:
        """Distribution of q for an architecture."""
        match = self.law.match(architecture)
        untested = jnp.maximum(
            _disagreement(self.law, architecture) - self.tested_disagreement, 0.0
        )
        scale = jnp.sqrt(self.scale**2 + untested)
        return QDistribution(jnp.log(match.q) + self.correction, scale, self.dof, match.status)


def calibrate(law: QualityLaw, matches: Sequence[Match] = FITTED) -> Calibrated:
    """Fit correction and spread of a law.

    Raises:
        InputError: with fewer than two matches, which have no spread.
    """
    if len(matches) < 2:
        raise InputError(f"{len(matches)} match cannot calibrate '{law.name}': pass two or more")
    law = empirical(matches) if isinstance(law, Empirical) else law
    return _calibrate(law, observations(matches))


def predict(
    law: QualityLaw, architecture: MoeArchitecture, matches: Sequence[Match] = FITTED
) -> QDistribution:
    """Calibrate and predict; calibrate once yourself to predict often."""
    return calibrate(law, matches).predict(architecture)


@eqx.filter_jit
def _calibrate(law: QualityLaw, table: Observations) -> Calibrated:
    weights = jnp.ones_like(jnp.asarray(table.q))
    correction, scale, dof = location_scale(residuals(law, table, weights), weights)
    tested = jnp.max(
        jax.vmap(lambda architecture: _disagreement(law, architecture))(table.architecture)
    )
    return Calibrated(law, correction, scale, dof, tested)


def _disagreement(law: QualityLaw, architecture: MoeArchitecture) -> Scalar:
    return (
        law.disagreement(architecture)
        if isinstance(law, Blend)
        else jnp.zeros_like(jnp.asarray(architecture.active))
    )


def residuals(
    law: QualityLaw, table: Observations, trained: Float[Array, " n"]
) -> Float[Array, " n"]:
    """log q_obs - log q_law of each row. A law that is itself a table must not look the row up: it
    uses `trained` only.
    """

    def one(index: Array, architecture: MoeArchitecture, q: Scalar) -> Scalar:
        fitted = law
        if isinstance(law, Empirical):
            fitted = law.weighted(jnp.where(jnp.arange(trained.size) == index, 0.0, trained))
        return jnp.log(q) - jnp.log(fitted.q(architecture))

    return jax.vmap(one)(jnp.arange(trained.size), table.architecture, table.q)


def location_scale(
    residual: Float[Array, " n"], weight: Float[Array, " n"]
) -> tuple[Scalar, Scalar, Scalar]:
    """Mean, predictive scale and degrees of freedom of the residuals of weight 1 (others have
    weight 0).
    """
    n = jnp.sum(weight)
    mean = jnp.sum(weight * residual) / n
    variance = jnp.sum(weight * (residual - mean) ** 2) / (n - 1.0)
    return mean, jnp.sqrt(variance * (1.0 + 1.0 / n)), n - 1.0
