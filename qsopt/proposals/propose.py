"""Proposals for a question, from the first to the last step; what was found so far is an answer at
any time.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import jax
import numpy as np

from qsopt.catalog.accelerators import accelerator_name
from qsopt.errors import InputError
from qsopt.precision import in_float64, same_precision
from qsopt.proposals import opinions as judging
from qsopt.proposals.architecture import is_dense
from qsopt.proposals.bodies import Body, body_of, plain_body
from qsopt.proposals.boxes import RATIOS, Box, box_of, changed, including
from qsopt.proposals.fields import Task
from qsopt.proposals.fronts import QUALITY, SPEED, TRAINING, Front, diverse, front
from qsopt.proposals.goals import Wanted, quality_of
from qsopt.proposals.marks import marks
from qsopt.proposals.opinions import Opinion
from qsopt.proposals.priors import DENSE, MOE
from qsopt.proposals.responses import Response, responses
from qsopt.proposals.rows import near_row, row_of
from qsopt.proposals.sampling import legal
from qsopt.proposals.search import (
    Point,
    Progress,
    State,
    Target,
    begin,
    improve,
    learn,
    limits_of_front,
    settle,
    summary,
    try_rows,
)
from qsopt.proposals.sides import Side, dense_matches, reference_sides
from qsopt.quality import QualityLaw
from qsopt.quality import law as law_named
from qsopt.quality.belief import DEFAULT
from qsopt.record import Result
from qsopt.spec.model import Model, moe_layers
from qsopt.spec.service import Service
from qsopt.spec.workload import NO_LIMIT

FAMILIES = (MOE, DENSE)

SPEEDS = 5
"""Limits on the time per token along the front over the speed of a user."""

SIZES = (0.5, 0.7, 1.4, 2.0)
"""Factors on the size that stands for quality along the front over quality."""

TRACKS = 4
"""Descents of the question itself in each family."""

FEWER = 192
"""Architectures that are screened for each of these."""

CANDIDATES = {MOE: 6, DENSE: 2}
"""Designs of each family that all laws are asked about."""


@dataclass(frozen=True)
class Question:
    """What is asked."""

    service: Service
    """With a workload of requests; of decode alone, one whose mean context is the one asked for."""
    wanted: Wanted
    """Which quality."""
    families: tuple[str, ...] = FAMILIES
    law: QualityLaw | str = DEFAULT
    like: Model | None = None
    """Whose attention, vocabulary and formats proposals have; those of the model whose quality is
    wanted, or plain ones, if left out.
    """
    free_attention: bool = False
    bounds: tuple[tuple[str, tuple[float, float]], ...] = ()
    """Instead of the usual ones, by name."""
    decode_alone: bool = False
    seed: int = 0
    name: str = "reference"
    """Of the reference."""
    starts: tuple[tuple[float, ...], ...] = ()
    """Architectures that the search begins at beside its own, as rows."""

    @property
    def quality_law(self) -> QualityLaw:
        """The law that proposals are made by."""
        return law_named(self.law)

    @property
    def reference(self) -> Model | None:
        """The model that proposals stand beside."""
        return self.wanted.model


@dataclass(frozen=True)
class Proposal:
    """One design, with what is known about it."""

    name: str
    point: Point
    roles: tuple[str, ...]
    """Why it is proposed."""
    opinions: tuple[Opinion, ...] = ()
    responses: tuple[Response, ...] = ()
    marks: tuple[str, ...] = ()
    beats_reference: float | None = None
    """Share of draws in which it serves more at the same quality; None without a reference."""
    beats_dense: float | None = None
    """The same over the best dense match."""


@dataclass(repr=False, eq=False)
class Answer(Result):
    """What was found."""

    question: Question = field(repr=False)
    task: Task = field(repr=False)
    state: State = field(repr=False)
    reference: Side | None = None
    """In its best deployment."""
    usual: Side | None = None
    """In the usual one."""
    dense: tuple[Side, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    fronts: dict[str, tuple[Front, ...]] = field(default_factory=dict)
    complete: bool = False
    """Whether every step ran to its end."""


def task_of(question: Question) -> Task:
    """The search that a question stands for.

    Raises:
        InputError: if the question has no meaning.
    """
    for family in question.families:
        if family not in FAMILIES:
            raise InputError(f"family = {family}: take {MOE}, {DENSE} or both")
    body = _body(question)
    goal = question.wanted.by(question.quality_law)
    boxes = {
        family: _box(question, box_of(family, body, question.free_attention), body)
        for family in question.families
    }
    boxes = {name: _with_reference(box, question, goal, body) for name, box in boxes.items()}
    return Task(question.service, body, goal, boxes, question.decode_alone, question.seed)


def _body(question: Question) -> Body:
    like = question.like if question.like is not None else question.reference
    return plain_body() if like is None else body_of(like)


def _box(question: Question, box: Box, body: Body) -> Box:
    known = {*box.bounds, *box.ratios}
    every = {name for family in FAMILIES for name in RATIOS[family]} | known
    for name, _ in question.bounds:
        if name not in every:
            raise InputError(f"no bound '{name}'; there are {', '.join(sorted(every))}")
    return changed(box, **{name: span for name, span in question.bounds if name in known})


def _with_reference(box: Box, question: Question, goal, body: Body) -> Box:
    """The box, with the reference inside where it has the same body; stated bounds stay."""
    model = question.reference
    row = None if model is None else row_of(model, body)
    if model is None or row is None or question.bounds:
        return box
    return including(box, row, quality_of(model, goal))


@in_float64
def propose(question: Question, progress: Progress = lambda _: None) -> Answer:
    """Architectures that serve most at the quality asked for, and what is known about them.

    An interrupt ends the search and keeps what was found.

    Args:
        question: what is asked.
        progress: told what is being done.

    Raises:
        InputError: if the question has no meaning.
    """
    task = task_of(question)
    answer = Answer(question, task, State(task))
    try:
        with ThreadPoolExecutor(1, initializer=same_precision()) as beside:
            sides = beside.submit(_sides, question, task)
            _search(answer, progress)
            progress("reference and dense matches")
            answer.reference, answer.usual, answer.dense = sides.result()
        _judge(answer, progress)
        answer.complete = True
    except KeyboardInterrupt:
        progress("interrupted: what was found is kept")
        _keep(answer)
    return answer


# ---- the search ----------------------------------------------------------------------------------


def base_targets(answer: Answer) -> list[Target]:
    """The question itself, for each family."""
    return [Target(family, answer.task.limit) for family in answer.task.boxes]


def _search(answer: Answer, progress: Progress) -> None:
    state, task = answer.state, answer.task
    targets = base_targets(answer)
    for target in targets:
        progress(f"screening {target.family} architectures")
        begin(state, target, progress=progress)
        _start_at_known(answer, target)
        _report(state, target, progress)
    improve(state, [*targets, *_tracks(answer, targets)], progress)
    settle(state, targets, progress)
    for target in targets:
        _report(state, target, progress)
    others = _others(answer, targets)
    for target in others:
        progress(f"{target.family} at {_words(target, task)}")
        _start(answer, target)
    improve(state, others, progress)
    answer.fronts = fronts(answer)


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


# ---- sides ---------------------------------------------------------------------------------------


def _sides(question: Question, task: Task) -> tuple[Side | None, Side | None, tuple[Side, ...]]:
    """The reference in its best deployment and in the usual one, and its dense matches."""
    model = question.reference
    if model is None:
        return None, None, ()
    best, usual = reference_sides(question.name, model, task)
    return best, usual, tuple(dense_matches(model, float(task.goal.size), task))


# ---- judging -------------------------------------------------------------------------------------


def _judge(answer: Answer, progress: Progress) -> None:
    """Choose what is proposed, ask all laws, and say how sure it is."""
    chosen = chosen_points(answer)
    if not chosen:
        return
    progress("asking all laws")
    goals = judging.goals_by_law(answer.question.wanted)
    views = judging.opinions(answer.state, chosen, goals)
    roles = _roles(answer, chosen, views)
    progress("what each would gain from more")
    answers = responses(answer.state, chosen)
    noted = _marks(answer, chosen)
    answer.proposals = tuple(
        Proposal(_name(point, chosen), point, role, tuple(view), tuple(response), notes)
        for point, role, view, response, notes in zip(
            chosen, roles, views, answers, noted, strict=True
        )
    )
    answer.proposals = _with_odds(answer)


def _marks(answer: Answer, chosen: Sequence[Point]) -> list[tuple[str, ...]]:
    question = answer.question
    wanted = question.wanted
    known = wanted.model is None or wanted.tokens is not None
    return marks(answer.state, chosen, question.quality_law, known, question.free_attention)


def _keep(answer: Answer) -> None:
    """What there is, without the judgement of laws."""
    answer.fronts = fronts(answer)
    chosen = chosen_points(answer)
    answer.proposals = tuple(
        Proposal(_name(point, chosen), point, ("found before the interrupt",)) for point in chosen
    )


def chosen_points(answer: Answer) -> list[Point]:
    """The best designs of each family that differ."""
    state, chosen = answer.state, []
    for target in base_targets(answer):
        points = [point for (each, _), point in state.points.items() if each == target]
        chosen += diverse(points, CANDIDATES[target.family])
    return chosen


def _name(point: Point, chosen: Sequence[Point]) -> str:
    """From family and size, with a number where two share both."""
    plain = _plain_name(point)
    same = [each for each in chosen if _plain_name(each) == plain]
    place = next(index for index, each in enumerate(same) if each is point)
    return plain if place == 0 else f"{plain}-{place + 1}"


def _plain_name(point: Point) -> str:
    total, active = float(point.quality.total) / 1e9, float(point.quality.active) / 1e9
    size = f"{total:.3g}b"
    return (
        f"{point.family}-{size}"
        if point.family == DENSE
        else f"{point.family}-{size}-a{active:.2g}b"
    )


def _roles(
    answer: Answer, chosen: Sequence[Point], views: Sequence[Sequence[Opinion]]
) -> list[tuple[str, ...]]:
    """Why each is proposed."""
    roles: list[list[str]] = [[] for _ in chosen]
    for family in answer.task.boxes:
        mine = [place for place, point in enumerate(chosen) if point.family == family]
        if mine:
            roles[max(mine, key=lambda place: chosen[place].throughput)].append(
                f"most throughput of {family} designs"
            )
            roles[min(mine, key=lambda place: float(chosen[place].quality.training_flops))].append(
                f"least training compute of these {family} designs"
            )
    table = robustness(views)
    if len(table):
        roles[int(np.argmax(table[:, 0]))].append("best worst case over laws")
        roles[int(np.argmax(table[:, 1]))].append("best median over laws")
    return [tuple(each) or ("another shape near the best",) for each in roles]


def robustness(views: Sequence[Sequence[Opinion]]) -> np.ndarray:
    """Least and median throughput of every design over the laws that have an answer for all of
    them [tokens/s].
    """
    if not views or not views[0]:
        return np.zeros((0, 2))
    table = np.array([[each.throughput for each in view] for view in views])
    shared = np.isfinite(table).all(axis=0)
    if not shared.any():
        return np.zeros((0, 2))
    return np.stack([table[:, shared].min(axis=1), np.median(table[:, shared], axis=1)], axis=1)


def _with_odds(answer: Answer) -> tuple[Proposal, ...]:
    """The proposals with the share of draws in which each beats what it is compared with."""
    task, points = answer.task, [each.point for each in answer.proposals]
    curves = judging.curves(answer.state, points, task.goal)
    errors = judging.law_errors(task.goal, task.seed)
    best_dense = max(answer.dense, key=lambda side: side.throughput, default=None)
    found = []
    for proposal, curve in zip(answer.proposals, curves, strict=True):
        shares = [
            _share(answer, proposal.point, curve, rival, errors)
            for rival in (answer.reference, best_dense)
        ]
        found.append(replace(proposal, beats_reference=shares[0], beats_dense=shares[1]))
    return tuple(found)


def _share(
    answer: Answer, point: Point, curve: np.ndarray, rival: Side | None, errors: np.ndarray
) -> float | None:
    if rival is None:
        return None
    if not rival.throughput > 0:
        return 1.0 if point.throughput > 0 else None
    quality = quality_of(rival.model, answer.task.goal)
    dense = moe_layers(rival.model) is None or judging.log_q(quality) == 0.0
    sides = (_server(point, point.family), _server(rival, DENSE if dense else MOE))
    chip = accelerator_name(answer.task.service.cluster.accelerator)
    noise = judging.noise(*sides, chip, answer.task.seed)
    against = (float(np.log(rival.throughput)), judging.log_q(quality))
    return judging.probability((curve, judging.log_q(point.quality)), against, errors, noise)


def _server(design: Point | Side, family: str) -> tuple[str, float, float]:
    """Family, batch of a replica that writes, and its devices."""
    assert design.candidate is not None
    layout = design.candidate.layout
    unit = float(layout.pipeline) * float(layout.data)
    devices = float(layout.tensor) * unit
    return family, design.units * unit, devices
