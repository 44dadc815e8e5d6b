"""Formulas by NumPy: the same numbers as by JAX, in float64, and nothing traced or compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import betainc

import qsopt
from qsopt import xp
from qsopt.deployments.batches import repeat, take
from qsopt.deployments.layouts import legal_layouts
from qsopt.deployments.once import best_of_one
from qsopt.deployments.optimum import best_of_each
from qsopt.physics.evaluate import compiled_metrics
from qsopt.physics.prefill import compiled_prefill
from qsopt.quality.student import cdf
from qsopt.serving.metrics import compiled_request_metrics
from qsopt.serving.plan import Plan
from qsopt.serving.replica import Served
from qsopt.spec.service import Service

ROUNDING = 4e-15
"""Relative: some thousand operations, whose logarithms and powers the two libraries round apart."""

DESIGNS = {
    "deepseek-v3": ("16xh200", qsopt.Deployment(tensor=4, data=4, expert=16, batch=64.0)),
    "mixtral-8x7b": ("8xh100", qsopt.Deployment(tensor=8, batch=32.0)),
    "llama-3.1-70b": ("2x8xh100", qsopt.Deployment(tensor=8, pipeline=2, batch=64.0)),
    "gpt-oss-120b": ("8xb200", qsopt.Deployment(tensor=4, expert=4, batch=128.0)),
    "qwen3-next-80b-a3b": ("8xh200", qsopt.Deployment(tensor=2, data=4, expert=8, batch=64.0)),
}


def asked(name: str, efficiency: str = "fitted", **workload: float):
    cluster, deployment = DESIGNS[name]
    work = qsopt.Workload(**(workload or {"context": 8192.0}))  # pyright: ignore[reportArgumentType]
    kernels = qsopt.load_efficiency(efficiency, cluster.rpartition("x")[2])
    service = Service(qsopt.load_cluster(cluster), work, kernels)
    return qsopt.load_model(name), service, deployment


def assert_same(found: object, compiled: object) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(compiled)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(compiled), strict=True):
        assert not isinstance(one, jax.Array)
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=ROUNDING, atol=0.0)


@pytest.mark.parametrize("efficiency", ["fitted", "ideal", "vllm"])
@pytest.mark.parametrize("name", DESIGNS)
def test_a_design_by_numpy_is_the_compiled_one(name: str, efficiency: str) -> None:
    design = asked(name, efficiency)
    assert_same(compiled_metrics(*design), compiled_metrics.jitted(*design))
    assert_same(compiled_prefill(*design), compiled_prefill.jitted(*design))


@pytest.mark.parametrize("way", ["mixed", "alternating", "disaggregated"])
def test_a_plan_by_numpy_is_the_compiled_one(way: str) -> None:
    model, service, deployment = asked("mixtral-8x7b", prompt=2048.0, answer=512.0)
    plan = Plan(deployment, deployment, np.float64(1024.0))
    question = Served(model, service), plan, way
    assert_same(compiled_request_metrics(*question), compiled_request_metrics.jitted(*question))


def test_numpy_compiles_nothing_and_works_in_float64() -> None:
    design = asked("mixtral-8x7b")
    before = compiled_metrics.count
    with jax.enable_x64(False):
        reached = compiled_metrics(*design)
    assert reached.throughput.dtype == np.float64
    assert compiled_metrics.count == before


def test_arrays_of_jax_that_are_not_traced_are_numbers_too() -> None:
    model, service, deployment = asked("mixtral-8x7b")
    of_jax = jax.tree.map(jnp.asarray, deployment)
    assert_same(
        compiled_metrics(model, service, of_jax), compiled_metrics(model, service, deployment)
    )


def test_a_trace_is_a_formula_of_jax() -> None:
    model, service, deployment = asked("mixtral-8x7b")

    def throughput(batch: jax.Array) -> jax.Array:
        at = qsopt.Deployment(deployment.tensor, batch=batch)
        return compiled_metrics(model, service, at).throughput

    value, slope = jax.value_and_grad(throughput)(jnp.asarray(32.0))
    near = [float(throughput(jnp.asarray(32.0 * (1.0 + step)))) for step in (-1e-6, 1e-6)]
    assert float(value) == pytest.approx(float(throughput(jnp.asarray(32.0))), rel=1e-12)
    assert float(slope) == pytest.approx((near[1] - near[0]) / 64e-6, rel=1e-5)


@pytest.mark.parametrize("limit", [10.0, 0.05])
@pytest.mark.parametrize("name", ["deepseek-v3", "mixtral-8x7b", "llama-3.1-70b"])
def test_the_best_of_few_layouts_is_that_of_the_compiled_search(name: str, limit: float) -> None:
    model, service, _ = asked(name, context=8192.0, tpot_limit=limit)
    layouts = legal_layouts(model, service.cluster, service.rules)
    found = best_of_one(model, service, layouts)
    compiled = take(best_of_each(repeat(model, 1), service, layouts), 0)
    np.testing.assert_allclose(found.throughput, compiled.throughput, rtol=ROUNDING)
    same = jax.tree.map(
        lambda one, other: bool(one == other), found.deployment, compiled.deployment
    )
    assert all(jax.tree.leaves(same))


def test_nothing_feasible_is_said_by_numpy_too() -> None:
    model, service, _ = asked("mixtral-8x7b", context=8192.0, tpot_limit=1e-6)
    layouts = legal_layouts(model, service.cluster, service.rules)
    assert not bool(best_of_one(model, service, layouts).feasible)


# ---- the functions -------------------------------------------------------------------------------


def test_the_largest_few_are_the_first_among_equals() -> None:
    values = np.array([1.0, 3.0, 3.0, -np.inf, 2.0])
    for found in (xp.top_k(values, 4), xp.top_k(jnp.asarray(values), 4)):
        assert [entry.tolist() for entry in found] == [[3.0, 3.0, 2.0, 1.0], [1, 2, 4, 0]]


def test_rows_behind_the_end_are_not_written() -> None:
    table, rows = np.zeros((3, 2)), np.array([[1.0, 2.0], [3.0, 4.0]])
    places = np.array([1, 3])
    for given in (table, jnp.asarray(table)):
        assert xp.with_rows(given, places, rows).tolist() == [[0, 0], [1, 2], [0, 0]]
    assert not table.any()


def test_loops_are_those_of_jax() -> None:
    for start in (np.float64(1.0), jnp.asarray(1.0)):
        assert float(xp.fori_loop(0, 5, lambda index, x: x + index, start)) == 11.0
        assert float(xp.while_loop(lambda x: x < 50.0, lambda x: 2.0 * x, start)) == 64.0


@pytest.mark.parametrize("dof", [1.0, 4.0, 11.0, 60.0])
def test_student_s_distribution_is_the_incomplete_beta_function(dof: float) -> None:
    for x in (-30.0, -2.0, -0.1, 0.0, 0.5, 4.0):
        tail = 0.5 * float(betainc(0.5 * dof, 0.5, dof / (dof + x * x)))
        exact = tail if x < 0 else 1.0 - tail
        assert float(cdf(np.float64(x), np.float64(dof))) == pytest.approx(exact, rel=1e-10)
    slope = jax.grad(cdf)(jnp.asarray(0.7), jnp.asarray(dof))
    assert float(slope) == pytest.approx(float(jax.scipy.stats.t.pdf(0.7, dof)), rel=1e-8)
