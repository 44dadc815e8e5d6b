"""Optima of many served models: those of the single search, in any chunks, under any cap."""

import jax
import numpy as np
import pytest

import qsopt
from qsopt.comparison.twin import aligned
from qsopt.deployments import capped
from qsopt.deployments.capped import NO_CAP, Optimum, ServedModel, best_throughputs, optima
from qsopt.deployments.layouts import legal_layouts
from qsopt.deployments.request import best_batch
from qsopt.spec.service import Service

CLUSTERS = ("1xh100", "2xh100", "4xh100", "4xmi300x")
"""The first is too small; two differ in all but their size."""


@pytest.fixture(scope="module")
def mixtral() -> qsopt.Model:
    return qsopt.load_model("mixtral-8x7b")


def cases(model: qsopt.Model, cap: float = NO_CAP) -> list[ServedModel]:
    workload, kernels = qsopt.Workload(4096.0), qsopt.load_efficiency("fitted")
    whole = aligned(model, model)
    return [
        ServedModel(whole, Service(qsopt.load_cluster(name), workload, kernels), cap)
        for name in CLUSTERS
    ]


@pytest.fixture(scope="module")
def found(mixtral: qsopt.Model) -> list[Optimum]:
    return optima(cases(mixtral), mixtral)


def test_optima_are_those_of_the_single_search(mixtral: qsopt.Model, found: list[Optimum]) -> None:
    assert [bool(optimum.best.feasible) for optimum in found] == [False, True, True, True]
    for case, optimum in zip(cases(mixtral), found, strict=True):
        expected = best_batch(mixtral, case.service, legal_layouts(mixtral, case.service.cluster))
        assert float(optimum.best.throughput) == pytest.approx(float(expected.throughput), rel=1e-9)


def test_the_metrics_are_those_of_the_best_deployment(
    mixtral: qsopt.Model, found: list[Optimum]
) -> None:
    for case, optimum in zip(cases(mixtral)[1:], found[1:], strict=True):
        service = case.service
        expected = qsopt.evaluate(
            mixtral, service.cluster, service.workload, optimum.best.deployment, service.efficiency
        )
        assert float(optimum.metrics.throughput) == pytest.approx(float(expected.throughput))
        assert float(optimum.metrics.throughput) == pytest.approx(float(optimum.best.throughput))
        sequences = optimum.best.deployment.batch * expected.replicas
        assert float(optimum.sequences) == pytest.approx(float(sequences))


def test_what_does_not_fit_decodes_no_sequence(found: list[Optimum]) -> None:
    assert float(found[0].sequences) == float(found[0].best.throughput) == 0.0
    assert float(found[0].metrics.memory.total) > float(found[0].metrics.memory.capacity)


def test_chunks_and_order_of_the_cases_do_not_matter(
    mixtral: qsopt.Model, found: list[Optimum], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capped, "LAYOUTS", 8)  # four chunks on four devices
    assert len(legal_layouts(mixtral, cases(mixtral)[2].service.cluster).tensor) > 24
    again = optima(cases(mixtral)[::-1], mixtral)[::-1]
    for one, other in zip(found, again, strict=True):
        for leaf, same in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(leaf, same, rtol=1e-12)


def test_a_cap_on_sequences_is_kept_and_costs_throughput(
    mixtral: qsopt.Model, found: list[Optimum]
) -> None:
    few = optima(cases(mixtral, cap=8.0), mixtral)
    assert all(0.0 < float(optimum.sequences) <= 8.0 for optimum in few[1:])
    for free, limited in zip(found[1:], few[1:], strict=True):
        assert float(limited.best.throughput) < float(free.best.throughput)


def test_optima_agree_with_the_throughputs_of_a_batch(
    mixtral: qsopt.Model, found: list[Optimum]
) -> None:
    same_size = cases(mixtral, cap=32.0)[2:]
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), *same_size)
    layouts = legal_layouts(mixtral, same_size[0].service.cluster)
    expected = best_throughputs(batch, layouts)
    few = optima(same_size, mixtral)
    assert [float(one.best.throughput) for one in few] == pytest.approx(expected, rel=1e-9)
