"""The search: thousands of architectures of the quality asked for are screened in a few good
deployments, the best move to legal neighbours until none is better, and deployments that are best
in all layouts join those that are tried.

What is looked for is a `Target`: a family, a limit on the time per token, and a factor on the size
that stands for quality. All targets move at once, as rows of the same compiled calls, so that the
front over speed, quality and families costs little more than one answer. Everything is a function
of the question and the seed; nothing depends on the clock.
"""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float

from qsopt.deployments.batches import length, take
from qsopt.proposals.boxes import Table
from qsopt.proposals.choices import (
    coarse,
    distinct,
    every_layout,
    joined,
    refined,
    usual,
    ways_of,
)
from qsopt.proposals.configs import model_of
from qsopt.proposals.fields import Choices, Tried, good_rows, tried, where_of
from qsopt.proposals.goals import Quality
from qsopt.proposals.points import BETTER, Point, Progress, State, Target, silent
from qsopt.proposals.pools import NOBODY
from qsopt.proposals.priors import DENSE, MOE
from qsopt.proposals.sampling import legal, neighbours, sample
from qsopt.serving.candidates import Candidates

SCREENED = {MOE: 768, DENSE: 256}
"""Architectures of each family that are screened for a target."""

SEEDS = {MOE: 4, DENSE: 3}
"""Architectures, as different in size as can be, that find the deployments for screening."""

NEAREST = 2
"""Anchors whose deployments an architecture is screened in."""

ROUNDS = 40
"""Moves of a target at most."""

KEPT = 12
"""Of the best of a screening that are tried in all known deployments."""


def try_rows(
    state: State,
    target: Sequence[Target],
    rows: Table,
    quality: Quality,
    candidates: list[Candidates],
) -> Tried:
    """Architectures in lists of candidates, each for its own target; the points are kept."""
    limits = np.array([each.limit for each in target])
    found = tried(state.task, rows, candidates, limits)
    state.evaluations += len(found.owner)
    for index, each in enumerate(target):
        state.note(each, _point(found, index, each, rows[index], _one(quality, index)))
    return found


def _one(quality: Quality, index: int) -> Quality:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], quality)


def _point(found: Tried, index: int, target: Target, row: np.ndarray, quality: Quality) -> Point:
    place, reader = int(found.best.row[index]), int(found.best.reader[index])
    known = target.family, row, float(found.best.throughput[index]), target.limit, target.factor
    if place == NOBODY:
        return Point(*known, 0.0, np.inf, quality)
    return Point(
        *known,
        float(found.scores.units[place]),
        float(found.scores.tpot[place]),
        quality,
        take(found.designs.candidate, place),
        None if reader == NOBODY else take(found.designs.candidate, reader),
    )


def learn(state: State, target: Target, row: np.ndarray, quality: Quality, whole: bool) -> bool:
    """Try one architecture in all layouts, or in the usual ones, and keep what is good; whether a
    deployment is new.
    """
    task, ways = state.task, ways_of(state.task.decode_alone)
    layouts = every_layout(model_of(row, task.body), task.service)
    first = coarse(layouts if whole else usual(layouts, task.devices), ways)
    one, batch = row[None], jax.tree.map(lambda leaf: np.asarray(leaf)[None], quality)
    found = try_rows(state, [target], one, batch, [first])
    if whole:
        second = refined(found.designs.candidate, found.scores.value, ways)
        known = state.choices[target.family].every if target.family in state.choices else None
        listed = second if known is None else distinct(joined([known, second]))
        found = try_rows(state, [target], one, batch, [listed])
    good = take(found.designs.candidate, good_rows(found, 0))
    if not length(good):
        return False
    choices = state.choices.setdefault(target.family, Choices.none(good))
    where = where_of(float(quality.total), float(quality.active), target.limit)
    return choices.add(where, good)


def screen(state: State, target: Target, rows: Table, quality: Quality) -> None:
    """Many architectures in the deployments that are good near them; the best in all known."""
    choices = state.choices.get(target.family)
    if choices is None or not len(rows):
        return
    lists = [take(choices.every, _near(state, target, _one(quality, i))) for i in range(len(rows))]
    targets = [target] * len(rows)
    found = try_rows(state, targets, rows, quality, lists)
    order = np.argsort(-found.best.throughput, kind="stable")[:KEPT]
    order = order[found.best.throughput[order] > 0]
    if len(order):
        again = jax.tree.map(lambda leaf: np.asarray(leaf)[order], quality)
        everything = [choices.every] * len(order)
        try_rows(state, [target] * len(order), rows[order], again, everything)


def _near(state: State, target: Target, quality: Quality) -> np.ndarray:
    where = where_of(float(quality.total), float(quality.active), target.limit)
    return state.choices[target.family].near(where, NEAREST)


def spread(quality: Quality, count: int) -> list[int]:
    """Architectures as different in total and active parameters as can be: the median one, and
    then each the farthest from those before it.
    """
    points = np.log(np.stack([np.asarray(quality.total), np.asarray(quality.active)], axis=1))
    if not len(points):
        return []
    middle = np.linalg.norm(points - np.median(points, axis=0), axis=1)
    chosen = [int(np.argmin(middle))]
    while len(chosen) < min(count, len(points)):
        distance = np.min(
            [np.linalg.norm(points - points[each], axis=1) for each in chosen], axis=0
        )
        chosen.append(int(np.argmax(distance)))
    return chosen


# ---- moves ---------------------------------------------------------------------------------------


def improve(
    state: State, targets: Sequence[Target], progress: Progress, rounds: int | None = None
) -> None:
    """Move every target to its best neighbour until none is better."""
    open_targets = [each for each in targets if each in state.best]
    for number in range(ROUNDS if rounds is None else rounds):
        if not open_targets:
            return
        batch = [_moves(state, each, number) for each in open_targets]
        before = {each: state.best[each].throughput for each in open_targets}
        _try_moves(state, open_targets, batch)
        open_targets = [
            each
            for each in open_targets
            if state.best[each].throughput > before[each] * (1.0 + BETTER)
        ]
        progress(f"{len(open_targets)} of {len(targets)} searches still improve")


def _moves(state: State, target: Target, number: int) -> tuple[Table, Quality]:
    """Legal neighbours of a target's best that were not tried yet."""
    task, best = state.task, state.best[target]
    box = task.boxes[target.family]
    near = neighbours(best.row, box, task.seed + number)
    found = legal(near, box, task.goal, task.body, np.full(len(near), target.factor))
    new = [
        place
        for place, row in enumerate(found.rows)
        if (target.base, tuple(row.tolist())) not in state.points
    ]
    return found.rows[new], jax.tree.map(lambda leaf: np.asarray(leaf)[new], found.quality)


def _try_moves(
    state: State, targets: Sequence[Target], batch: Sequence[tuple[Table, Quality]]
) -> None:
    """All neighbours in the deployments that are good for the best and near them; a target's new
    best in all known.
    """
    rows = np.concatenate([moves for moves, _ in batch])
    if not len(rows):
        return
    quality = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(each for _, each in batch))
    owners = [each for each, (moves, _) in zip(targets, batch, strict=True) for _ in moves]
    lists = [_list_for(state, each, _one(quality, i)) for i, each in enumerate(owners)]
    before = {each: state.best[each] for each in targets}
    try_rows(state, owners, rows, quality, lists)
    moved = [each for each in targets if state.best[each] is not before[each]]
    if moved:
        new = [state.best[each] for each in moved]
        judged = jax.tree.map(lambda *leaves: np.stack(leaves), *(each.quality for each in new))
        everything = [state.choices[each.family].every for each in moved]
        try_rows(state, moved, np.stack([each.row for each in new]), judged, everything)


def _list_for(state: State, target: Target, quality: Quality) -> Candidates:
    """What a neighbour is tried in: what is best for the target, and what is good near it."""
    choices, best = state.choices[target.family], state.best[target]
    own = [one for one in (best.candidate, best.reader) if one is not None]
    singles = [jax.tree.map(lambda leaf: np.asarray(leaf)[None], one) for one in own]
    near = take(choices.every, _near(state, target, quality))
    return distinct(joined([*singles, near]))


# ---- the whole -----------------------------------------------------------------------------------


def begin(
    state: State, target: Target, most: int | None = None, progress: Progress = silent
) -> None:
    """Screen the box for a target."""
    task, family = state.task, target.family
    box = task.boxes[family]
    most = SCREENED[family] if most is None else most
    found = sample(box, task.goal, task.body, most, task.seed, target.factor)
    if not len(found.rows):
        return
    seeds = spread(found.quality, SEEDS[family])
    for index in seeds:
        learn(state, target, found.rows[index], _one(found.quality, index), whole=False)
        if target in state.best:
            progress(f"first {target.family} design: {summary(state, target)}")
            progress = silent
    screen(state, target, found.rows, found.quality)


def settle(state: State, targets: Sequence[Target], progress: Progress, passes: int = 3) -> None:
    """Try the best in all layouts and move on, until neither deployment nor architecture is new."""
    for _ in range(passes):
        new = False
        for target in targets:
            if target in state.best:
                best = state.best[target]
                new |= learn(state, target, best.row, best.quality, whole=True)
        before = {each: state.best[each].key for each in targets if each in state.best}
        improve(state, targets, progress)
        after = {each: state.best[each].key for each in targets if each in state.best}
        if before == after:
            return


def summary(state: State, target: Target) -> str:
    """The best of a target in a few words."""
    best = state.best[target]
    total, active = float(best.quality.total) / 1e9, float(best.quality.active) / 1e9
    rate = best.throughput / state.task.devices
    return f"{total:,.0f} B, {active:,.1f} B active, {rate:,.1f} tokens/s per device"


def limits_of_front(tpot: float, count: int, step: float = 0.6) -> Float[np.ndarray, " limits"]:
    """Limits on the time per token that a front is made of, from just below a time on [s]."""
    return tpot * step ** np.arange(1.0, count + 1.0)
