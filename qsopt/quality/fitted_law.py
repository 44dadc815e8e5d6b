"""A law whose numbers are the observed matches themselves: held-out rows must leave it, not only
its calibration.
"""

import abc
from collections.abc import Sequence
from typing import Self

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from qsopt.quality.fit_range import FitRange
from qsopt.quality.match import Match, observations
from qsopt.quality.quality_law import QualityLaw


class FittedLaw(QualityLaw):
    """A law of the active fraction alone, fitted to the exact matches of a table."""

    log_fraction: eqx.AbstractVar[Float[Array, " n"]]
    """log s of the rows."""
    log_q: eqx.AbstractVar[Float[Array, " n"]]
    """log q_obs of the rows."""
    weight: eqx.AbstractVar[Float[Array, " n"]]
    """1 for the rows in use, 0 for bounds and held-out rows."""

    @abc.abstractmethod
    def refitted(self, matches: Sequence[Match]) -> Self:
        """The same law of another table."""

    def weighted(self, weight: Float[Array, " n"]) -> Self:
        """The same table with other rows in use."""
        return eqx.tree_at(lambda law: law.weight, self, weight)


def columns(matches: Sequence[Match]) -> dict[str, Float[np.ndarray, " n"]]:
    """The table behind a fitted law, as its fields."""
    table = observations(matches)
    return {
        "log_fraction": np.log([float(match.architecture.active_fraction) for match in matches]),
        "log_q": np.log(np.asarray(table.q)),
        "weight": np.asarray(table.exact, dtype=float),
    }


def span_of(matches: Sequence[Match]) -> FitRange:
    """The active fractions that the exact rows cover."""
    fractions = [float(match.architecture.active_fraction) for match in matches if match.is_exact]
    return FitRange("active_fraction", min(fractions), max(fractions))


def sources(matches: Sequence[Match]) -> str:
    """Where the exact rows come from."""
    return "; ".join(dict.fromkeys(match.source for match in matches if match.is_exact))
