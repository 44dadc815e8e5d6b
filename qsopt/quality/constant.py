"""One q for every architecture, as the Qwen3 report puts it."""

import equinox as eqx
from jaxtyping import Array, Int

from qsopt import xp
from qsopt.arrays import Scalar, scalar
from qsopt.quality.architecture import MoeArchitecture
from qsopt.quality.fit_range import FitRange
from qsopt.quality.quality_law import QualityLaw, Status


class Constant(QualityLaw):
    """q = 5: Qwen3 MoE bases are said to equal dense Qwen3 bases with a fifth of the activated
    parameters.

    The range is that of the two MoE models of the report; beyond it the rule claims nothing.
    """

    value: Scalar = eqx.field(converter=scalar, default=5.0)
    """q."""
    name: str = eqx.field(static=True, default="constant")
    source: str = eqx.field(
        static=True, default="Qwen3 Technical Report, arXiv 2505.09388, section on base models"
    )
    range: tuple[FitRange, ...] = eqx.field(
        static=True,
        default=(
            FitRange("total", 30.5e9, 235e9, "parameters"),
            FitRange("active", 3.3e9, 22e9, "parameters"),
            FitRange("experts", 128, 128),
            FitRange("top_k", 8, 8),
        ),
    )

    def solve(self, architecture: MoeArchitecture) -> tuple[Scalar, Int[Array, ""]]:
        """The constant, as a traced number."""
        return self.value * xp.ones_like(architecture.active), xp.int32(Status.PHYSICAL)
