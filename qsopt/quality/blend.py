"""Laws combined with equal weight: the geometric mean of their q, fixed in advance, with nothing
fitted.
"""

import equinox as eqx
from jaxtyping import Array, Float, Int

from qsopt import xp
from qsopt.arrays import Scalar
from qsopt.quality.architecture import MoeArchitecture
from qsopt.quality.fit_range import FitRange
from qsopt.quality.geometric import Geometric
from qsopt.quality.quality_law import QualityLaw
from qsopt.quality.tian import Tian


class Blend(QualityLaw):
    """log q = mean of log q over the laws; a status that is unphysical for one of them is kept."""

    laws: tuple[QualityLaw, ...]
    name: str = eqx.field(static=True)
    source: str = eqx.field(static=True)
    range: tuple[FitRange, ...] = eqx.field(static=True)

    @property
    def uses_tokens(self) -> bool:
        """Whether one of the laws does."""
        return any(law.uses_tokens for law in self.laws)

    def solve(self, architecture: MoeArchitecture) -> tuple[Scalar, Int[Array, ""]]:
        """Geometric mean of the laws' q and the worst of their statuses."""
        worst = xp.max(xp.stack([law.solve(architecture)[1] for law in self.laws]))
        return xp.exp(xp.mean(self._logs(architecture))), worst

    def disagreement(self, architecture: MoeArchitecture) -> Scalar:
        """Variance of log q over the laws."""
        return xp.var(self._logs(architecture))

    def _logs(self, architecture: MoeArchitecture) -> Float[Array, " laws"]:
        return xp.stack([xp.log(law.q(architecture)) for law in self.laws])


def blend(name: str, *laws: QualityLaw) -> Blend:
    """The equal-weight blend of some laws, with the fit ranges of them all."""
    ranges = tuple(dict.fromkeys(span for law in laws for span in law.range))
    source = "equal-weight log mean of: " + "; ".join(law.source for law in laws)
    return Blend(laws=laws, name=name, source=source, range=ranges)


COMBINED = blend("combined", Geometric(), Tian())
"""The geometric rule is low and Tian's law high on the observed matches, by about as much. That was
seen before the pair was chosen, so its error on the same matches flatters it;
`validation.chosen_inside` prices the choice.
"""
