"""First-order answers of a throughput, of a decode step or of whole requests alike: slopes in the
inputs, the batch following the limit that binds, and what one more unit of a limit is worth.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Slopes:
    """First-order answer of the throughput of one design."""

    batch: float
    """Sequences of a replica, real at the relaxed optimum."""
    throughput: float
    """At that batch [tokens/s]."""
    elasticity: dict[str, float]
    """d log throughput / d log x by input."""
    gradient: dict[str, float] = field(repr=False)
    """d throughput / d x by input [tokens/s over the input's unit]."""


@dataclass(frozen=True)
class ShadowPrice:
    """What one more unit of a limited resource is worth."""

    constraint: str
    """Whose limit it is."""
    multiplier: float
    """[tokens/s of the whole cluster over `unit`]."""
    unit: str
    """In words."""
    active: bool
    """Whether the design uses all of it."""


def elasticities(
    slopes: Float[np.ndarray, "outputs inputs"], names: Iterable[str], limit: int | None
) -> dict[str, float]:
    """d log throughput / d log x by input, from the derivatives of log outputs in the logs of every
    input and, last, of the batch.

    Args:
        slopes: of the throughput in the first row, and of what is used of limits.
        names: of the inputs.
        limit: row of the limit that stays filled while the batch moves; None for a batch that stays
            as it is, whose own elasticity is then the last.
    """
    own = slopes[0]
    if limit is None:
        return dict(zip((*names, "batch"), map(float, own), strict=True))
    moved = own - own[-1] * slopes[limit] / slopes[limit, -1]
    return dict(zip(names, map(float, moved), strict=False))


def gradients(
    elasticity: dict[str, float], values: dict[str, float], throughput: float
) -> dict[str, float]:
    """d throughput / d x by input; 0 for an input that is 0."""
    return {
        name: slope * throughput / values[name] if values[name] else 0.0
        for name, slope in elasticity.items()
    }
