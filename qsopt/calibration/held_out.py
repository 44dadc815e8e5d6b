"""What a fit is checked on: whole models or shapes left out, whole accelerators and generations of
them left out, and bootstrap draws of shapes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from qsopt.calibration.fit import Fit, fit
from qsopt.calibration.form import Form
from qsopt.calibration.points import Points
from qsopt.calibration.tables.columns import per_name
from qsopt.fitted.errors import Column
from qsopt.fitted.generations import generation

FOLDS = 5


@dataclass(frozen=True)
class CrossValidation:
    """Predictions of every row: by a fit that saw it, and by fits that did not."""

    fit: Fit
    """The fit to all rows, to all but each fifth of the shapes, each accelerator and each
    generation, and last to each bootstrap draw.
    """
    fitted: Column
    """By the fit to all rows [s]."""
    other_shapes: Column
    """By the fit without the row's model or shape [s]."""
    other_accelerators: Column
    """By the fit without the row's accelerator, from its siblings, or from the pool if it has none
    [s].
    """
    other_generations: Column
    """By the fit without the generation of the row's accelerator, from the pool alone [s]."""


def cross_validation(points: Points, form: Form, draws: int = 0, seed: int = 0) -> CrossValidation:
    """Fit to all rows, to all but one fifth of the shapes, to all but one accelerator or one
    generation, and to bootstrap draws of shapes.
    """
    gpu = points.labels.gpu
    kinds = per_name(gpu, generation)
    shapes = _folds(points.labels.shape, seed)
    gpus, generations = ([column == name for name in np.unique(column)] for column in (gpu, kinds))
    sets = [np.ones(len(points)), *(~rows * 1.0 for rows in (*shapes, *gpus, *generations))]
    fits = fit(points, form, np.stack([*sets, *_draws(points.labels.shape, draws, seed)]))
    predicted = np.exp(fits.log_seconds)
    return CrossValidation(
        fits,
        predicted[0],
        _unseen(predicted[1:], shapes),
        _unseen(predicted[1 + len(shapes) :], gpus),
        _unseen(predicted[1 + len(shapes) + len(gpus) :], generations),
    )


def _folds(shapes: np.ndarray, seed: int) -> list[Bool[np.ndarray, " rows"]]:
    """Rows of each fold: every shape stands in one."""
    names, places = np.unique(shapes, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(names)) % FOLDS
    return [fold[places] == number for number in range(min(FOLDS, len(names)))]


def _draws(shapes: np.ndarray, draws: int, seed: int) -> list[Float[np.ndarray, " rows"]]:
    """Weights of the rows in bootstrap draws of whole shapes."""
    names, places = np.unique(shapes, return_inverse=True)
    chance = np.full(len(names), 1.0 / len(names))
    return [
        np.random.default_rng([seed, draw]).multinomial(len(names), chance)[places] * 1.0
        for draw in range(draws)
    ]


def _unseen(
    predicted: Float[np.ndarray, "sets rows"], left_out: list[Bool[np.ndarray, " rows"]]
) -> Column:
    """Each row from the fit that did not see it."""
    result = np.empty(predicted.shape[1])
    for times, rows in zip(predicted, left_out, strict=False):
        result[rows] = times[rows]
    return result
