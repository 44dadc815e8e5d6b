"""Served tokens at which one way to have a model becomes cheaper than another.

Costs are straight lines in served tokens, C + c T, so two cross at

    T = (C_b - C_a) / (c_a - c_b)

where the one that is cheaper at first, a, costs more for each token; else never.
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

NEVER = np.inf
"""Stands for no crossing: what is cheaper at first stays cheaper."""

LEVEL = (0.1, 0.9)
"""Ends of the central interval of 80 %."""


class Line(NamedTuple):
    """A cost over served tokens: of one case, or of many draws."""

    fixed: Float[np.ndarray, "..."]
    """Before the first token."""
    slope: Float[np.ndarray, "..."]
    """Of each token; infinite where nothing can be served."""


def crossing(first: Line, later: Line) -> Float[np.ndarray, "..."]:
    """Served tokens from which the later line is below the first; 0 where it is from the start, and
    infinite where it never is.
    """
    saved, more = first.slope - later.slope, later.fixed - first.fixed
    with np.errstate(invalid="ignore", divide="ignore"):
        tokens = np.where(saved > 0.0, more / saved, NEVER)
    return np.where(np.isinf(later.slope), NEVER, np.maximum(tokens, 0.0))


class BreakEven(NamedTuple):
    """Where the order of two ways changes."""

    first: str
    """Cheaper until then."""
    later: str
    """Cheaper from then on."""
    tokens: float
    """Served output tokens; infinite where the order never changes."""
    low: float
    """Ends of the central interval of 80 % over the draws."""
    high: float
    never: float
    """Share of the draws in which the order never changes."""


def break_evens(centre: dict[str, Line], draws: dict[str, Line]) -> list[BreakEven]:
    """Of every two ways: which is cheaper at first, and from where the other one is.

    Args:
        centre: costs as they are predicted.
        draws: costs in draws of what is uncertain.
    """
    found = []
    for pair in combinations(centre, 2):
        first, later = sorted(pair, key=lambda name: float(centre[name].fixed))
        drawn = crossing(draws[first], draws[later])
        low, high = np.quantile(drawn, LEVEL, method="inverted_cdf")
        tokens = float(crossing(centre[first], centre[later]))
        never = float(np.mean(np.isinf(drawn)))
        found.append(BreakEven(first, later, tokens, float(low), float(high), never))
    return found
