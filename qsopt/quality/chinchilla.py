"""The dense side: loss of a dense model in parameters and tokens, and the compute-optimal split of
the two.

    L(N, D) = E + A/N**alpha + B/D**beta        [nat]

N includes embeddings (Hoffmann et al., App. A.1), D are training tokens.
"""

import equinox as eqx

from qsopt.arrays import Scalar, scalar
from qsopt.record import Record


class Chinchilla(Record):
    """One fit of the parametric dense loss."""

    name: str = eqx.field(static=True)
    floor: Scalar = eqx.field(converter=scalar)
    """E, the loss of infinite parameters and tokens [nat]."""
    a: Scalar = eqx.field(converter=scalar)
    b: Scalar = eqx.field(converter=scalar)
    alpha: Scalar = eqx.field(converter=scalar)
    beta: Scalar = eqx.field(converter=scalar)
    source: str = eqx.field(static=True)

    def loss(self, parameters: Scalar, tokens: Scalar) -> Scalar:
        """Loss of N parameters after D tokens [nat]."""
        return self.floor + self.a / parameters**self.alpha + self.b / tokens**self.beta

    def optimal_parameters(self, compute: Scalar) -> Scalar:
        """N of the least loss at C = 6 N D: G (C/6)**(beta/(alpha+beta)), G = (alpha A / (beta
        B))**(1/(alpha+beta)).
        """
        both = self.alpha + self.beta
        return (self.alpha * self.a / (self.beta * self.b)) ** (1.0 / both) * (compute / 6.0) ** (
            self.beta / both
        )

    def optimal_tokens(self, compute: Scalar) -> Scalar:
        """D = C / (6 N) at that N [tokens]."""
        return compute / (6.0 * self.optimal_parameters(compute))


HOFFMANN = Chinchilla(
    "hoffmann", 1.69, 406.4, 410.7, 0.34, 0.28, "Hoffmann et al. 2022, arXiv 2203.15556, as printed"
)
HOFFMANN_TEX = Chinchilla(
    "hoffmann-tex",
    1.6934,
    406.4,
    410.7,
    0.3392,
    0.2849,
    "Hoffmann et al. 2022, arXiv 2203.15556, unrounded in the TeX source",
)
BESIROGLU = Chinchilla(
    "besiroglu",
    1.8172,
    482.01,
    2085.43,
    0.3478,
    0.3658,
    "Besiroglu et al. 2024, arXiv 2404.10102, refit of Hoffmann's runs",
)
"""The refit that agrees with Chinchilla itself: 72e9 parameters at 5.76e23 FLOP, where the printed
fit says 32e9.
"""
