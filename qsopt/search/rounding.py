"""From relaxed points to legal designs: legal neighbours, exact scores, and exact local
improvement.

Each relaxed architecture is rounded to the legal values below and above in every variable; its
deployment to the legal layouts near it. The best design is then improved by moving one variable
anywhere, or two of them, until nothing in reach is better; moved designs are tried in the layouts
near the best ones, and the best of them in every layout.
"""

from collections.abc import Iterable
from itertools import permutations

import jax
import numpy as np
from jaxtyping import Float

from qsopt.search.admission import Rows
from qsopt.search.judge import Judge, Verdicts
from qsopt.search.variables import Variable, around
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

EQUAL = 1e-12
"""Difference of logs that is no improvement."""


def rounded(judge: Judge, points: Rows, layouts: Deployment) -> Verdicts | None:
    """Legal designs near relaxed architectures, in their best layouts; None if none is
    admissible.
    """
    rows: list[Rows] = []
    for point in points:
        near = [
            around(each.legal(), value, 1)
            for each, value in zip(judge.problem.architecture, point, strict=True)
        ]
        rows.append(judge.admission.candidates(near))
        if sum(map(len, rows)) > MOST_ROWS:
            break
    found = _unique(np.concatenate(rows))[:MOST_ROWS]
    return judge.judge(found, layouts) if len(found) else None


def improved(judge: Judge, found: Verdicts) -> Verdicts:
    """The design that no move in reach beats, from several judged ones."""
    known = _finalists(judge, found)
    best, seen = known.one(known.index), set()
    if not judge.problem.architecture:
        return best
    for _ in range(ROUNDS):
        moved = judge.admission.narrowest(moves(judge.problem.architecture, best.rows[0]))
        new = np.array([row for row in moved if tuple(row) not in seen]).reshape(
            -1, best.rows.shape[1]
        )
        seen |= {tuple(row) for row in new}
        layouts = near_layouts(judge.scorer.layouts, _sizes(known), CONTENDERS)
        near = judge.judge(np.concatenate([best.rows, new]), layouts)
        known = _finalists(judge, near)
        if known.merits[known.index] <= best.merits[0] + EQUAL:
            return best
        best = known.one(known.index)
    return best


def _finalists(judge: Judge, found: Verdicts) -> Verdicts:
    """The best of judged architectures, judged in every layout."""
    return judge.judge(found.rows[np.argsort(-found.merits, kind="stable")[:FINALISTS]])


def _unique(rows: Rows) -> Rows:
    """Each row once, in the order of their first appearance."""
    if not rows.shape[1]:
        return rows[:1]
    return rows[np.sort(np.unique(rows, axis=0, return_index=True)[1])]


def moves(variables: tuple[Variable, ...], row: Float[np.ndarray, " variables"]) -> Rows:
    """The row with one variable anywhere else, or two of them moved, one of them by one place or
    two.
    """
    lines = [_thinned(each.legal(), LINE) for each in variables]
    crosses = [_thinned(each.legal(), CROSS) for each in variables]
    near = [around(each.legal(), value, 3) for each, value in zip(variables, row, strict=True)]
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
    wanted = np.geomspace(legal[0], legal[-1], most)
    return legal[
        np.unique(np.clip(np.searchsorted(legal, wanted * (1.0 - 1e-9)), 0, legal.size - 1))
    ]


def _sizes(found: Verdicts) -> list[dict[str, float]]:
    """Parallel sizes of the best designs."""
    order = np.argsort(-found.merits, kind="stable")[:FINALISTS]
    layout = found.best.deployment
    fields = {"tp": layout.tensor, "dp": layout.data, "pp": layout.pipeline, "ep": layout.expert}
    return [{name: float(values[index]) for name, values in fields.items()} for index in order]


def near_layouts(
    layouts: Deployment, sizes: Iterable[dict[str, float]], most: int = NEAR_LAYOUTS
) -> Deployment:
    """Legal layouts nearest in log size to any of some sizes; all of them if they are few."""
    if layouts.tensor.shape[0] <= most:
        return layouts
    legal = np.log(
        np.stack([layouts.tensor, layouts.data, layouts.pipeline, layouts.expert], axis=1)
    )
    wanted = np.log([[each[name] for name in ("tp", "dp", "pp", "ep")] for each in sizes])
    distance = np.min([np.abs(legal - point).sum(axis=1) for point in wanted], axis=0)
    kept = np.sort(np.argsort(distance, kind="stable")[:most])
    return jax.tree.map(lambda leaf: np.asarray(leaf)[kept], layouts)
