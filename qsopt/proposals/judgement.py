"""Which designs are proposed, what laws say of them, and how sure it is that they are better."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from qsopt.catalog.accelerators import accelerator_name
from qsopt.proposals import opinions as judging
from qsopt.proposals.answers import Answer, Proposal
from qsopt.proposals.fronts import diverse
from qsopt.proposals.goals import quality_of
from qsopt.proposals.marks import marks
from qsopt.proposals.opinions import Opinion
from qsopt.proposals.points import Point, Progress
from qsopt.proposals.priors import DENSE, MOE
from qsopt.proposals.responses import responses
from qsopt.proposals.sides import Side
from qsopt.proposals.stages import base_targets, fronts
from qsopt.spec.model import moe_layers

CANDIDATES = {MOE: 6, DENSE: 2}
"""Designs of each family that all laws are asked about."""


def judge(answer: Answer, progress: Progress) -> None:
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


def keep(answer: Answer) -> None:
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
