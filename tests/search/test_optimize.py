"""The search against brute force, its constraints, its certificate, and problems without an
answer.
"""

import itertools
import subprocess
import sys
from dataclasses import replace
from functools import cache
from threading import Event

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from search_problems import MODEL, problem

import qsopt
from qsopt import Cluster, InputError, ideal, load_cluster, load_model
from qsopt.deployments.layouts import legal_layouts
from qsopt.deployments.request import best_batch
from qsopt.physics.parameters import compiled_parameter_count
from qsopt.quality import law
from qsopt.quality.of_model import architecture
from qsopt.search import gradient
from qsopt.search.architecture import reference_value, with_architecture
from qsopt.search.certificate import enumerate_whole
from qsopt.search.evaluator import Evaluator
from qsopt.search.optimize import Solution, optimize, search_relaxed
from qsopt.search.problem import DesignProblem
from qsopt.search.variables import Variable, neighbours
from qsopt.spec.service import Service

PROBLEMS = {
    "memory": problem(),
    "tpot": problem(tpot=0.02),
    "cost": problem(objective="cost"),
    "per user": problem(
        objective="per_user", vary=("experts", "batch"), fixed={"tp": 2, "dp": 2, "ep": 4}
    ),
    "deployment only": problem(vary=("tp", "dp", "ep"), fixed={"batch": 24}),
}


@cache
def found(name: str) -> Solution:
    return optimize(PROBLEMS[name])


def models(asked: DesignProblem) -> list:
    """All models of the grid as good as the reference, counted independently."""
    grids = [each.legal() for each in asked.architecture]
    names = [each.name for each in asked.architecture]
    least = law("geometric").dense_parameters(architecture(asked.reference))
    rows = [
        dict(zip(names, map(np.asarray, values), strict=True))
        for values in itertools.product(*grids)
    ]
    built = [
        with_architecture(asked.reference, row)
        for row in rows
        if row.get("top_k", 1) <= row.get("experts", 8)
    ]
    return [
        model
        for model in built
        if law("geometric").dense_parameters(architecture(model)) >= least * (1 - 1e-9)
    ]


@pytest.mark.parametrize("name", [pytest.param("memory", marks=pytest.mark.slow), "tpot"])
def test_answer_is_that_of_brute_force(name):
    """Every admissible model in every legal layout at its largest batch."""
    asked = PROBLEMS[name]
    reached = [
        float(
            best_batch(model, asked.service, legal_layouts(model, asked.service.cluster)).throughput
        )
        for model in models(asked)
    ]
    assert found(name).value == pytest.approx(max(reached), rel=1e-9)
    assert found(name).certificate.exact_optimum == pytest.approx(max(reached), rel=1e-9)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("memory", "tpot") else pytest.mark.slow)
        for name in PROBLEMS
    ],
)
def test_answer_keeps_every_constraint_and_the_certificate_holds(name):
    asked, answer = PROBLEMS[name], found(name)
    best, held = answer.best, answer.certificate
    assert bool(best.metrics.feasible)
    for each in asked.variables:
        value = best.architecture.get(each.name)
        assert value is None or value in each.legal()
    least = law("geometric").dense_parameters(architecture(asked.reference))
    assert float(law("geometric").dense_parameters(architecture(best.model))) >= float(least) * (
        1 - 1e-9
    )
    layout = best.deployment
    legal = legal_layouts(best.model, asked.service.cluster)
    fields = ("tensor", "data", "pipeline", "expert", "dispatched")
    same = [np.asarray(getattr(legal, field)) == float(getattr(layout, field)) for field in fields]
    assert np.all(same, axis=0).any()
    assert float(layout.batch) % float(layout.pipeline * layout.data) == 0
    assert held.complete
    assert 0 <= held.gap < 0.01
    assert held.enumerated > 0


@pytest.mark.slow
def test_fixed_variables_stay():
    layout = found("per user").best.deployment
    assert [
        float(size) for size in (layout.tensor, layout.data, layout.pipeline, layout.expert)
    ] == [2, 2, 1, 4]
    assert float(layout.batch) == 2
    layout = found("deployment only").best.deployment
    assert (float(layout.batch), float(layout.pipeline)) == (24, 1)
    assert found("deployment only").best.architecture == {}


def test_the_best_of_the_whole_grid_is_told_before_the_rest():
    """By name of what is told, and only where a certificate is wanted."""
    told = []
    answer = optimize(PROBLEMS["memory"], found=lambda *best: told.append(best))
    ((design, value, count),) = told
    assert design.architecture == answer.best.architecture
    assert value == pytest.approx(answer.certificate.exact_optimum, rel=1e-12)
    assert count == answer.certificate.enumerated
    optimize(PROBLEMS["memory"], certify=0, found=lambda *best: told.append(best))
    assert len(told) == 1


def test_a_grid_that_is_stopped_is_no_certificate():
    evaluator, stop = Evaluator.for_problem(PROBLEMS["memory"]), Event()
    assert enumerate_whole(evaluator, 1.0, stop) is None  # too large
    stop.set()
    assert enumerate_whole(evaluator, 1e7, stop) is None


def test_objectives_count_what_they_say():
    assert found("memory").value == pytest.approx(float(found("memory").best.metrics.throughput))
    assert found("per user").value == pytest.approx(1 / float(found("per user").best.metrics.tpot))
    assert found("per user").value > 1 / float(found("memory").best.metrics.tpot)
    price = float(PROBLEMS["cost"].service.cluster.accelerator.price_per_hour)
    assert found("cost").value == pytest.approx(
        price / 3600 / float(found("cost").best.metrics.per_device) * 1e6
    )


@pytest.mark.parametrize("name", ["memory", "tpot", "per user"])
def test_relaxed_optimum_is_near_and_above(name):
    """Above by what whole architectures and batches cost; with parallel sizes real too the
    smoothing may hide that.
    """
    answer, exact = found(name), found(name).certificate.exact_optimum
    assert exact * (1 - 1e-9) <= answer.relaxed_value <= exact * 1.15
    assert answer.all_real_value == pytest.approx(exact, rel=0.15)


def test_same_seed_same_answer():
    first, second = (optimize(PROBLEMS["memory"], seed=3, certify=0) for _ in range(2))
    assert (first.value, first.relaxed_value, first.best.architecture) == (
        second.value,
        second.relaxed_value,
        second.best.architecture,
    )
    assert first.certificate is None


def test_not_a_number_never_wins():
    evaluator = Evaluator.for_problem(PROBLEMS["memory"])
    _, relaxed = search_relaxed(evaluator, 0, 64)
    points, ways = gradient.spread(64, len(relaxed.names), 0)
    points[::3] = np.nan
    ends = gradient.descend(relaxed, jnp.asarray(points), jnp.asarray(ways))
    assert not np.isnan(np.asarray(ends.costs)).any()
    assert np.isfinite(np.asarray(ends.points)[ends.best_index]).all()


def test_one_compilation_for_problems_of_one_shape():
    optimize(PROBLEMS["memory"], certify=0)
    before = gradient.descend.count
    optimize(problem(context=1000.0), certify=0)
    assert gradient.descend.count == before  # pyright: ignore


def test_public_names_are_those_of_the_search_and_cost_nothing_until_asked_for():
    assert (qsopt.Solution, qsopt.DesignProblem) == (Solution, DesignProblem)
    code = (
        "import qsopt, sys; assert 'optax' not in sys.modules; qsopt.optimize; assert 'optax' "
        "in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    with pytest.raises(AttributeError, match="beauty"):
        qsopt.beauty  # noqa: B018


# ---- no answer -----------------------------------------------------------------------------------


def test_time_limit_that_none_meets_is_named():
    answer = optimize(problem(tpot=1e-4))
    assert answer.best is None
    (only,) = answer.conflicts
    assert (only.constraint, only.limit, only.alone) == ("tpot", 1e-4, True)
    assert only.value > 1e-4


def test_memory_that_none_fits_is_named():
    small = eqx.tree_at(
        lambda c: c.accelerator.memory_bytes, load_cluster("4xh100"), np.asarray(4e9)
    )
    asked = problem()
    answer = optimize(
        replace(
            asked, service=Service(Cluster(small.accelerator, 4), asked.service.workload, ideal())
        )
    )
    named = {conflict.constraint: conflict for conflict in answer.conflicts}
    assert named["memory"].value > named["memory"].limit
    assert named["memory"].alone


def test_ceiling_against_quality_is_named():
    count = compiled_parameter_count(load_model(MODEL))
    answer = optimize(problem(most_total=0.2 * float(count.total)))
    named = {conflict.constraint: conflict for conflict in answer.conflicts}
    assert set(named) == {"quality", "total_parameters"}
    assert named["quality"].value < named["quality"].limit
    assert named["total_parameters"].value > named["total_parameters"].limit


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"vary": ("experts", "colour")}, "colour"),
        ({"objective": "beauty"}, "take one of"),
        ({"objective": "advantage", "vary": ("layers", "batch"), "bounds": {}}, "layers"),
        ({"minimize": True}, "advantage"),
    ],
)
def test_bad_questions_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        problem(**options)


# ---- variables -----------------------------------------------------------------------------------


def test_legal_values_by_kind():
    assert list(Variable("x", 3, 11).legal()) == [3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert list(Variable("x", 100, 400, step=128).legal()) == [128, 256, 384]
    assert list(Variable("x", 3, 32, "power_of_two").legal()) == [4, 8, 16, 32]
    assert list(Variable("x", 2, 12, "divisor", 12).legal()) == [2, 3, 4, 6, 12]
    assert list(Variable("x", 7, 9, free=False).legal()) == [7]
    assert list(neighbours(np.array([1.0, 2.0, 4.0, 8.0]), 3.0, 1)) == [2, 4]
    with pytest.raises(InputError, match="bounds"):
        Variable("x", 5, 2)
    with pytest.raises(InputError, match="no legal value"):
        Variable("x", 129, 200, step=128)


@pytest.mark.parametrize(
    "name", ["experts", "top_k", "expert_width", "hidden", "layers", "kv_heads"]
)
def test_architecture_at_its_own_value_is_the_reference(name):
    reference = load_model(MODEL)
    same = with_architecture(reference, {name: np.asarray(reference_value(reference, name))})
    assert all(map(np.array_equal, jax.tree.leaves(same), jax.tree.leaves(reference)))


def test_layers_move_all_kinds_in_proportion():
    reference = load_model("deepseek-v3")
    count = compiled_parameter_count
    deeper = with_architecture(reference, {"layers": np.asarray(2 * float(reference.layers))})
    assert float(count(deeper).routed) == pytest.approx(2 * float(count(reference).routed))
    assert float(count(deeper).dense) == pytest.approx(2 * float(count(reference).dense))
