"""The search of a question stage by stage: the question itself, and targets along the fronts."""

from collections.abc import Sequence
from dataclasses import replace

import jax
import numpy as np

from qsopt.proposals.answers import Answer
from qsopt.proposals.architecture import is_dense
from qsopt.proposals.fields import Task
from qsopt.proposals.fronts import QUALITY, SPEED, TRAINING, Front, diverse, front
from qsopt.proposals.points import Progress, State, Target
from qsopt.proposals.priors import DENSE, MOE
from qsopt.proposals.rows import near_row
from qsopt.proposals.sampling import legal
from qsopt.proposals.search import begin, improve, learn, limits_of_front, settle, summary, try_rows
from qsopt.spec.workload import NO_LIMIT

TRACKS = 4
"""Descents of the question itself in each family."""

SPEEDS = 5
"""Limits on the time per token along the front over the speed of a user."""

SIZES = (0.5, 0.7, 1.4, 2.0)
"""Factors on the size that stands for quality along the front over quality."""

FEWER = 192
"""Architectures that are screened for each of these."""


def base_targets(answer: Answer) -> list[Target]:
    """The question itself, for each family."""
    return [Target(family, answer.task.limit) for family in answer.task.boxes]


def search_all(answer: Answer, progress: Progress) -> None:
    """Search for the question in every family, and along the fronts."""
    search_question(answer, progress)
    state, task = answer.state, answer.task
    others = _others(answer, base_targets(answer))
    for target in others:
        progress(f"{target.family} at {_words(target, task)}")
        _start(answer, target)
    improve(state, others, progress)
    answer.fronts = fronts(answer)


def search_question(answer: Answer, progress: Progress) -> None:
    """Search for the question itself in every family."""
    state, targets = answer.state, base_targets(answer)
    for target in targets:
        progress(f"screening {target.family} architectures")
        begin(state, target, progress=progress)
        _start_at_known(answer, target)
        _report(state, target, progress)
    improve(state, [*targets, *_tracks(answer, targets)], progress)
    settle(state, targets, progress)
    for target in targets:
        _report(state, target, progress)


def _tracks(answer: Answer, targets: Sequence[Target]) -> list[Target]:
    """More descents of each target, from its best designs that differ."""
    state, found = answer.state, []
    for target in targets:
        points = [point for (each, _), point in state.points.items() if each == target]
        for track, point in enumerate(diverse(points, TRACKS)[1:], start=1):
            own = replace(target, track=track)
            state.best[own] = point
            found.append(own)
    return found


def _start_at_known(answer: Answer, target: Target) -> None:
    """The shape of the reference and those that the question names are looked at too, where the
    box has them.
    """
    question, task, state = answer.question, answer.task, answer.state
    model = question.reference
    own = None if model is None else near_row(model, task.body)
    rows = [np.array(each) for each in question.starts] + ([] if own is None else [own])
    rows = [row for row in rows if _family(row) == target.family]
    choices = state.choices.get(target.family)
    if not rows or choices is None:
        return
    table, box = np.stack(rows), task.boxes[target.family]
    found = legal(table, box, task.goal, task.body, np.full(len(table), target.factor))
    count = len(found.rows)
    if count:
        every = [choices.every] * count
        try_rows(state, [target] * count, found.rows, found.quality, every)


def _family(row: np.ndarray) -> str:
    return DENSE if bool(is_dense(row)) else MOE


def _others(answer: Answer, targets: Sequence[Target]) -> list[Target]:
    """Targets along the fronts."""
    best = [answer.state.best[each] for each in targets if each in answer.state.best]
    if not best:
        return []
    limit, quickest = answer.task.limit, min(each.tpot for each in best)
    limits = [*limits_of_front(quickest, SPEEDS)]
    if limit < NO_LIMIT:
        limits.append(NO_LIMIT)
    families = [each.family for each in best]
    by_speed = [Target(family, float(each)) for each in limits for family in families]
    by_size = [Target(family, limit, factor) for factor in SIZES for family in families]
    return by_speed + by_size


def _start(answer: Answer, target: Target) -> None:
    """Where a target of a front begins: at the best designs known for the question, tried under
    its limit, or at a small screening of its own.
    """
    state = answer.state
    if target.factor != 1.0:
        begin(state, target, FEWER)
        return
    base = [
        point for (each, _), point in state.points.items() if each == _base(target, answer.task)
    ]
    chosen = diverse(base, _BEGINNINGS)
    for point in chosen[:2]:
        learn(state, target, point.row, point.quality, whole=False)
    if not chosen:
        return
    rows = np.stack([point.row for point in chosen])
    quality = jax.tree.map(lambda *leaves: np.stack(leaves), *(each.quality for each in chosen))
    every = state.choices[target.family].every
    try_rows(state, [target] * len(chosen), rows, quality, [every] * len(chosen))


_BEGINNINGS = 12
"""Designs that a target under another limit begins at."""


def _base(target: Target, task: Task) -> Target:
    return Target(target.family, task.limit)


def _words(target: Target, task: Task) -> str:
    if target.factor != 1.0:
        return f"{target.factor:g} times the size that stands for the quality"
    return "no limit" if target.limit >= NO_LIMIT else f"{target.limit * 1e3:.3g} ms a token"


def _report(state: State, target: Target, progress: Progress) -> None:
    best = state.best.get(target)
    if best is None:
        progress(f"no {target.family} design keeps the limits so far")
        return
    progress(f"best {target.family} so far: {summary(state, target)}")


def fronts(answer: Answer) -> dict[str, tuple[Front, ...]]:
    """The three fronts of every family."""
    task, points = answer.task, answer.state.points
    found = {}
    for measure in (SPEED, QUALITY, TRAINING):
        found[measure] = tuple(
            Front(
                family,
                front(
                    [
                        point
                        for (target, _), point in points.items()
                        if target.family == family and _on_front(target, task, measure)
                    ],
                    measure,
                ),
            )
            for family in task.boxes
        )
    return found


def _on_front(target: Target, task: Task, measure: str) -> bool:
    if measure == SPEED:
        return target.factor == 1.0
    if measure == QUALITY:
        return target.limit == task.limit
    return target.factor == 1.0 and target.limit == task.limit
