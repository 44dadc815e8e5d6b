"""Student's t: its distribution function, differentiable, its quantile, and a positive quantity
whose log follows it.
"""

import math

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int

from qsopt import xp
from qsopt.arrays import Scalar, scalar
from qsopt.record import Record

NODES, WEIGHTS = np.polynomial.legendre.leggauss(64)
"""Gauss-Legendre rule of the integral."""
STEPS = 100
"""Most of Newton's steps to a quantile; ten are usual."""


def cdf(x: Scalar, dof: Scalar) -> Scalar:
    """P(T <= x): with a = atan2(sqrt(dof), -x), the integral of sin**(dof - 1) from 0 to a over the
    one up to pi.
    """
    angle = xp.arctan2(xp.sqrt(dof), -x)
    return _area(angle, dof) / _area(xp.full_like(angle, math.pi), dof)


def _area(angle: Scalar, dof: Scalar) -> Scalar:
    """Integral of sin**(dof - 1) from 0 to an angle."""
    sines = xp.sin(0.5 * angle * (1.0 + NODES))
    return 0.5 * angle * xp.sum(WEIGHTS * xp.maximum(sines, 0.0) ** (dof - 1.0))


def quantile(probability: float, dof: Scalar) -> float:
    """The x with P(T <= x) = probability, for whole degrees of freedom that are not traced.

    With x = sqrt(dof) / tan(a), P(T > x) is the integral of sin**(dof - 1) from 0 to a over twice
    that up to pi/2. It is convex in a, so that Newton's steps from pi/2 never pass the root, and it
    loses no digits in the tail.
    """
    n, tail = float(dof), min(probability, 1.0 - probability)
    whole = float(_area(math.pi, n))
    angle = 0.5 * math.pi
    for _ in range(STEPS):
        step = (float(_area(angle, n)) - tail * whole) / math.sin(angle) ** (n - 1.0)
        angle -= step
        if step <= 1e-15 * angle:
            break
    return math.copysign(math.sqrt(n) / math.tan(angle), probability - 0.5)


class QDistribution(Record):
    """Predictive distribution of q: (log q - log_mean) / log_scale follows Student's t."""

    log_mean: Scalar = eqx.field(converter=scalar)
    """Median of log q."""
    log_scale: Scalar = eqx.field(converter=scalar)
    dof: Scalar = eqx.field(converter=scalar)
    """Degrees of freedom: one less than the matches it rests on."""
    status: Int[Array, ""] = eqx.field(default_factory=lambda: xp.int32(0))
    """The law's `Status` for this architecture: the distribution knows nothing of physical bounds.
    """

    @property
    def median(self) -> Scalar:
        """The q that is as likely too large as too small."""
        return xp.exp(self.log_mean)

    def quantile(self, probability: float) -> Scalar:
        """The q below which it lies with a probability."""
        return xp.exp(self.log_mean + self.log_scale * quantile(probability, self.dof))

    def interval(self, level: float) -> tuple[Scalar, Scalar]:
        """The central interval that holds q with probability `level`."""
        return self.quantile(0.5 * (1.0 - level)), self.quantile(0.5 * (1.0 + level))

    def probability_below(self, threshold: Scalar | float) -> Scalar:
        """P(q <= threshold); with threshold 1/s, the probability that the dense match is smaller
        than the MoE.
        """
        return cdf((xp.log(threshold) - self.log_mean) / self.log_scale, self.dof)

    def sample(self, seed: int, n: int) -> Float[np.ndarray, " n"]:
        """`n` draws of q, for a distribution that is not traced."""
        draws = np.random.default_rng(seed).standard_t(float(self.dof), n)
        return np.exp(float(self.log_mean) + float(self.log_scale) * draws)
