"""The roofline of the whole cluster as one device, and what it says of who wins."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qsopt
from qsopt.comparison.merged import (
    MergedRoofline,
    criteria,
    merged,
    merged_roofline,
    merged_rooflines,
)
from qsopt.comparison.twin import aligned, dense_twin, qs_numbers
from qsopt.deployments.capped import NO_CAP, ServedModel, optima
from qsopt.spec.service import Service

Q = 1.9
roofline_of = jax.jit(merged_roofline)


@pytest.fixture(scope="module")
def mixtral() -> qsopt.Model:
    return qsopt.load_model("mixtral-8x7b")


def case(model: qsopt.Model, cluster: str, context: float, cap: float = NO_CAP) -> ServedModel:
    service = Service(qsopt.load_cluster(cluster), qsopt.Workload(context), qsopt.ideal())
    return ServedModel(model, service, cap)


def test_merging_takes_all_memory_bandwidth_and_arithmetic() -> None:
    cluster = qsopt.load_cluster("8xh100")
    whole = merged(cluster)
    assert float(whole.devices) == 1.0
    for name in ("memory_bytes", "bandwidth", "peak_flops"):
        expected = 8.0 * np.asarray(getattr(cluster.accelerator, name))
        np.testing.assert_allclose(np.asarray(getattr(whole.accelerator, name)), expected)


def test_one_device_merged_is_its_own_optimum(mixtral: qsopt.Model) -> None:
    one = case(aligned(mixtral, mixtral), "1xmi300x", 4096.0)
    (roofline,), (optimum,) = merged_rooflines([one]), optima([one], mixtral)
    assert float(roofline.throughput) == pytest.approx(float(optimum.best.throughput), rel=1e-9)


def test_merging_is_never_slower_than_the_cluster(mixtral: qsopt.Model) -> None:
    """Nothing is sent, nothing is kept twice, and no device waits for another."""
    cases = [case(aligned(mixtral, mixtral), name, 8192.0) for name in ("2xh100", "8xh100")]
    for roofline, optimum in zip(merged_rooflines(cases), optima(cases, mixtral), strict=True):
        assert float(roofline.throughput) >= float(optimum.best.throughput)


def test_the_ratio_of_bytes_tends_to_the_reciprocal_of_qs(mixtral: qsopt.Model) -> None:
    """Every expert hit, equal sequences and hardly any cache: the criterion of the paper."""
    sides = (mixtral, dense_twin(mixtral, Q))
    moe, dense = merged_rooflines(
        [case(aligned(side, mixtral), "8xmi300x", 0.0, cap=4096.0) for side in sides]
    )
    assert float(moe.experts_hit) == pytest.approx(1.0)
    activations = 0.15  # they are read too, and do not follow the weights
    expected = 1.0 / float(qs_numbers(mixtral, jnp.asarray(Q)).qs)
    assert 1.0 < float(criteria(moe, dense).bytes_per_token) <= expected * (1.0 + activations)


def test_shares_are_those_of_the_step(mixtral: qsopt.Model) -> None:
    """By hand: one sequence hits the experts of one token, and its weights are those of the model
    over the memory of two devices.
    """
    one = roofline_of(case(mixtral, "2xh100", 1024.0, cap=1.0))
    assert float(one.experts_hit) == pytest.approx(2.0 / 8.0)
    accelerator = qsopt.load_cluster("2xh100").accelerator
    parameters = float(qsopt.parameter_count(mixtral).total)
    usable = 2.0 * float(accelerator.memory_bytes) * float(qsopt.Workload(1024.0).utilization)
    assert float(one.weights) == pytest.approx(2.0 * parameters / usable, rel=0.02)
    assert float(one.compute_over_memory) < 0.02
    long = roofline_of(case(mixtral, "2xh100", 131072.0, cap=1.0))
    assert 0.0 < float(one.attention) < float(long.attention) < 1.0


def test_criteria_where_a_side_does_not_fit() -> None:
    fits, not_ = (
        MergedRoofline(*(np.asarray(value) for value in (rate, 2.0, 1.0, 0.1, 0.5, 0.3)))
        for rate in (3.0, 0.0)
    )
    assert float(criteria(fits, fits).throughput) == 1.0
    assert float(criteria(fits, not_).throughput) == 0.0
    assert float(criteria(not_, fits).throughput) == np.inf
    assert np.isnan(float(criteria(not_, not_).throughput))
    assert float(criteria(not_, fits).bytes_per_token) == 1.0


def test_many_cases_are_one_after_the_other(mixtral: qsopt.Model) -> None:
    whole = aligned(mixtral, mixtral)
    cases = [case(whole, "4xh100", 512.0 * number) for number in range(1, 10)]  # more than a call
    for one, roofline in zip(cases, merged_rooflines(cases), strict=True):
        expected = roofline_of(one)
        assert float(roofline.throughput) == pytest.approx(float(expected.throughput), rel=1e-12)


def test_the_ratio_has_a_derivative_where_both_sides_fit(mixtral: qsopt.Model) -> None:
    """In the bandwidth, which does not move the batch, against a difference: at many sequences
    arithmetic binds the dense side more than the MoE.
    """
    sides = [aligned(side, mixtral) for side in (mixtral, dense_twin(mixtral, Q))]
    service = case(mixtral, "4xh100", 1024.0).service

    @jax.jit
    @jax.value_and_grad
    def log_ratio(scale: jax.Array) -> jax.Array:
        faster = eqx.tree_at(
            lambda s: s.cluster.accelerator.bandwidth, service, replace_fn=lambda b: b * scale
        )
        moe, dense = (merged_roofline(ServedModel(side, faster)) for side in sides)
        return jnp.log(criteria(moe, dense).throughput)

    step = 1e-5
    low, here, high = (log_ratio(jnp.asarray(1.0 + shift)) for shift in (-step, 0.0, step))
    difference = float(high[0] - low[0]) / (2.0 * step)
    assert abs(difference) > 1e-3
    assert float(here[1]) == pytest.approx(difference, rel=1e-4)
