"""Clark et al. 2022: unified scaling laws for routed language models, at a fixed number of training
tokens.

    log10 L(N, E) = a log10 N + b log10 Eh + c log10 N log10 Eh + d,   Eh = saturated(E - 1;
    E_start, E_max)

N are active non-embedding parameters (the released counts are n_blocks (5 d heads kqv + 8 d**2))
and E the experts of a top-1 layer in every second block. The logarithms are base 10: with them the
law gives the released final losses to 0.02-0.05 nat, with natural ones it misses by 1.6. For k > 1
and shared experts E is replaced by E_eff here.
"""

import equinox as eqx
from jaxtyping import Array, Int

from qsopt import xp
from qsopt.arrays import Scalar, scalar
from qsopt.quality.architecture import MoeArchitecture
from qsopt.quality.fit_range import FitRange
from qsopt.quality.quality_law import QualityLaw, Status, status_of
from qsopt.quality.saturation import saturated

PUBLISHED = "Clark et al. 2022, arXiv 2202.01169, Table 3 (three decimals)"
REFIT = (
    "refit (not the paper's) of the released curves of Clark et al. 2022, arXiv 2202.01169, "
    "repository "
    "google-deepmind/scaling_laws_for_routing; least squares in log10 L, rms 0.003; N_cutoff "
    "known to a factor of 3"
)


class Clark(QualityLaw):
    """Effective parameters of a routed model (Eq. 11): the N' whose dense loss L(N', 1) equals L(N,
    E).

    log10 q = (log10 Eh - log10 E_start) (c log10 N + b) / (a + c log10 E_start): below 1 when N >
    N_cutoff = 10**(-b/c). The tokens were 130e9 at every size, which lets the benefit shrink with N
    more than it would at matched data.
    """

    name: str = eqx.field(static=True)
    a: Scalar = eqx.field(converter=scalar)
    b: Scalar = eqx.field(converter=scalar)
    c: Scalar = eqx.field(converter=scalar)
    d: Scalar = eqx.field(converter=scalar)
    start: Scalar = eqx.field(converter=scalar)
    """E_start: the saturated count of one expert."""
    cap: Scalar = eqx.field(converter=scalar)
    """E_max: the saturated count of infinitely many."""
    source: str = eqx.field(static=True, default=PUBLISHED)
    range: tuple[FitRange, ...] = eqx.field(
        static=True,
        default=(
            FitRange("active_nonembedding", 15e6, 1.3e9, "parameters"),
            FitRange("experts", 1, 512),
            FitRange("effective_experts", 1, 512),
            FitRange("top_k", 1, 1),
            FitRange("tokens", 130e9, 130e9),
        ),
    )

    def loss(self, parameters: Scalar, experts: Scalar) -> Scalar:
        """Validation loss of N active parameters with E experts [nat]."""
        size, count = xp.log10(parameters), xp.log10(self.saturated_experts(experts))
        return 10.0 ** (self.a * size + self.b * count + self.c * size * count + self.d)

    def saturated_experts(self, experts: Scalar) -> Scalar:
        """Eh of E experts."""
        return saturated(experts - 1.0, self.start, self.cap)

    def effective_parameters(self, parameters: Scalar, experts: Scalar) -> Scalar:
        """Dense parameters of the same loss [parameters]."""
        return parameters * self._ratio(parameters, experts)

    @property
    def cutoff(self) -> Scalar:
        """N_cutoff, above which the law says that experts hurt [parameters]."""
        return 10.0 ** (-self.b / self.c)

    def solve(self, architecture: MoeArchitecture) -> tuple[Scalar, Int[Array, ""]]:
        """Effective over active parameters, both without tables."""
        size = architecture.active_nonembedding
        hurt = (size > self.cutoff) & (architecture.effective_experts > xp.ones(()))
        return self._ratio(size, architecture.effective_experts), status_of(
            hurt, Status.EXPERTS_HURT
        )

    def _ratio(self, parameters: Scalar, experts: Scalar) -> Scalar:
        gain = xp.log10(self.saturated_experts(experts)) - xp.log10(self.start)
        return 10.0 ** (
            gain
            * (self.c * xp.log10(parameters) + self.b)
            / (self.a + self.c * xp.log10(self.start))
        )


CLARK = (
    Clark(name="clark-s-base", a=-0.082, b=-0.108, c=0.009, d=1.104, start=1.847, cap=314.478),
    Clark(name="clark-rl-r", a=-0.083, b=-0.126, c=0.012, d=1.111, start=1.880, cap=469.982),
    Clark(name="clark-hash", a=-0.087, b=-0.136, c=0.012, d=1.157, start=4.175, cap=477.741),
    Clark(
        name="clark-s-base-refit",
        a=-0.083783,
        b=-0.123369,
        c=0.0104239,
        d=1.12156,
        start=2.39422,
        cap=217.6549,
        source=REFIT,
    ),
    Clark(
        name="clark-rl-r-refit",
        a=-0.083469,
        b=-0.127926,
        c=0.0116883,
        d=1.114259,
        start=1.98702,
        cap=424.496,
        source=REFIT,
    ),
    Clark(
        name="clark-hash-refit",
        a=-0.08868,
        b=-0.146405,
        c=0.0134184,
        d=1.173025,
        start=4.98807,
        cap=369.0998,
        source=REFIT,
    ),
)
"""Three routers, as published and refitted. The rounded published coefficients give N_cutoff of
1000e9 / 31.6e9 / 215e9 where the paper states 937e9 / 85e9 / 83e9 (the refit 684e9 / 88e9 / 81e9):
prefer the refit for large models.
"""
