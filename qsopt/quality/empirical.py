"""What was observed for the most similar models: a smooth lookup in the table of matches, by active
fraction.

    log q = sum_i w_i log q_i / sum_i w_i,   w_i = exp(-((log s - log s_i) / h)**2 / 2),   h = log 2

Two models that differ by a factor of two in s are one bandwidth apart; outside the table the
nearest row answers, so that q levels off instead of being extrapolated. The bandwidth was set, not
fitted.
"""

from collections.abc import Sequence

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int

from qsopt import xp
from qsopt.arrays import Scalar, scalar
from qsopt.quality.architecture import MoeArchitecture
from qsopt.quality.fit_range import FitRange
from qsopt.quality.fitted_law import FittedLaw, columns, sources, span_of
from qsopt.quality.match import Match
from qsopt.quality.matches import FITTED
from qsopt.quality.quality_law import Status

BANDWIDTH = float(np.log(2.0))
"""Distance in log s over which a row loses 40 % of its weight."""


class Empirical(FittedLaw):
    """Kernel mean of observed log q over log active fraction."""

    log_fraction: Float[Array, " n"] = eqx.field(converter=scalar)
    log_q: Float[Array, " n"] = eqx.field(converter=scalar)
    weight: Float[Array, " n"] = eqx.field(converter=scalar)
    name: str = eqx.field(static=True)
    source: str = eqx.field(static=True)
    range: tuple[FitRange, ...] = eqx.field(static=True)

    def solve(self, architecture: MoeArchitecture) -> tuple[Scalar, Int[Array, ""]]:
        """The kernel mean, between the least and the largest observed q."""
        distance = (xp.log(architecture.active_fraction) - self.log_fraction) / BANDWIDTH
        far = xp.where(self.weight > 0.0, 0.5 * distance**2, xp.inf)
        share = xp.exp(xp.min(far) - far)
        mean = xp.sum(share * self.log_q) / xp.sum(share)
        return xp.exp(mean), xp.int32(Status.PHYSICAL)

    def refitted(self, matches: Sequence[Match]) -> "Empirical":
        """The lookup in other matches."""
        return empirical(matches)


def empirical(matches: Sequence[Match] = FITTED) -> Empirical:
    """The lookup in the exact ones of some matches."""
    return Empirical(
        **columns(matches),
        name="empirical",
        source="observed matches: " + sources(matches),
        range=(span_of(matches),),
    )
