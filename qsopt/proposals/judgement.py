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
from qsopt.proposals.opinions import DesignOpinion
from qsopt.proposals.points import Point, Progress
from qsopt.proposals.priors import DENSE, MOE
from qsopt.proposals.responses import responses
from qsopt.proposals.sides import Companion
from qsopt.proposals.stages import base_targets, fronts
from qsopt.spec.model import moe_layers

CANDIDATES = {MOE: 4, DENSE: 2}
"""Best designs of each family that are proposed, beside those that laws agree on."""

BINS = 3
"""Of the active share and of the granularity, each: the best MoE design of every pair is one that
all laws are asked about, as laws differ in what they think of both.
"""


def judge(answer: Answer, progress: Progress) -> None:
    """Choose what is proposed, ask all laws, and say how sure it is."""
    best = chosen_points(answer)
    if not best:
        return
    progress("asking all laws")
    goals = judging.goals_by_law(answer.question.wanted)
    pool = [*best, *_others(answer, best)]
    asked = judging.opinions(answer.state, pool, goals)
    kept = sorted({*range(len(best)), *_robust(asked).values()})
    chosen, views = [pool[place] for place in kept], [asked[place] for place in kept]
    roles = _roles(answer, chosen, views)
    progress("what each would gain from more")
    answers = responses(answer.state, chosen)
    progress("what lies beyond the bounds that they stand on")
    noted = _marks(answer, chosen)
    answer.proposals = tuple(
        Proposal(_name(point, chosen), point, role, tuple(view), tuple(response), notes)
        for point, role, view, response, notes in zip(
            chosen, roles, views, answers, noted, strict=True
        )
    )
    progress("how sure each is")
    answer.proposals = _with_odds(answer)
    progress("metrics of the designs")


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


def _others(answer: Answer, known: Sequence[Point]) -> list[Point]:
    """MoE designs of other shares of active experts and other granularities, each the best of its
    kind.
    """
    state, found = answer.state, []
    for target in base_targets(answer):
        if target.family != MOE:
            continue
        points = [p for (each, _), p in state.points.items() if each == target and p.throughput]
        if not points:
            continue
        table = np.array([_shape(point) for point in points]).reshape(len(points), 2)
        cuts = [np.quantile(column, np.arange(1, BINS) / BINS) for column in table.T]
        bins = [np.searchsorted(cut, column) for cut, column in zip(cuts, table.T, strict=True)]
        for pair in sorted(set(zip(*map(np.ndarray.tolist, bins), strict=True))):
            mine = (bins[0] == pair[0]) & (bins[1] == pair[1])
            best = max((points[i] for i in np.flatnonzero(mine)), key=lambda p: p.throughput)
            if all(best.key != other.key for other in known):
                found.append(best)
    return found


def _shape(point: Point) -> tuple[float, float]:
    """Share of active experts, and granularity."""
    _, hidden, _, experts, top_k, shared, _, width = point.row.tolist()
    return (top_k + shared) / (experts + shared), 2.0 * hidden / width


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
    answer: Answer, chosen: Sequence[Point], views: Sequence[Sequence[DesignOpinion]]
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
    for name, place in _robust(views).items():
        roles[place].append(f"best {name} over laws")
    return [tuple(each) or ("another shape near the best",) for each in roles]


def robustness(views: Sequence[Sequence[DesignOpinion]]) -> np.ndarray:
    """Least and median throughput of every design over the laws that have an answer for one of
    them; 0 where a design has no width with the quality asked for [tokens/s].
    """
    if not views or not views[0]:
        return np.zeros((0, 2))
    table = np.array([[each.throughput for each in view] for view in views])
    known = np.nan_to_num(table[:, np.isfinite(table).any(axis=0)])
    if not known.size:
        return np.zeros((0, 2))
    return np.stack([known.min(axis=1), np.median(known, axis=1)], axis=1)


def _robust(views: Sequence[Sequence[DesignOpinion]]) -> dict[str, int]:
    """Places of the designs with the best worst case, the better median among equals, and with the
    best median.
    """
    table = robustness(views)
    if not len(table):
        return {}
    return {
        "worst case": int(np.lexsort((table[:, 1], table[:, 0]))[-1]),
        "median": int(np.argmax(table[:, 1])),
    }


def robust_names(answer: Answer) -> dict[str, str | None]:
    """Names of the designs with the best worst case and the best median over laws."""
    places = _robust([each.opinions for each in answer.proposals])
    names = {key: answer.proposals[place].name for key, place in places.items()}
    return {"worst_case": names.get("worst case"), "median": names.get("median")}


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
    answer: Answer, point: Point, curve: np.ndarray, rival: Companion | None, errors: np.ndarray
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


def _server(design: Point | Companion, family: str) -> tuple[str, float, float]:
    """Family, batch of a replica that writes, and its devices."""
    assert design.candidate is not None
    layout = design.candidate.layout
    unit = float(layout.pipeline) * float(layout.data)
    devices = float(layout.tensor) * unit
    return family, design.units * unit, devices
