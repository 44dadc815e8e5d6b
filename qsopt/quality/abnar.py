"""Abnar et al. 2025: parameters against FLOPs, the optimal sparsity of mixtures of experts.

    L(N, D, S) = a/N**alpha + b/D**beta + c/(1-S)**lam + d/((1-S)**delta N**gamma) + e

N are total parameters, D training tokens, S the share of inactive experts; dense is S = 0. The
exponent lam is negative, so that the third term falls with sparsity. Held-out sparsity 0.98 is
explained to an R**2 of 0.68 only, and at frontier sizes the dense match comes out larger than the
MoE: the status says so.
"""

import equinox as eqx
import jax
from jaxtyping import Array, Int

from qsopt import xp
from qsopt.arrays import Scalar, scalar
from qsopt.quality.architecture import MoeArchitecture
from qsopt.quality.fit_range import FitRange
from qsopt.quality.quality_law import LARGEST_DENSE, QualityLaw, Status, status_of


class Abnar(QualityLaw):
    """N_dense solves L(N_dense, D, 0) = L(N, D, S); the data term cancels, so that tokens do not
    matter.

    Shared experts count as always active: 1 - S = (k + E_s)/(E + E_s).
    """

    a: Scalar = eqx.field(converter=scalar, default=16612.50)
    alpha: Scalar = eqx.field(converter=scalar, default=0.5962)
    b: Scalar = eqx.field(converter=scalar, default=5455.67)
    beta: Scalar = eqx.field(converter=scalar, default=0.3954)
    c: Scalar = eqx.field(converter=scalar, default=0.4598)
    lam: Scalar = eqx.field(converter=scalar, default=-0.1666)
    d: Scalar = eqx.field(converter=scalar, default=17.26)
    delta: Scalar = eqx.field(converter=scalar, default=0.1603)
    gamma: Scalar = eqx.field(converter=scalar, default=0.1595)
    e: Scalar = eqx.field(converter=scalar, default=0.94)
    name: str = eqx.field(static=True, default="abnar")
    source: str = eqx.field(
        static=True, default="Abnar et al. 2025, arXiv 2501.12370, Eq. 6 and Table 3"
    )
    range: tuple[FitRange, ...] = eqx.field(
        static=True,
        default=(
            FitRange("effective_experts", 1, 20),
            FitRange(
                "compute", 0, 1e21, "FLOP"
            ),  # the upper end is recalled, not read in the paper
        ),
    )

    def loss(self, parameters: Scalar, tokens: Scalar, sparsity: Scalar) -> Scalar:
        """Loss of N total parameters of which the share S of experts is inactive [nat]."""
        kept = 1.0 - sparsity
        return (
            self.b / tokens**self.beta
            + self.c / kept**self.lam
            + self._size_term(parameters, kept)
            + self.e
        )

    def dense_size(self, parameters: Scalar, kept: Scalar) -> tuple[Scalar, Int[Array, ""]]:
        """Dense model of the loss of an MoE with N total parameters and 1 - S = kept
        [parameters].
        """
        excess = self._size_term(parameters, kept) + self.c * (kept**-self.lam - 1.0)
        least = self._size_term(LARGEST_DENSE * xp.ones_like(excess), xp.ones_like(kept))
        log_size = self._log_size(xp.log(xp.maximum(excess, least)), xp.log(parameters))
        return xp.exp(log_size), status_of(excess <= least, Status.UNREACHABLE)

    @property
    def uses_tokens(self) -> bool:
        """The law is one of loss, or of compute, over training tokens."""
        return True

    def solve(self, architecture: MoeArchitecture) -> tuple[Scalar, Int[Array, ""]]:
        """Dense size over active parameters, all tables included."""
        size, status = self.dense_size(architecture.total, architecture.activation_ratio)
        return size / architecture.active, status

    def _size_term(self, parameters: Scalar, kept: Scalar) -> Scalar:
        return self.a / parameters**self.alpha + self.d / (
            kept**self.delta * parameters**self.gamma
        )

    def _log_size(self, log_excess: Scalar, guess: Scalar) -> Scalar:
        """Root of log(a N**-alpha + d N**-gamma) = log_excess in log N; convex and falling, so
        Newton cannot get lost.
        """
        tolerance = 8 * float(xp.finfo(guess.dtype).eps)
        args = (xp.log(self.a), self.alpha, xp.log(self.d), self.gamma, log_excess)
        import optimistix as optx  # noqa: PLC0415  (slow to import, and only this law needs it)

        newton = optx.Newton(rtol=tolerance, atol=tolerance)
        return optx.root_find(_dense_excess, newton, guess, args, max_steps=64, throw=False).value


def _dense_excess(log_size: Scalar, args: tuple[Scalar, ...]) -> Scalar:
    log_a, alpha, log_d, gamma, log_excess = args
    return (
        jax.nn.logsumexp(xp.stack([log_a - alpha * log_size, log_d - gamma * log_size]))
        - log_excess
    )
