"""What to change of a model that exists: single changes and pairs, at equal quality, ranked.

The width of experts follows from the quality, so a change of architecture is one of shape; formats
of weights and drafts are changed too (see `storage`). The gradient at the reference predicts each
(see `slopes`), and an exact score follows: its best deployment among all that are known, and for
the best few among all layouts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from qsopt.errors import InputError
from qsopt.precision import in_float64
from qsopt.proposals.answers import ProposalQuestion, task_of
from qsopt.proposals.architecture import COLUMNS
from qsopt.proposals.boxes import Box
from qsopt.proposals.fields import Task
from qsopt.proposals.moves import Named, first, pair, roomy, scored, singles
from qsopt.proposals.plans import way_of
from qsopt.proposals.points import Point, Progress, State, Target
from qsopt.proposals.priors import DENSE, MOE
from qsopt.proposals.rows import near_row
from qsopt.proposals.search import learn
from qsopt.proposals.sizing import judged
from qsopt.proposals.slopes import slope_towards, slopes
from qsopt.proposals.storage import (
    DRAFTED,
    best_with_drafts,
    other_formats,
    served_as,
    with_drafts,
)
from qsopt.serving.replica import Served
from qsopt.spec.model import Model, moe_layers

COMBINED = 6
"""Best single changes of which pairs are made."""

SETTLED = 5
"""Best changes that are tried in all layouts."""


@dataclass(frozen=True)
class Change:
    """One change, or two."""

    text: tuple[str, ...]
    """In words, such as `top_k 2 to 1`."""
    point: Point
    predicted: float
    """Relative gain in throughput by the gradient at the reference."""
    gain: float
    """The same exactly."""
    task: Task
    """The search that it was scored in, which has its formats."""
    way: str
    """Of serving."""


@dataclass(frozen=True)
class Changes:
    """All changes that keep the quality, best first."""

    task: Task
    reference: Point
    """The model in its best deployment."""
    ranked: tuple[Change, ...]


@in_float64
def changes(
    question: ProposalQuestion, progress: Progress = lambda _: None, storage: bool = True
) -> Changes:
    """Changes of the reference of a question, ranked by what they gain.

    Args:
        question: what is asked.
        progress: told what is being done.
        storage: whether formats of weights and drafts are changed too.

    Raises:
        InputError: if the question has no reference, or nothing serves it here.
    """
    model = question.reference
    if model is None:
        raise InputError("changes are of a model: name it with --from")
    task = task_of(question)
    row = _row(model, task)
    family = DENSE if row[COLUMNS.index("experts")] <= row[COLUMNS.index("top_k")] else MOE
    state, target = State(task), Target(family, task.limit)
    quality = judged(row[None], task.goal, task.body)
    one = first(quality)
    progress("the model as it is, in all layouts")
    learn(state, target, row, one, whole=True)
    if target not in state.best:
        raise InputError("nothing serves the model within the limits here: loosen them")
    reference = state.best[target]
    progress("the gradient at it")
    gradient = slopes(reference, task)
    box = roomy(task.boxes[family], row, question.free_attention)
    alone = scored(state, target, singles(row, box), box)
    best = sorted(alone, key=lambda each: -each[1].throughput)[:COMBINED]
    progress("pairs of the best changes")
    pairs = [pair(row, a, b) for (a, _), (b, _) in combinations(best, 2)]
    pairs = scored(state, target, [each for each in pairs if each is not None], box)
    every = sorted([*alone, *pairs], key=lambda each: -each[1].throughput)
    progress("the best in all layouts")
    for _, point in every[:SETTLED]:
        learn(state, target, point.row, point.quality, whole=True)
    found = [_change(state, target, reference, gradient, names, point) for names, point in every]
    if storage:
        progress("other formats of weights")
        shapes = [named for named, _ in best]
        for text, stored in other_formats(task, family).items():
            slope = _slope(reference, task, served_as(reference, stored.body, task.service))
            found += _stored(State(stored), target, reference, gradient, (text, slope), shapes, box)
    if storage and not task.decode_alone:
        progress("drafts")
        found += _drafting(reference, max(found, key=lambda each: each.gain, default=None), task)
    ranked = sorted(found, key=lambda each: (-each.gain, each.text))
    return Changes(task, reference, tuple(ranked))


def _row(model: Model, task: Task) -> np.ndarray:
    """The architecture of the model.

    Raises:
        InputError: if its layers are of more kinds than a row tells.
    """
    row = near_row(model, task.body)
    if row is None:
        raise InputError(
            "the layers of this model are of more kinds than changes can be made of; take "
            "--quality-of to search from nothing"
        )
    return row


def _slope(reference: Point, task: Task, there: Served, drafting: bool = False) -> float:
    """The slope of the log throughput on the way from the reference as it is served."""
    here = served_as(reference, task.body, task.service)
    return slope_towards(reference, task, with_drafts(here, 1.0) if drafting else here, there)


def _stored(
    state: State,
    target: Target,
    reference: Point,
    gradient: dict[str, float],
    format_change: tuple[str, float],
    shapes: Sequence[Named],
    box: Box,
) -> list[Change]:
    """The reference, and its best changes of architecture, with weights in another format."""
    learn(state, target, reference.row, reference.quality, whole=True)
    if target not in state.best:
        return []
    own = state.points[(target, reference.key)]
    made = [(((), reference.row), own), *scored(state, target, shapes, box)]
    return [
        _change(state, target, reference, gradient, named, point, format_change)
        for named, point in made
    ]


def _drafting(reference: Point, best: Change | None, task: Task) -> list[Change]:
    """The reference, and the best change, with a layer that drafts."""
    here = served_as(reference, task.body, task.service)
    slope = _slope(reference, task, with_drafts(here, 2.0), drafting=True)
    none = Change((), reference, 0.0, 0.0, task, way_of(reference, task.decode_alone))
    found = []
    for each in (none, *(() if best is None else (best,))):
        option = best_with_drafts(served_as(each.point, each.task.body, task.service))
        if option is not None:
            rate, tpot = float(option.reached.throughput), float(option.reached.tpot)
            found.append(
                Change(
                    (*each.text, DRAFTED),
                    replace(each.point, throughput=rate, tpot=tpot),
                    (1.0 + each.predicted) * float(np.exp(slope)) - 1.0,
                    rate / reference.throughput - 1.0,
                    each.task,
                    option.way,
                )
            )
    return found


def family_of(model: Model | None) -> str:
    """Of a model."""
    return DENSE if model is None or moe_layers(model) is None else MOE


def _change(
    state: State,
    target: Target,
    reference: Point,
    gradient: dict[str, float],
    named: Named,
    point: Point,
    format_change: tuple[str, float] = ("", 0.0),
) -> Change:
    """A change with what was predicted and what it brings."""
    (names, _), (stored, slope) = named, format_change
    best = state.points[(target, point.key)]
    before = {name: float(reference.row[COLUMNS.index(name)]) for name in names}
    after = {name: float(best.row[COLUMNS.index(name)]) for name in names}
    moved = slope + sum(gradient[name] * (after[name] - before[name]) for name in names)
    text = (*(f"{name} {before[name]:g} to {after[name]:g}" for name in names), stored)
    gain = best.throughput / reference.throughput - 1.0
    return Change(
        tuple(filter(None, text)),
        best,
        float(np.expm1(moved)),
        gain,
        state.task,
        way_of(best, state.task.decode_alone),
    )
