"""Errors of predictions: absolute relative error and signed bias, over rows or groups of rows."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Column = Float[np.ndarray, " rows"]
"""One number for each row of a table."""


class Errors(NamedTuple):
    """Errors of predicted over measured times."""

    n: int
    """Rows."""
    median: float
    """Median absolute relative error."""
    p90: float
    """90th percentile of it."""
    bias: float
    """Median signed relative error; positive where predictions are too slow."""


def errors(predicted: Column, measured: Column) -> Errors:
    """Errors of some rows; NaN without any."""
    if not len(measured):
        return Errors(0, float("nan"), float("nan"), float("nan"))
    relative = predicted / measured - 1.0
    size = np.abs(relative)
    return Errors(
        len(relative),
        float(np.median(size)),
        float(np.quantile(size, 0.9)),
        float(np.median(relative)),
    )


def ranked_right(
    predicted: Column, measured: Column, groups: np.ndarray, tie: float = 0.02
) -> tuple[int, int]:
    """Pairs of rows of one group that the prediction orders as the measurement does, and all pairs.

    Pairs whose measurements are closer than `tie` are left out: neither order is right.
    """
    right = pairs = 0
    for group in np.unique(groups):
        rows = groups == group
        guess, truth = (
            np.subtract.outer(np.log(column[rows]), np.log(column[rows]))
            for column in (predicted, measured)
        )
        told = np.triu(np.abs(truth) > tie, 1)
        pairs += int(np.sum(told))
        right += int(np.sum(told & (np.sign(guess) == np.sign(truth))))
    return right, pairs
