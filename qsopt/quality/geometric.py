"""The geometric mean of total and active parameters: the rule of thumb of practitioners, without a
derivation.
"""

import equinox as eqx
from jaxtyping import Array, Int

from qsopt import xp
from qsopt.arrays import Scalar
from qsopt.quality.architecture import MoeArchitecture
from qsopt.quality.fit_range import FitRange
from qsopt.quality.quality_law import QualityLaw, Status


class Geometric(QualityLaw):
    """N_dense = sqrt(N_total * N_active), so q = s**-0.5, between 1 and 1/s for every architecture.

    Counts include all tables. The earliest traceable statement limits it to comparable tokens and
    data; no derivation or validation has been published.
    """

    name: str = eqx.field(static=True, default="geometric")
    source: str = eqx.field(
        static=True,
        default="A. Jiang (Mistral AI), Stanford CS25 'Demystifying Mixtral of Experts', 2024, at "
        "52:12; folklore",
    )
    range: tuple[FitRange, ...] = eqx.field(static=True, default=())

    def solve(self, architecture: MoeArchitecture) -> tuple[Scalar, Int[Array, ""]]:
        """Square root of 1/s; always physical."""
        return xp.sqrt(architecture.critical_q), xp.int32(Status.PHYSICAL)
