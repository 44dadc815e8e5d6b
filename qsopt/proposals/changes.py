"""What to change of a model that exists: single changes of its architecture and pairs of them, at
equal quality, ranked.

The width of experts follows from the quality, so every change is one of shape. The gradient at the
reference predicts each (see `slopes`), and an exact score follows: its best deployment among all
that are known, and for the best few among all layouts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import jax
import numpy as np

from qsopt.errors import InputError
from qsopt.precision import in_float64
from qsopt.proposals.answers import ProposalQuestion, task_of
from qsopt.proposals.architecture import COLUMNS
from qsopt.proposals.boxes import Box, changed
from qsopt.proposals.fields import Task
from qsopt.proposals.goals import Quality
from qsopt.proposals.points import Point, Progress, State, Target
from qsopt.proposals.priors import DENSE, MOE
from qsopt.proposals.rows import near_row
from qsopt.proposals.sampling import legal
from qsopt.proposals.search import learn, try_rows
from qsopt.proposals.sizing import Sized, judged
from qsopt.proposals.slopes import slopes
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


@dataclass(frozen=True)
class Changes:
    """All changes that keep the quality, best first."""

    task: Task
    reference: Point
    """The model in its best deployment."""
    ranked: tuple[Change, ...]


@in_float64
def changes(question: ProposalQuestion, progress: Progress = lambda _: None) -> Changes:
    """Changes of the reference of a question, ranked by what they gain.

    Raises:
        InputError: if the question has no reference, or nothing serves it here.
    """
    model = question.reference
    if model is None:
        raise InputError("changes are of a model: name it with --from")
    task = task_of(question)
    row = near_row(model, task.body)
    if row is None:
        raise InputError(
            "the layers of this model are of more kinds than changes can be made of; take "
            "--quality-of to search from nothing"
        )
    family = DENSE if row[COLUMNS.index("experts")] <= row[COLUMNS.index("top_k")] else MOE
    state, target = State(task), Target(family, task.limit)
    quality = judged(row[None], task.goal, task.body)
    one = _first(quality)
    progress("the model as it is, in all layouts")
    learn(state, target, row, one, whole=True)
    if target not in state.best:
        raise InputError("nothing serves the model within the limits here: loosen them")
    reference = state.best[target]
    progress("the gradient at it")
    gradient = slopes(reference, task)
    box = _roomy(task.boxes[family], row, question.free_attention)
    singles = _scored(state, target, _singles(row, box), box)
    best = sorted(singles, key=lambda each: -each[1].throughput)[:COMBINED]
    progress("pairs of the best changes")
    pairs = [_pair(row, a, b) for (a, _), (b, _) in combinations(best, 2)]
    pairs = _scored(state, target, [each for each in pairs if each is not None], box)
    every = sorted([*singles, *pairs], key=lambda each: -each[1].throughput)
    progress("the best in all layouts")
    for _, point in every[:SETTLED]:
        learn(state, target, point.row, point.quality, whole=True)
    found = [_change(state, target, reference, gradient, names, point) for names, point in every]
    ranked = sorted(found, key=lambda each: (-each.gain, each.text))
    return Changes(task, reference, tuple(ranked))


def family_of(model: Model | None) -> str:
    """Of a model."""
    return DENSE if model is None or moe_layers(model) is None else MOE


def _first(quality: Quality) -> Quality:
    """The first of a batch."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[0], quality)


def _roomy(box: Box, row: np.ndarray, free: bool) -> Box:
    """The box with ratios that go twice as far to either side: what leaves the released shapes is
    marked, not left out. KV heads, or the rank of latents, move from a quarter to four times the
    model's, if they may.
    """
    kv = float(row[COLUMNS.index("kv")])
    spans = {name: (low / ROOM, high * ROOM) for name, (low, high) in box.ratios.items()}
    if free:
        spans["kv"] = (max(1.0, kv / 4.0), kv * 4.0)
    return changed(box, **spans)


ROOM = 2.0
"""How far ratios of changed designs may leave the range of a search."""

Named = tuple[tuple[str, ...], np.ndarray]
"""A change in the names of what moves, and the architecture that it makes."""


def _singles(row: np.ndarray, box: Box) -> list[Named]:
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


def _pair(row: np.ndarray, one: Named, other: Named) -> Named | None:
    """Two changes of different numbers at once."""
    if one[0] == other[0]:
        return None
    return (*one[0], *other[0]), row + (one[1] - row) + (other[1] - row)


def _scored(
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
    quality = _first(made.quality)
    return Point(
        target.family, made.rows[0], 0.0, target.limit, target.factor, 0.0, np.inf, quality
    )


def _change(
    state: State,
    target: Target,
    reference: Point,
    gradient: dict[str, float],
    named: Named,
    point: Point,
) -> Change:
    """A change with what was predicted and what it brings."""
    names, _ = named
    best = state.points[(target, point.key)]
    before = {name: float(reference.row[COLUMNS.index(name)]) for name in names}
    after = {name: float(best.row[COLUMNS.index(name)]) for name in names}
    moved = sum(gradient[name] * (after[name] - before[name]) for name in names)
    text = tuple(f"{name} {before[name]:g} to {after[name]:g}" for name in names)
    gain = best.throughput / reference.throughput - 1.0
    return Change(text, best, float(np.expm1(moved)), gain)
