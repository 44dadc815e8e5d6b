"""What was observed for the most similar models: a smooth lookup in the table of matches, by active
fraction.

    log q = sum_i w_i log q_i / sum_i w_i,   w_i = exp(-((log s - log s_i) / h)**2 / 2),   h = log 2

Two models that differ by a factor of two in s are one bandwidth apart; outside the table the
nearest row answers, so that q levels off instead of being extrapolated. The bandwidth was set, not
fitted.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from qsopt.arrays import Scalar, scalar
from qsopt.quality.architecture import MoeArchitecture
from qsopt.quality.fit_range import FitRange
from qsopt.quality.law import QualityLaw, Status
from qsopt.quality.matches import FITTED, Match, observations

BANDWIDTH = float(np.log(2.0))
"""Distance in log s over which a row loses 40 % of its weight."""


class Empirical(QualityLaw):
    """Kernel mean of observed log q over log active fraction."""

    log_fraction: Float[Array, " n"] = eqx.field(converter=scalar)
    log_q: Float[Array, " n"] = eqx.field(converter=scalar)
    weight: Float[Array, " n"] = eqx.field(converter=scalar)
    """1 for the rows in use, 0 for held-out ones."""
    name: str = eqx.field(static=True)
    source: str = eqx.field(static=True)
    range: tuple[FitRange, ...] = eqx.field(static=True)

    def solve(self, architecture: MoeArchitecture) -> tuple[Scalar, Int[Array, ""]]:
        """The kernel mean, between the least and the largest observed q."""
        distance = (jnp.log(architecture.active_fraction) - self.log_fraction) / BANDWIDTH
        share = jax.nn.softmax(-0.5 * distance**2, where=self.weight > jnp.zeros(()))
        return jnp.exp(jnp.sum(share * self.log_q)), jnp.int32(Status.PHYSICAL)

    def weighted(self, weight: Float[Array, " n"]) -> "Empirical":
        """The same table with other rows in use."""
        return eqx.tree_at(lambda law: law.weight, self, weight)


def empirical(matches: Sequence[Match] = FITTED) -> Empirical:
    """The lookup in some matches."""
    table = observations(matches)
    fraction = np.asarray(table.architecture.active_fraction)
    span = FitRange("active_fraction", float(fraction.min()), float(fraction.max()))
    return Empirical(
        log_fraction=np.log(fraction),
        log_q=np.log(table.q),
        weight=np.ones(len(matches)),
        name="empirical",
        source="observed matches: " + "; ".join(match.source for match in matches),
        range=(span,),
    )
