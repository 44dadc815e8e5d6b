"""Krajewski et al. 2024: scaling laws for fine-grained mixtures of experts.

    L(N, D, G) = c + (g/G**gamma + a)/N**alpha + b/D**beta        (dense: g = 0 and its own a, b,
    alpha, beta)

N are TOTAL non-embedding parameters, of which the 64-fold expansion of the fit is a part (the
paper's Table 2 follows with the total to 0.7 %, with the active count not at all), D training
tokens, G the experts that a token is routed to, here k + shared.
"""

import equinox as eqx
from jaxtyping import Array, Int

from qsopt import xp
from qsopt.arrays import Scalar, scalar
from qsopt.quality.architecture import MoeArchitecture
from qsopt.quality.fit_range import FitRange
from qsopt.quality.quality_law import LARGEST_DENSE, QualityLaw, Status, status_of
from qsopt.record import Record


class ParametersAndTokens(Record):
    """Coefficients of c + a/N**alpha + b/D**beta."""

    a: Scalar = eqx.field(converter=scalar)
    alpha: Scalar = eqx.field(converter=scalar)
    b: Scalar = eqx.field(converter=scalar)
    beta: Scalar = eqx.field(converter=scalar)


class Krajewski(QualityLaw):
    """N_dense = (a_d / (L_moe - c - b_d/D**beta_d))**(1/alpha_d), both counts without tables.

    Usable near the fit only: the expansion is fixed at 64, and as the dense data term falls slower
    than the MoE's, for enough tokens no dense model reaches L_moe.
    """

    moe: ParametersAndTokens = eqx.field(
        default_factory=lambda: ParametersAndTokens(18.1, 0.115, 30.8, 0.147)
    )
    dense: ParametersAndTokens = eqx.field(
        default_factory=lambda: ParametersAndTokens(16.3, 0.126, 26.7, 0.127)
    )
    g: Scalar = eqx.field(converter=scalar, default=2.1)
    gamma: Scalar = eqx.field(converter=scalar, default=0.58)
    c: Scalar = eqx.field(converter=scalar, default=0.47)
    name: str = eqx.field(static=True, default="krajewski")
    source: str = eqx.field(
        static=True, default="Krajewski et al. 2024, arXiv 2402.07871, Tables 1 and 2"
    )
    range: tuple[FitRange, ...] = eqx.field(
        static=True,
        default=(
            FitRange("total_nonembedding", 129e6, 3.7e9, "parameters"),
            FitRange("effective_experts", 64, 64),
            FitRange("activated_experts", 1, 16),
            FitRange("tokens", 16e9, 130e9),
        ),
    )

    def loss(self, parameters: Scalar, tokens: Scalar, granularity: Scalar) -> Scalar:
        """Loss of an MoE with N total parameters [nat]."""
        return (
            self.c + self._size_term(parameters, granularity) + self.moe.b / tokens**self.moe.beta
        )

    def dense_loss(self, parameters: Scalar, tokens: Scalar) -> Scalar:
        """Loss of a dense model [nat]."""
        return (
            self.c
            + self.dense.a / parameters**self.dense.alpha
            + self.dense.b / tokens**self.dense.beta
        )

    def dense_size(
        self, parameters: Scalar, tokens: Scalar, granularity: Scalar
    ) -> tuple[Scalar, Int[Array, ""]]:
        """Dense model of the loss of an MoE with N total parameters, both without tables
        [parameters].
        """
        data = self.moe.b / tokens**self.moe.beta - self.dense.b / tokens**self.dense.beta
        excess = self._size_term(parameters, granularity) + data
        least = self.dense.a / LARGEST_DENSE**self.dense.alpha
        size = (self.dense.a / xp.maximum(excess, least)) ** (1.0 / self.dense.alpha)
        return size, status_of(excess <= least, Status.UNREACHABLE)

    @property
    def uses_tokens(self) -> bool:
        """The law is one of loss, or of compute, over training tokens."""
        return True

    def solve(self, architecture: MoeArchitecture) -> tuple[Scalar, Int[Array, ""]]:
        """Dense size over active non-embedding parameters."""
        granularity = architecture.activated_experts
        size, status = self.dense_size(
            architecture.total_nonembedding, architecture.tokens, granularity
        )
        return size / architecture.active_nonembedding, status

    def _size_term(self, parameters: Scalar, granularity: Scalar) -> Scalar:
        return (self.g / granularity**self.gamma + self.moe.a) / parameters**self.moe.alpha
