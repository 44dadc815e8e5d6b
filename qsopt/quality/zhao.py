"""Zhao et al. 2025: a loss law that compares MoE models with each other.

    L = Q (1/N**alpha + k/N_a**alpha + h N_a/N) + a/N**alpha + b/D**beta + c/N_a**alpha + eps,
    Q = e G + f/G + m S**2 + n S

N total and N_a active parameters, D tokens, G activated experts with shared ones, S the share of
them that is shared. There is no dense limit: at N_a = N the term Q h stays, about 0.07 nat that no
dense model has. So this is not a `QualityLaw`, and it has no dense match to ask for. Coefficients
come from one secondary source; three optima that follow from them agree with independently
published values.
"""

import equinox as eqx

from qsopt import xp
from qsopt.arrays import Scalar, scalar
from qsopt.quality.architecture import MoeArchitecture
from qsopt.record import Record


class Zhao(Record):
    """Loss of an MoE, for differences between MoE models only. 446 runs up to 9e9 parameters and
    100e9 tokens.
    """

    e: Scalar = eqx.field(converter=scalar, default=0.1577)
    f: Scalar = eqx.field(converter=scalar, default=7.2446)
    m: Scalar = eqx.field(converter=scalar, default=5.1395)
    n: Scalar = eqx.field(converter=scalar, default=-3.2363)
    k: Scalar = eqx.field(converter=scalar, default=0.0013)
    h: Scalar = eqx.field(converter=scalar, default=0.0450)
    a: Scalar = eqx.field(converter=scalar, default=38.051)
    alpha: Scalar = eqx.field(converter=scalar, default=0.2383)
    b: Scalar = eqx.field(converter=scalar, default=27129.05)
    beta: Scalar = eqx.field(converter=scalar, default=0.4694)
    c: Scalar = eqx.field(converter=scalar, default=31.096)
    eps: Scalar = eqx.field(converter=scalar, default=1.8182)
    source: str = eqx.field(static=True, default="Zhao et al. 2025, arXiv 2509.23678")

    def loss(
        self, total: Scalar, tokens: Scalar, active: Scalar, activated: Scalar, shared_ratio: Scalar
    ) -> Scalar:
        """Loss from parameter counts, tokens, activated experts and the shared share of them
        [nat].
        """
        shape = self._shape(activated, shared_ratio)
        mixed = 1.0 / total**self.alpha + self.k / active**self.alpha + self.h * active / total
        size = self.a / total**self.alpha + self.c / active**self.alpha
        return shape * mixed + size + self.b / tokens**self.beta + self.eps

    def loss_of(self, architecture: MoeArchitecture) -> Scalar:
        """Loss of an architecture [nat]."""
        activated = architecture.activated_experts
        shared = architecture.shared_experts / activated
        return self.loss(
            architecture.total, architecture.tokens, architecture.active, activated, shared
        )

    @property
    def best_activated(self) -> Scalar:
        """G of the least loss, sqrt(f/e)."""
        return xp.sqrt(self.f / self.e)

    @property
    def best_shared_ratio(self) -> Scalar:
        """S of the least loss, -n / 2m."""
        return -self.n / (2.0 * self.m)

    def best_active_fraction(self, total: Scalar) -> Scalar:
        """N_a/N of the least loss at a total size, with G and S at their best."""
        shape = self._shape(self.best_activated, self.best_shared_ratio)
        power = self.alpha * total * (self.c + shape * self.k) / (shape * self.h)
        return power ** (1.0 / (1.0 + self.alpha)) / total

    def _shape(self, activated: Scalar, shared_ratio: Scalar) -> Scalar:
        return (
            self.e * activated
            + self.f / activated
            + self.m * shared_ratio**2
            + self.n * shared_ratio
        )
