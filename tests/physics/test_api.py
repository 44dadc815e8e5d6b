"""The public functions inside a user's own jit, grad and vmap."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from physics_designs import GQA, MOE, build, h100, resized

from qsopt import (
    Comparison,
    Deployment,
    InputError,
    Workload,
    compare,
    dense_twin,
    evaluate,
    geometric_q,
    kv_bytes_per_token,
    load_cluster,
    load_model,
    parameter_count,
)
from qsopt.spec.layers import Layers

MODEL = load_model("mixtral-8x7b")
SMALL = build((Layers(12, GQA),), (Layers(12, MOE),))
CLUSTER = load_cluster("4xh100")
FEW = resized(h100(2), memory_bytes=4e9)


def throughput(context: jax.Array, batch: jax.Array) -> jax.Array:
    return evaluate(
        MODEL, CLUSTER, Workload(context), Deployment(tensor=4, batch=batch), "fitted"
    ).throughput


def test_evaluate_inside_jit_and_vmap_gives_what_it_gives_outside() -> None:
    contexts, batches = jnp.asarray([100.0, 8192.0, 32768.0]), jnp.asarray([1.0, 8.0, 64.0])
    outside = [float(throughput(*pair)) for pair in zip(contexts, batches, strict=True)]
    np.testing.assert_allclose(
        [jax.jit(throughput)(*pair) for pair in zip(contexts, batches, strict=True)],
        outside,
        rtol=1e-13,
    )
    np.testing.assert_allclose(jax.vmap(throughput)(contexts, batches), outside, rtol=1e-13)


def test_gradient_of_evaluate_agrees_with_differences() -> None:
    at = (jnp.asarray(8192.0), jnp.asarray(16.0))
    slopes = jax.jit(jax.grad(throughput, argnums=(0, 1)))(*at)
    for index, slope in enumerate(slopes):
        step = [1e-3 * (index == position) for position in range(2)]
        up, down = (
            throughput(*(x + sign * s for x, s in zip(at, step, strict=True))) for sign in (1, -1)
        )
        assert float(slope) == pytest.approx(float(up - down) / 2e-3, rel=1e-6)


def experts_changed(experts: jax.Array):
    return eqx.tree_at(lambda m: m.decoder.ffn[0].kind.experts, MODEL, experts)


def test_parameter_count_is_a_function_of_numbers() -> None:
    """One more expert of Mixtral is 32 layers of 3 * 4096 * 14336 and a column of each router."""

    def total(experts: jax.Array) -> jax.Array:
        return parameter_count(experts_changed(experts)).total

    more = 32 * (3 * 4096 * 14336 + 4096)
    assert float(jax.jit(jax.grad(total))(jnp.asarray(8.0))) == more
    found = jax.vmap(total)(jnp.asarray([8.0, 16.0]))
    assert float(found[1] - found[0]) == 8 * more
    assert float(found[0]) == float(parameter_count(MODEL).total) == 46_702_792_704
    assert float(jax.jit(kv_bytes_per_token)(MODEL)) == 32 * 2 * 8 * 128 * 2


def test_geometric_q_and_the_relaxed_twin_trace() -> None:
    def size(experts: jax.Array) -> jax.Array:
        model = experts_changed(experts)
        return parameter_count(dense_twin(model, geometric_q(model), exact=False)).total

    count = parameter_count(MODEL)
    assert float(jax.jit(size)(jnp.asarray(8.0))) == pytest.approx(
        float(count.total * count.active) ** 0.5, rel=1e-12
    )
    step = 1e-4
    slope = (size(jnp.asarray(8.0 + step)) - size(jnp.asarray(8.0 - step))) / (2 * step)
    assert float(jax.grad(size)(jnp.asarray(8.0))) == pytest.approx(float(slope), rel=1e-6)


def log_ratio(log_context: jax.Array, log_bandwidth: jax.Array) -> jax.Array:
    cluster = eqx.tree_at(
        lambda c: c.accelerator.bandwidth, FEW, FEW.accelerator.bandwidth * jnp.exp(log_bandwidth)
    )
    return jnp.log(compare(SMALL, cluster, Workload(4000.0 * jnp.exp(log_context)), "ideal").ratio)


def differences() -> list[float]:
    step = 1e-6
    bandwidth = [jnp.log(ratio_at(0.0, step * sign)) for sign in (1, -1)]
    context = [jnp.log(ratio_in_memory(step * sign)) for sign in (1, -1)]
    return [float(up - down) / (2 * step) for up, down in (context, bandwidth)]


def ratio_in_memory(log_context: float) -> jax.Array:
    """Of both sides as they are deployed, with as many real sequences as take the same memory."""
    result = compare(SMALL, FEW, Workload(4000.0), "ideal")
    assert isinstance(result, Comparison)
    workload = Workload(4000.0 * np.exp(log_context))
    throughputs = []
    for side in (result.moe, result.dense):
        there = evaluate(side.model, FEW, workload, side.deployment, "ideal").memory
        grown = (there.kv_cache + there.activations) / (
            side.metrics.memory.kv_cache + side.metrics.memory.activations
        )
        filled = eqx.tree_at(lambda d: d.batch, side.deployment, side.deployment.batch / grown)
        throughputs.append(evaluate(side.model, FEW, workload, filled, "ideal").throughput)
    return throughputs[1] / throughputs[0]


def ratio_at(log_context: float, log_bandwidth: float) -> jax.Array:
    return jnp.exp(log_ratio(jnp.asarray(log_context), jnp.asarray(log_bandwidth)))


def test_gradient_of_a_comparison_agrees_with_differences() -> None:
    """The best layouts stay the same beside this point; the real batch follows the memory that it
    fills, which bandwidth does not move.
    """
    slopes, numeric = (
        jax.grad(log_ratio, argnums=(0, 1))(jnp.zeros(()), jnp.zeros(())),
        differences(),
    )
    np.testing.assert_allclose(np.asarray(slopes), numeric, rtol=1e-5, atol=1e-8)
    assert abs(numeric[0]) > 1e-3


@pytest.mark.slow
def test_compare_over_contexts_in_one_vmap() -> None:
    factors = (0.25, 1.0, 4.0)
    batched = jax.vmap(log_ratio, in_axes=(0, None))(jnp.log(jnp.asarray(factors)), jnp.zeros(()))
    single = [
        float(jnp.log(compare(SMALL, FEW, Workload(4000.0 * x), "ideal").ratio)) for x in factors
    ]
    np.testing.assert_allclose(batched, single, rtol=1e-10, atol=1e-12)


def test_compare_inside_jit_gives_what_it_gives_outside() -> None:
    """The twin stays concrete inside a jit, so that its legal layouts can be listed."""
    inside = jax.jit(log_ratio)(jnp.zeros(()), jnp.zeros(()))
    assert float(inside) == pytest.approx(float(log_ratio(jnp.zeros(()), jnp.zeros(()))), abs=1e-12)


@pytest.mark.slow
def test_compare_with_a_written_q_inside_jit() -> None:
    """A written q makes a concrete twin inside a jit too."""
    outside = float(compare(SMALL, FEW, Workload(4000.0), "ideal", q=2.0).ratio)
    inside = jax.jit(lambda context: compare(SMALL, FEW, Workload(context), "ideal", q=2.0).ratio)
    assert float(inside(jnp.asarray(4000.0))) == pytest.approx(outside, rel=1e-12)


def test_a_traced_model_is_refused_by_compare_with_the_remedy() -> None:
    def ratio(experts: jax.Array) -> jax.Array:
        return compare(experts_changed(experts), CLUSTER, Workload(100.0), "ideal").ratio

    with pytest.raises(InputError, match="close over"):
        jax.jit(ratio)(jnp.asarray(8.0))


def test_a_dense_model_is_refused_by_compare() -> None:
    with pytest.raises(InputError, match="Mixture-of-Experts"):
        compare(load_model("llama-3.1-8b"), CLUSTER, Workload(100.0))


def test_designs_outside_their_domain_are_refused_with_what_and_why() -> None:
    for build_it, words in (
        (lambda: Deployment(tensor=0), "tensor = 0"),
        (lambda: Deployment(batch=float("nan")), "batch = nan"),
        (lambda: Workload(-1.0), "context = -1"),
        (lambda: Workload(1.0, utilization=1.5), "utilization = 1.5"),
        (lambda: dense_twin(MODEL, 0.01), "q = 0.01"),
    ):
        with pytest.raises(InputError, match=words):
            build_it()
