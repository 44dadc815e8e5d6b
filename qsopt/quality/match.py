"""What an observed match is: an MoE, the dense model that it was found to equal, and under which
contract.

q_obs = dense parameters / active parameters, both with all tables unless the row says otherwise. A
match may also be one-sided: an MoE that is clearly better than a dense model bounds q from below,
one that is clearly worse bounds it from above.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float

from qsopt.arrays import scalar
from qsopt.quality.architecture import MoeArchitecture, stack
from qsopt.record import Record


class Evidence(enum.StrEnum):
    """How much a match proves."""

    CONTROLLED = "controlled"
    """Both trained by one laboratory on the same data for the comparison."""
    FAMILY = "same family"
    """Both from one generation of models of one laboratory."""
    VENDOR = "vendor"
    """The maker's statement about a dense model of its class, often of another maker."""
    CROSS = "cross-vendor"
    """Two makers, different data and tokens: not a measurement of the architecture."""


class Contract(enum.StrEnum):
    """What the two models of a match share besides their quality."""

    TOKENS = "equal tokens"
    """As many training tokens: what the laws predict."""
    COMPUTE = "equal compute"
    """As much training compute, so that the MoE sees more tokens and q comes out larger."""
    LOSS = "equal loss"
    """The quality only: tokens and compute both differ."""


class Bound(enum.IntEnum):
    """On which side of q_obs the q of a match lies."""

    AT_MOST = -1
    """The MoE is worse than the dense model."""
    EQUAL = 0
    AT_LEAST = 1
    """The MoE is better than the dense model."""


@dataclass(frozen=True)
class Match:
    """One MoE and its dense equal."""

    moe: str
    dense: str
    dense_parameters: float
    """Size of the dense model [parameters]."""
    evidence: Evidence
    contract: Contract
    laboratory: str
    """Who made the MoE: rows of one laboratory are not independent."""
    architecture: MoeArchitecture
    source: str
    assumptions: str = ""
    """What the source does not state."""
    bound: Bound = Bound.EQUAL

    @property
    def q(self) -> float:
        """q_obs, or what bounds it."""
        return self.dense_parameters / float(self.architecture.active)

    @property
    def is_exact(self) -> bool:
        """Whether the match is an equality."""
        return self.bound is Bound.EQUAL


class Observations(Record):
    """Matches as arrays, to be mapped over."""

    architecture: MoeArchitecture
    q: Float[Array, " n"] = eqx.field(converter=scalar)
    bound: Float[Array, " n"] = eqx.field(converter=scalar)
    """The `Bound` of each row as a sign."""

    @property
    def exact(self) -> Bool[Array | np.ndarray, " n"]:
        """Rows that are equalities."""
        return self.bound == 0.0


def observations(matches: Sequence[Match]) -> Observations:
    """The rows as arrays."""
    return Observations(
        stack([match.architecture for match in matches]),
        np.array([match.q for match in matches]),
        np.array([float(match.bound) for match in matches]),
    )
