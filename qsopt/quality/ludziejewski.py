"""Ludziejewski et al. 2025: joint scaling laws of mixtures of experts in active parameters, tokens
and experts.

    L(N, D, E) = a Eh**delta N**(alpha + gamma ln Eh) + b Eh**omega D**(beta + zeta ln Eh) + c

N are active parameters with both tables, D training tokens, Eh the saturated expert count of Clark
et al. Logarithms are natural, alpha, beta and delta negative, omega positive: with these signs the
paper's Table 4 follows to 0.3 %.
"""

import equinox as eqx
from jaxtyping import Array, Int

from qsopt import xp
from qsopt.arrays import Scalar, scalar
from qsopt.quality.architecture import MoeArchitecture
from qsopt.quality.fit_range import FitRange
from qsopt.quality.quality_law import LARGEST_DENSE, QualityLaw, Status, status_of
from qsopt.quality.saturation import saturated
from qsopt.record import Record


class Reduced(Record):
    """The law at one expert count: L = m N**mu + n D**nu + c (the paper's Table 4)."""

    m: Scalar
    mu: Scalar
    n: Scalar
    nu: Scalar


class Ludziejewski(QualityLaw):
    """N_dense = ((L_moe - c - n_1 D**nu_1)/m_1)**(1/mu_1), with the coefficients of one expert.

    Fitted on top-1 layers of coarse experts (SwiGLU of width 3 d); E_eff stands for E otherwise. q
    rises with D and, at large D, falls: for an MoE like DeepSeek-V3 from 3.3 at 1e12 tokens to 2.1
    at 50e12.
    """

    a: Scalar = eqx.field(converter=scalar, default=35.91)
    alpha: Scalar = eqx.field(converter=scalar, default=-0.1889)
    delta: Scalar = eqx.field(converter=scalar, default=-0.2285)
    gamma: Scalar = eqx.field(converter=scalar, default=0.0098)
    b: Scalar = eqx.field(converter=scalar, default=35.98)
    beta: Scalar = eqx.field(converter=scalar, default=-0.1775)
    omega: Scalar = eqx.field(converter=scalar, default=0.5529)
    zeta: Scalar = eqx.field(converter=scalar, default=-0.0259)
    start: Scalar = eqx.field(converter=scalar, default=2.0732)
    cap: Scalar = eqx.field(converter=scalar, default=290.4521)
    c: Scalar = eqx.field(converter=scalar, default=1.3637)
    name: str = eqx.field(static=True, default="ludziejewski")
    source: str = eqx.field(
        static=True, default="Ludziejewski et al. 2025, arXiv 2502.05172, Eq. 6 and Table 3"
    )
    range: tuple[FitRange, ...] = eqx.field(
        static=True,
        default=(
            FitRange("total", 0, 5e9, "parameters"),
            FitRange("active", 79e6, 2.7e9, "parameters"),
            FitRange("experts", 1, 32),
            FitRange("effective_experts", 1, 32),
            FitRange("top_k", 1, 1),
            FitRange("granularity", 2 / 3, 2 / 3),
            FitRange("tokens", 0.5e9, 80e9),
        ),
    )

    def reduced(self, experts: Scalar) -> Reduced:
        """Coefficients at a number of experts."""
        count = saturated(experts - 1.0, self.start, self.cap)
        log = xp.log(count)
        size, data = self.alpha + self.gamma * log, self.beta + self.zeta * log
        return Reduced(self.a * count**self.delta, size, self.b * count**self.omega, data)

    def loss(self, parameters: Scalar, tokens: Scalar, experts: Scalar) -> Scalar:
        """Loss of N active parameters [nat]."""
        law = self.reduced(experts)
        return law.m * parameters**law.mu + law.n * tokens**law.nu + self.c

    def dense_size(
        self, parameters: Scalar, tokens: Scalar, experts: Scalar
    ) -> tuple[Scalar, Int[Array, ""]]:
        """Dense model of the loss of an MoE with N active parameters [parameters]."""
        moe, dense = self.reduced(experts), self.reduced(xp.ones_like(experts))
        excess = moe.m * parameters**moe.mu + moe.n * tokens**moe.nu - dense.n * tokens**dense.nu
        least = dense.m * LARGEST_DENSE**dense.mu
        size = (xp.maximum(excess, least) / dense.m) ** (1.0 / dense.mu)
        return size, status_of(excess <= least, Status.UNREACHABLE)

    @property
    def uses_tokens(self) -> bool:
        """The law is one of loss, or of compute, over training tokens."""
        return True

    def solve(self, architecture: MoeArchitecture) -> tuple[Scalar, Int[Array, ""]]:
        """Dense size over active parameters, all tables included."""
        size, status = self.dense_size(
            architecture.active, architecture.tokens, architecture.effective_experts
        )
        return size / architecture.active, status
