"""Tian et al. 2025 (Ling): the efficiency leverage of an MoE, the compute of a dense model of equal
loss over its own.

    EL(A, G, C) = Ah**(a + d log10 C + gamma (log2 G)**2 + beta log2 G),   Ah = saturated(A;
    A_start, A_max)

A is the activation ratio (k + E_s)/(E + E_s), G = 2 d_model/d_expert, C the training compute over
non-embedding parameters. At equal tokens the compute ratio is the parameter ratio, q = EL, both
without tables. The paper does not state the bases of its logarithms: 10 for C and 2 for G are
inferred, as the only pair that gives its "over 7 times" at A = 3.1 %, G = 12, C = 1e22 and its
optimum near G = 12.
"""

import equinox as eqx
from jaxtyping import Array, Int

from qsopt import xp
from qsopt.arrays import Scalar, scalar
from qsopt.quality.architecture import MoeArchitecture
from qsopt.quality.fit_range import FitRange
from qsopt.quality.quality_law import QualityLaw, Status
from qsopt.quality.saturation import saturated


class Tian(QualityLaw):
    """q = EL(A, G, C). Fitted where EL < 6; larger values were held out in the paper and are
    extrapolations here.
    """

    a: Scalar = eqx.field(converter=scalar, default=1.23)
    d: Scalar = eqx.field(converter=scalar, default=-7.61e-2)
    gamma: Scalar = eqx.field(converter=scalar, default=1.67e-2)
    beta: Scalar = eqx.field(converter=scalar, default=-1.17e-1)
    start: Scalar = eqx.field(converter=scalar, default=1.63e-2)
    cap: Scalar = eqx.field(converter=scalar, default=5.28e16)
    name: str = eqx.field(static=True, default="tian")
    source: str = eqx.field(
        static=True, default="Tian et al. 2025, arXiv 2507.17702, Eq. 10-13 and Table 2"
    )
    range: tuple[FitRange, ...] = eqx.field(
        static=True,
        default=(
            FitRange("total", 0, 28e9, "parameters"),
            FitRange("effective_experts", 1, 125),
            FitRange("granularity", 2, 16),
            FitRange("compute", 3e17, 3e20, "FLOP"),
        ),
    )

    def leverage(self, activation_ratio: Scalar, granularity: Scalar, compute: Scalar) -> Scalar:
        """EL of an architecture trained with a compute [FLOP]."""
        fineness = xp.log2(granularity)
        exponent = (
            self.a + self.d * xp.log10(compute) + self.gamma * fineness**2 + self.beta * fineness
        )
        return saturated(activation_ratio, self.start, self.cap) ** exponent

    @property
    def best_granularity(self) -> Scalar:
        """The G of the largest leverage, 2**(-beta / 2 gamma)."""
        return 2.0 ** (-self.beta / (2.0 * self.gamma))

    @property
    def uses_tokens(self) -> bool:
        """The law is one of loss, or of compute, over training tokens."""
        return True

    def solve(self, architecture: MoeArchitecture) -> tuple[Scalar, Int[Array, ""]]:
        """EL at the architecture's own training compute."""
        q = self.leverage(
            architecture.activation_ratio, architecture.granularity, architecture.compute
        )
        return q, xp.int32(Status.PHYSICAL)


def compute_optimal_q(leverage: Scalar, compute: Scalar) -> Scalar:
    """Dense over MoE cost per token when each takes its own best split of compute, instead of equal
    tokens.

    q = 0.0655 (EL C)**0.5422 / (0.1915 C**0.5095), in non-embedding FLOPs per token; the MoE's
    exponents are those of A = 7.8 %, G = 2 (the paper's Table 1). Smaller than EL: the rest of the
    dense model's compute buys tokens.
    """
    return 0.0655 * (leverage * compute) ** 0.5422 / (0.1915 * compute**0.5095)
