"""The search: rows score as `serve` does, the best equals exhaustive enumeration of architectures
and deployments, and everything follows from the question and the seed.
"""

from functools import cache

import jax
import numpy as np
import pytest

from qsopt import Workload, load_cluster, load_efficiency, load_model
from qsopt.deployments.batches import take
from qsopt.proposals.answers import ProposalQuestion
from qsopt.proposals.bodies import body_of
from qsopt.proposals.boxes import box_of, changed
from qsopt.proposals.choices import coarse, every_layout, refined
from qsopt.proposals.configs import model_of
from qsopt.proposals.fields import Task
from qsopt.proposals.goals import Wanted, as_good_as
from qsopt.proposals.points import State, Target
from qsopt.proposals.pools import best_rows
from qsopt.proposals.propose import propose
from qsopt.proposals.rows import row_of
from qsopt.proposals.scores import rows_of, scored
from qsopt.proposals.search import begin, improve, settle
from qsopt.proposals.sizing import sized
from qsopt.quality import law
from qsopt.serving.candidates import Candidates, candidates
from qsopt.serving.ways import SEARCHED, Searched, asked, layouts_of, lists, searched
from qsopt.spec.service import Service

MIXTRAL = load_model("mixtral-8x7b")
BODY = body_of(MIXTRAL)


@cache
def service(cluster: str = "4xh100", tpot: float = 0.05) -> Service:
    workload = Workload(prompt=2048, answer=256, ttft_limit=2.0, tpot_limit=tpot)
    return Service(load_cluster(cluster), workload, load_efficiency("fitted"))


def mixtral_row() -> np.ndarray:
    row = row_of(MIXTRAL, BODY)
    assert row is not None
    return row


@cache
def whole() -> tuple[Candidates, Searched]:
    """Every candidate of Mixtral, all of them settled by the search of serving."""
    served = jax.tree.map(np.asarray, asked(MIXTRAL, service()))
    every, groups = lists(layouts_of(MIXTRAL, service()), SEARCHED)
    return every, jax.tree.map(np.asarray, searched(served, every, groups, 0.0))


def test_rows_reach_what_the_search_of_serving_does() -> None:
    every, theirs = whole()
    row = mixtral_row()
    count = len(every.kind)
    limit = float(service().workload.tpot_limit)
    ours = scored(rows_of(np.tile(row, (count, 1)), every, limit), service(), BODY)
    assert ours.units.tolist() == theirs.found.units.tolist()
    np.testing.assert_allclose(ours.value, theirs.found.value, rtol=1e-12)


def test_two_steps_find_the_best_of_all_ways_and_layouts() -> None:
    layouts = every_layout(MIXTRAL, service())
    row = mixtral_row()
    first = coarse(layouts, SEARCHED)
    limit = float(service().workload.tpot_limit)
    tried = scored(rows_of(np.tile(row, (len(first.kind), 1)), first, limit), service(), BODY)
    second = refined(first, tried.value, SEARCHED)
    designs = rows_of(np.tile(row, (len(second.kind), 1)), second, limit)
    scores = scored(designs, service(), BODY)
    best = best_rows(np.zeros(len(second.kind), int), 1, designs, scores, service())
    _, theirs = whole()
    assert best.throughput[0] == pytest.approx(float(theirs.ways.throughput), rel=1e-9)


def task(cluster: str, family: str, spans: dict, tpot: float = 0.05) -> Task:
    box = changed(box_of(family, BODY), **spans)
    goal = as_good_as(MIXTRAL, law("power"), None)
    return Task(service(cluster, tpot), BODY, goal, {family: box})


def enumerated(problem: Task, family: str) -> float:
    """The best throughput over every architecture of a box in every way and layout."""
    box = problem.boxes[family]
    axes = [
        np.arange(low, high + 1, box.steps.get(name, 1.0))
        for name, (low, high) in box.bounds.items()
    ]
    order = list(box.bounds)
    columns = ("layers", "hidden", "kv", "experts", "top_k", "shared", "leading")
    points = np.stack([each.ravel() for each in np.meshgrid(*axes, indexing="ij")], axis=1)
    table = np.stack([points[:, order.index(name)] for name in columns], axis=1)
    rows = np.concatenate([table, np.zeros((len(table), 1))], axis=1)
    rows = rows[box.shaped(rows)]
    found = sized(rows, problem.goal, BODY, box.width_step)
    rows = found.rows[box.holds(found.rows, found.quality)]
    assert len(rows) > 3
    best = 0.0
    for row in rows:
        every = candidates(every_layout(model_of(row, BODY), problem.service), SEARCHED)
        designs = rows_of(np.tile(row, (len(every.kind), 1)), every, problem.limit)
        scores = scored(designs, problem.service, BODY)
        owner = np.zeros(len(every.kind), int)
        best = max(best, best_rows(owner, 1, designs, scores, problem.service).throughput[0])
    return best


SPANS = {"layers": (28, 32), "hidden": (4096, 4224), "shared": (0, 0), "leading": (0, 0)}
PROBLEMS = [
    ("2xh100", "moe", {**SPANS, "experts": (8, 24), "top_k": (1, 2)}, 0.05),
    ("1xh200", "moe", {**SPANS, "experts": (8, 16), "top_k": (1, 3)}, 0.1),
    ("2xa100-80gb", "moe", {**SPANS, "experts": (16, 32), "top_k": (2, 4)}, 0.1),
    ("2xh200", "moe", {**SPANS, "layers": (24, 28), "experts": (8, 24), "top_k": (1, 2)}, 0.03),
    ("4xh100", "moe", {**SPANS, "layers": (30, 32), "experts": (8, 16), "top_k": (2, 2)}, 0.05),
    ("2xh100", "moe", {**SPANS, "layers": (30, 32), "experts": (8, 16), "leading": (0, 1),
                       "top_k": (1, 2)}, 0.05),
    ("2xh100", "moe", {**SPANS, "layers": (31, 32), "experts": (16, 24), "shared": (0, 1),
                       "top_k": (1, 2)}, 0.05),
    ("1xmi300x", "moe", {**SPANS, "experts": (8, 24), "top_k": (1, 2)}, 0.05),
    ("1xh100", "dense", {"layers": (36, 44), "hidden": (5120, 5632)}, 0.1),
    ("2xh100", "dense", {"layers": (40, 48), "hidden": (5120, 5632)}, 0.05),
    ("2xa100-80gb", "dense", {"layers": (36, 48), "hidden": (5120, 5376)}, 0.1),
    ("4xh100", "dense", {"layers": (40, 44), "hidden": (5120, 5632)}, 0.03),
]  # fmt: skip


@pytest.mark.parametrize(
    "number", [8, *(pytest.param(n, marks=pytest.mark.slow) for n in range(12) if n != 8)]
)
def test_best_is_that_of_exhaustive_enumeration(number: int) -> None:
    cluster, family, spans, tpot = PROBLEMS[number]
    problem = task(cluster, family, spans, tpot)
    state, target = State(problem), Target(family, problem.limit)
    begin(state, target)
    improve(state, [target], lambda _: None)
    settle(state, [target], lambda _: None)
    assert state.best[target].throughput == pytest.approx(enumerated(problem, family), rel=1e-9)


def test_an_impossible_question_has_no_design_and_says_nothing_else() -> None:
    problem = task("1xh100", "dense", {}, tpot=1e-5)
    state, target = State(problem), Target("dense", problem.limit)
    begin(state, target, 32)
    assert target not in state.best


@pytest.mark.slow
def test_answers_follow_from_the_seed() -> None:
    question = ProposalQuestion(service("1xh200"), Wanted(MIXTRAL, 1e12), families=("dense",))
    first, again = propose(question), propose(question)
    assert [each.name for each in first.proposals] == [each.name for each in again.proposals]
    rows = [each.point.key for each in first.proposals]
    assert rows == [each.point.key for each in again.proposals]
    assert first.complete
    assert all(each.point.throughput > 0 for each in first.proposals)


def test_candidates_can_be_taken_one_by_one() -> None:
    every = coarse(every_layout(MIXTRAL, service("1xh200")), SEARCHED)
    assert len(take(every, slice(0, 2)).kind) == 2
