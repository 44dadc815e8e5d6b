"""From points to groups: fit every kind, check it on what was left out, and give every value its
interval.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from qsopt.calibration.fit import Fit
from qsopt.calibration.form import FORMS, Form
from qsopt.calibration.held_out import CrossValidation, cross_validation
from qsopt.calibration.points import Points
from qsopt.fitted.errors import Column, Errors, errors
from qsopt.fitted.groups import AcceleratorFit, FittedGroup, Values

DRAWS = 16
"""Bootstrap draws of shapes for the intervals."""

MOST_DRAWS = 10_000
"""All are fitted together, in memory."""


def calibrate(
    points: Mapping[str, Points],
    forms: Mapping[str, Form] = FORMS,
    draws: int = DRAWS,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[list[FittedGroup], dict[str, CrossValidation]]:
    """Fit every kind that the points hold.

    Args:
        points: by kind.
        forms: of the kinds.
        draws: bootstrap draws for the intervals.
        progress: gets a line of text before each fit, as a fit takes minutes.

    Returns:
        The groups, and the predictions of every kind's rows.
    """
    groups, predictions = [], {}
    for kind, form in forms.items():
        if kind in points:
            rows = points[kind]
            families = len(np.unique(rows.labels.family))
            progress(f"fitting {kind}: {len(rows):,} rows, {families} families")
            predictions[kind] = cross_validation(rows, form, draws)
            groups += [_group(rows, predictions[kind], draws, place) for place in range(families)]
    return groups, predictions


def _group(points: Points, predictions: CrossValidation, draws: int, family: int) -> FittedGroup:
    fit = predictions.fit
    rows = fit.membership.family == family
    kind, backend, dtype = fit.membership.families[family].split("/")

    def errors_of(predicted: Column) -> Errors:
        return errors(predicted[rows], points.seconds[rows])

    low, high = _interval(fit, family, draws)
    return FittedGroup(
        kind,
        backend,
        dtype,
        fit.values(family),
        low,
        high,
        errors_of(predictions.fitted),
        errors_of(predictions.other_shapes),
        errors_of(predictions.other_accelerators),
        errors_of(predictions.other_generations),
        dict(_own(points, predictions, rows, family)),
        dict(_generations(fit, rows, family)),
    )


def _own(
    points: Points, predictions: CrossValidation, rows: np.ndarray, family: int
) -> Iterator[tuple[str, AcceleratorFit]]:
    """Every accelerator with rows in a family."""
    fit = predictions.fit
    for place, gpu in enumerate(fit.membership.accelerators):
        mine = rows & (fit.membership.accelerator == place)
        if mine.any():
            left = errors(predictions.fitted[mine], points.seconds[mine])
            yield gpu, AcceleratorFit(fit.values(family, place), left)


def _generations(fit: Fit, rows: np.ndarray, family: int) -> Iterator[tuple[str, Values]]:
    """Every generation with rows in a family."""
    member = fit.membership
    for place in np.unique(member.generation[member.accelerator[rows]]):
        yield member.generations[place], fit.generation_values(family, int(place))


def _interval(fit: Fit, family: int, draws: int) -> tuple[Values, Values]:
    """5th and 95th percentile of the pool over the bootstrap draws, the last sets of the fit."""
    sets = range(len(fit.log_seconds) - draws, len(fit.log_seconds)) if draws else [0]
    values = [fit.values(family, chosen=chosen) for chosen in sets]
    ends = [
        {name: float(np.quantile([one[name] for one in values], q)) for name in values[0]}
        for q in (0.05, 0.95)
    ]
    return ends[0], ends[1]
