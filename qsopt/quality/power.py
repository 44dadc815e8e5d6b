"""A power law of the active fraction, fitted to the observed matches.

    q = s**-w,   log q_i = w x_i + error,   x_i = log 1/s_i,   w = sum x_i log q_i / sum x_i**2

One number, least squares through the origin, where a model that is all active equals itself. The
geometric rule is the same law at w = 1/2, set instead of fitted. For 0 <= w <= 1 the dense match is
never smaller than the active parameters and never larger than the whole MoE. No training tokens are
needed.
"""

from collections.abc import Sequence

import equinox as eqx
from jaxtyping import Array, Float, Int

from qsopt import xp
from qsopt.arrays import Scalar, scalar
from qsopt.quality.architecture import MoeArchitecture
from qsopt.quality.fit_range import FitRange
from qsopt.quality.fitted_law import FittedLaw, columns, sources, span_of
from qsopt.quality.match import Match
from qsopt.quality.matches import FITTED
from qsopt.quality.quality_law import Status


class Power(FittedLaw):
    """q = s**-w with w from the rows in use."""

    log_fraction: Float[Array, " n"] = eqx.field(converter=scalar)
    log_q: Float[Array, " n"] = eqx.field(converter=scalar)
    weight: Float[Array, " n"] = eqx.field(converter=scalar)
    name: str = eqx.field(static=True)
    source: str = eqx.field(static=True)
    range: tuple[FitRange, ...] = eqx.field(static=True)

    @property
    def exponent(self) -> Scalar:
        """w, by least squares through the origin."""
        return -xp.sum(self.weight * self.log_fraction * self.log_q) / self._leverage

    @property
    def standard_error(self) -> Scalar:
        """Standard error of w, from the scatter of log q about the law."""
        residual = self.log_q + self.exponent * self.log_fraction
        variance = xp.sum(self.weight * residual**2) / (xp.sum(self.weight) - 1.0)
        return xp.sqrt(variance / self._leverage)

    def solve(self, architecture: MoeArchitecture) -> tuple[Scalar, Int[Array, ""]]:
        """s**-w."""
        return architecture.critical_q**self.exponent, xp.int32(Status.PHYSICAL)

    def refitted(self, matches: Sequence[Match]) -> "Power":
        """The exponent of other matches."""
        return power(matches)

    @property
    def _leverage(self) -> Scalar:
        return xp.sum(self.weight * self.log_fraction**2)


def power(matches: Sequence[Match] = FITTED) -> Power:
    """The power law of the exact ones of some matches."""
    return Power(
        **columns(matches),
        name="power",
        source="least squares over observed matches: " + sources(matches),
        range=(span_of(matches),),
    )
