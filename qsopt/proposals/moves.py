"""Moves of one architecture: one number, or two, at equal quality and scored."""

from collections.abc import Sequence

import jax
import numpy as np

from qsopt.proposals.architecture import COLUMNS
from qsopt.proposals.boxes import Box, changed
from qsopt.proposals.goals import Quality
from qsopt.proposals.points import Point, State, Target
from qsopt.proposals.sampling import legal
from qsopt.proposals.search import try_rows
from qsopt.proposals.sizing import Sized

Named = tuple[tuple[str, ...], np.ndarray]
"""A change in the names of what moves, and the architecture that it makes."""

ROOM = 2.0
"""How far ratios of changed designs may leave the range of a search."""


def first(quality: Quality) -> Quality:
    """The first of a batch."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[0], quality)


def roomy(box: Box, row: np.ndarray, free: bool) -> Box:
    """The box with ratios that go twice as far to either side: what leaves the released shapes is
    marked, not left out. KV heads, or the rank of latents, move from a quarter to four times the
    model's, if they may.
    """
    kv = float(row[COLUMNS.index("kv")])
    spans = {name: (low / ROOM, high * ROOM) for name, (low, high) in box.ratios.items()}
    if free:
        spans["kv"] = (max(1.0, kv / 4.0), kv * 4.0)
    return changed(box, **spans)


def singles(row: np.ndarray, box: Box) -> list[Named]:
    """One number moved: half and double, and steps to either side."""
    found = []
    for name in COLUMNS[:-1]:
        place, step = COLUMNS.index(name), box.steps.get(name, 1.0)
        low, high = box.bounds[name]
        value = float(row[place])
        reach = {"layers": (4.0, 8.0), "hidden": (4.0, 8.0)}.get(name, (1.0,))
        values = [value + sign * each * step for each in reach for sign in (-1.0, 1.0)]
        values += [2.0 * value, np.round(value / 2.0 / step) * step]
        for other in dict.fromkeys(values):
            if low <= other <= high and other != value:
                moved = row.copy()
                moved[place] = other
                found.append(((name,), moved))
    return found


def pair(row: np.ndarray, one: Named, other: Named) -> Named | None:
    """Two changes of different numbers at once."""
    if one[0] == other[0]:
        return None
    return (*one[0], *other[0]), row + (one[1] - row) + (other[1] - row)


def scored(
    state: State, target: Target, asked: Sequence[Named], box: Box
) -> list[tuple[Named, Point]]:
    """Changes at equal quality, each in all known deployments."""
    if not asked:
        return []
    task = state.task
    found: list[tuple[Named, Point]] = []
    for named in asked:
        made = legal(named[1][None], box, task.goal, task.body, np.ones(1))
        if len(made.rows):
            found.append(((named[0], made.rows[0]), _blank(target, made)))
    if not found:
        return []
    rows = np.stack([named[1] for named, _ in found])
    quality = jax.tree.map(lambda *leaves: np.stack(leaves), *(p.quality for _, p in found))
    every = state.choices[target.family].every
    try_rows(state, [target] * len(rows), rows, quality, [every] * len(rows))
    known = [(named, state.points[(target, tuple(named[1].tolist()))]) for named, _ in found]
    return [(named, point) for named, point in known if point.throughput > 0]


def _blank(target: Target, made: Sized) -> Point:
    """A change that was not tried yet."""
    quality = first(made.quality)
    return Point(
        target.family, made.rows[0], 0.0, target.limit, target.factor, 0.0, np.inf, quality
    )
