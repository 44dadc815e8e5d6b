"""From relaxed points to legal designs: legal neighbours, exact scores, and exact local
improvement.

Each relaxed architecture is rounded to the legal values below and above in every variable; its
deployment to the legal layouts near it. The best design is then improved by moving one variable
anywhere, or two of them, until nothing in reach is better; moved designs are tried in the layouts
near the best ones, and the best of them in every layout.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations

import numpy as np
from jaxtyping import Float

from qsopt.deployments.batches import length, take
from qsopt.search.evaluator import Designs, Evaluator
from qsopt.search.variables import DEPLOYMENT, SEARCHED_SIZES, Rows, Variable, neighbours
from qsopt.spec.deployment import Deployment

NEAR_LAYOUTS = 1024
"""Layouts that rounded designs are tried in, the nearest to a relaxed one."""

CONTENDERS = 256
"""Layouts that moved designs are tried in, the nearest to the best ones so far."""

MOST_ROWS = 128
"""Rounded architectures looked at."""

LINE, CROSS = 64, 24
"""Values of a variable that a move tries, alone and with another variable moved by one place."""

FINALISTS = 16
"""Moved architectures that are tried in every layout before the answer stands."""

ROUNDS = 30
"""Rounds of moves at most."""

EQUAL = 1e-12
"""Difference of logs that is no improvement."""


def rounded(evaluator: Evaluator, points: Rows, layouts: Deployment) -> Designs | None:
    """Legal designs near relaxed architectures, in their best layouts; None if none is
    admissible.
    """
    variables = evaluator.problem.architecture
    rows: list[Rows] = []
    for point in points:
        near = [
            neighbours(variable.legal(), value, 1)
            for variable, value in zip(variables, point, strict=True)
        ]
        rows.append(evaluator.admission.candidates(near))
        if sum(map(len, rows)) > MOST_ROWS:
            break
    unique = _unique(np.concatenate(rows))[:MOST_ROWS]
    return evaluator.designs(unique, layouts) if len(unique) else None


def improved(evaluator: Evaluator, designs: Designs) -> Designs:
    """The design that no move in reach beats, from several designs."""
    finalists = _finalists(evaluator, designs)
    best, seen = finalists.single(finalists.index), set()
    variables = evaluator.problem.architecture
    if not variables:
        return best
    for _ in range(ROUNDS):
        moved = evaluator.admission.narrowest(moves(variables, best.rows[0]))
        new = np.array([row for row in moved if tuple(row) not in seen]).reshape(-1, len(variables))
        seen |= {tuple(row) for row in new}
        layouts = near_layouts(evaluator.scorer.layouts, _sizes(finalists), CONTENDERS)
        near = evaluator.designs(np.concatenate([best.rows, new]), layouts)
        finalists = _finalists(evaluator, near)
        if finalists.merits[finalists.index] <= best.merits[0] + EQUAL:
            return best
        best = finalists.single(finalists.index)
    return best


def _finalists(evaluator: Evaluator, designs: Designs) -> Designs:
    """The best of several architectures, each now in the best of all layouts."""
    return evaluator.designs(designs.rows[designs.ranked()[:FINALISTS]])


def _unique(rows: Rows) -> Rows:
    """Each row once, in the order of their first appearance."""
    if not rows.shape[1]:
        return rows[:1]
    return rows[np.sort(np.unique(rows, axis=0, return_index=True)[1])]


def moves(
    variables: Sequence[Variable],
    row: Float[np.ndarray, " variables"],
    line: int = LINE,
    cross: int = CROSS,
) -> Rows:
    """The row with one variable anywhere else, or two of them moved, one of them by one place or
    two.

    Args:
        variables: columns of the row.
        row: that is moved.
        line: values of a variable that are tried alone.
        cross: values of it that are tried with another one moved.
    """
    lines = [_thinned(variable.legal(), line) for variable in variables]
    crosses = [_thinned(variable.legal(), cross) for variable in variables]
    near = [
        neighbours(variable.legal(), value, 3)
        for variable, value in zip(variables, row, strict=True)
    ]
    changes = [{index: value} for index, line in enumerate(lines) for value in line]
    for one, other in permutations(range(len(row)), 2):
        changes += [{one: first, other: second} for first in crosses[one] for second in near[other]]
        changes += [
            {one: first, other: second}
            for first in near[one]
            for second in near[other]
            if one < other
        ]
    return np.array(
        [[change.get(index, value) for index, value in enumerate(row)] for change in changes]
    ).reshape(-1, len(row))


def _thinned(legal: Float[np.ndarray, " values"], most: int) -> Float[np.ndarray, " fewer"]:
    """At most so many legal values, evenly spaced in log."""
    if legal.size <= most:
        return legal
    spaced = np.geomspace(legal[0], legal[-1], most)
    places = np.searchsorted(legal, spaced * (1.0 - 1e-9))
    return legal[np.unique(np.clip(places, 0, legal.size - 1))]


# ---- layouts -------------------------------------------------------------------------------------


def _sizes(designs: Designs) -> list[dict[str, float]]:
    """Parallel sizes of the best designs."""
    layouts = take(designs.best.deployment, designs.ranked()[:FINALISTS])
    return [
        dict(zip(SEARCHED_SIZES, map(float, sizes), strict=True))
        for sizes in _size_columns(layouts)
    ]


def near_layouts(
    layouts: Deployment, sizes: Iterable[Mapping[str, float]], most: int = NEAR_LAYOUTS
) -> Deployment:
    """Legal layouts nearest in log size to any of some sizes; all of them if they are few."""
    if length(layouts) <= most:
        return layouts
    legal = np.log(_size_columns(layouts))
    targets = np.log([[design[name] for name in SEARCHED_SIZES] for design in sizes])
    distance = np.min([np.abs(legal - target).sum(axis=1) for target in targets], axis=0)
    return take(layouts, np.sort(np.argsort(distance, kind="stable")[:most]))


def _size_columns(layouts: Deployment) -> Float[np.ndarray, "layouts sizes"]:
    """Parallel sizes of every layout, in the order of `SEARCHED_SIZES`."""
    return np.stack([getattr(layouts, DEPLOYMENT[name]) for name in SEARCHED_SIZES], axis=1)
