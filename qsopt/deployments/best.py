"""The best of some deployments."""

import jax
import numpy as np
from jaxtyping import Array, Bool

from qsopt import xp
from qsopt.arrays import Scalar, is_concrete, number
from qsopt.deployments.batches import stack, take
from qsopt.record import Record
from qsopt.spec.deployment import Deployment

EQUAL = 1e-9
"""Relative difference in throughput below which the simpler layout is taken."""


class Best(Record):
    """The best deployment of a model."""

    deployment: Deployment
    """The layout with its batch; the first layout at its smallest batch where nothing is feasible.
    """
    throughput: Scalar = number()
    """What it reaches, 0 where nothing is feasible [tokens/s]."""
    feasible: Bool[Array, ""] = False  # pyright: ignore[reportAssignmentType]
    """Whether any layout keeps the limits."""


def best_of_parts(parts: list[Best]) -> Best:
    """The best of each case of several batches of the same cases, each from a part of the
    layouts.
    """
    if len(parts) == 1:
        return parts[0]
    each = stack(parts, axis=1)
    if not is_concrete(each):
        return jax.vmap(pick)(each)
    most = each.throughput.max(axis=1, keepdims=True)
    winner = np.argmax(each.throughput >= most * (1.0 - EQUAL), axis=1)
    return take(each, (np.arange(len(winner)), winner))


def pick(designs: Best) -> Best:
    """The first of a batch of designs whose throughput is within `EQUAL` of the best."""
    index = xp.argmax(designs.throughput >= xp.max(designs.throughput) * (1.0 - EQUAL))
    return take(designs, index)
