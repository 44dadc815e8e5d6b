"""Numbers are traced and names are static: designs of one structure share one compilation, counted
by side effect.
"""

import equinox as eqx
import jax
import numpy as np
import pytest
from physics_designs import structure

from qsopt import (
    Deployment,
    Model,
    Workload,
    compare,
    dense_twin,
    evaluate,
    load_cluster,
    load_efficiency,
    load_model,
    number_format,
)
from qsopt.comparison.dense import RELEASED, dense_match
from qsopt.comparison.duel import dense_optima, moe_optima
from qsopt.comparison.twin import aligned
from qsopt.deployments import layouts
from qsopt.physics.evaluate import compiled_metrics, metrics
from qsopt.programs import Program
from qsopt.spec.service import Service

MIXTRAL = "mixtral-8x7b"


@pytest.fixture
def counted():
    """A compiled `metrics` and the list of its traces."""
    traces = []

    def recorded(*design):
        traces.append(None)
        return metrics(*design).throughput

    return jax.jit(recorded), traces


def in_format(model, name: str):
    form = number_format(name)
    return eqx.tree_at(
        lambda m: (m.precision.experts, m.precision.attention, m.precision.kv_cache),
        model,
        (form, form, form),
    )


def design(
    model: str | Model = MIXTRAL,
    cluster: str = "8xh100",
    context: float = 8192,
    efficiency: str = "ideal",
    **sizes,
):
    model = load_model(model) if isinstance(model, str) else model
    return (
        model,
        Service(load_cluster(cluster), Workload(context), load_efficiency(efficiency)),
        Deployment(**sizes),
    )


def test_models_clusters_formats_and_sets_share_one_trace(counted) -> None:
    function, traces = counted
    found = {
        float(function(*case))
        for case in (
            design(),
            design("mixtral-8x22b"),
            design(cluster="16xh200"),
            design(cluster="4xb200"),
            design(cluster="2xmi300x"),
            design(in_format(load_model(MIXTRAL), "fp8")),
            design(in_format(load_model(MIXTRAL), "int4")),
            design(efficiency="fitted"),
            design(context=1e5),
            design(batch=64, tensor=4, data=2, expert=8, dispatched=1),
            design(batch=np.float32(32), tensor=np.int64(2)),
            design("phi-3.5-moe"),
        )
    }
    assert len(traces) == 1
    assert len(found) == 12


def test_an_moe_and_its_aligned_twin_share_one_trace(counted) -> None:
    function, traces = counted
    for model in (load_model(MIXTRAL), structure("gqa")):
        for side in (model, dense_twin(model, 2.0), dense_twin(model, 1.7, exact=False)):
            function(*design(aligned(side, model)))
    assert len(traces) == 1


@pytest.mark.parametrize("name", ["mla", "encoder-decoder"])
def test_alignment_changes_structure_and_no_number(name: str) -> None:
    model = structure(name)
    for side in (model, dense_twin(model, 2.0)):
        for efficiency in ("ideal", "fitted"):
            case = Deployment(tensor=2, data=2, pipeline=2, batch=32)
            found, expected = (
                evaluate(m, load_cluster("8xh100"), Workload(8192), case, efficiency)
                for m in (aligned(side, model), side)
            )
            # reuse and experts hit name the first routed layer, which a padded dense model has at a
            # count of zero
            kept = [
                eqx.tree_at(lambda m: (m.reuse, m.experts_hit), m, (0.0, 0.0))
                for m in (found, expected)
            ]
            for one, other in zip(*map(jax.tree.leaves, kept), strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-13)


def cache_size(compiled: Program) -> int:
    """Programs that a compiled function holds."""
    return compiled.count


def test_evaluate_compiles_once() -> None:
    before = cache_size(compiled_metrics)
    for context, batch in ((1000, 1), (2000.5, 2), (np.float32(7), np.int32(4))):
        evaluate(
            load_model(MIXTRAL),
            load_cluster("8xh100"),
            Workload(context),
            Deployment(batch=batch),
            "fitted",
        )
        evaluate(
            load_model("mixtral-8x22b"),
            load_cluster("2xh200"),
            Workload(context),
            Deployment(batch=batch),
            "ideal",
        )
    assert cache_size(compiled_metrics) <= before + 1


def test_comparisons_of_one_size_compile_nothing_new() -> None:
    """A second comparison with other numbers, another limit, formats, law and accelerator runs what
    the first compiled. The first lists its layouts anew: lists outlive the programs that made them.
    """
    layouts._listed.cache_clear()
    compare(load_model(MIXTRAL), load_cluster("2xh200"), Workload(8192), "ideal")
    with jax.log_compiles(False):
        misses = count_compilations(
            lambda: compare(
                in_format(load_model("mixtral-8x22b"), "fp8"),
                load_cluster("2xmi300x"),
                Workload(2000, tpot_limit=0.1),
                "fitted",
            )
        )
    assert misses == 0


def count_compilations(run) -> int:
    """Programs that XLA compiles while `run` runs."""
    seen = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        run()
    finally:
        jax.monitoring.clear_event_listeners()
    return len(seen)


def test_the_count_of_compilations_counts() -> None:
    assert count_compilations(lambda: jax.jit(lambda x: x * 3.0 + 1.0)(np.arange(5.0))) >= 1


def test_a_duel_of_other_models_compiles_nothing_new() -> None:
    service = Service(load_cluster("2xh200"), Workload(8192), load_efficiency("ideal"))
    for first in (True, False):
        model = load_model(MIXTRAL if first else "mixtral-8x22b")
        q = np.asarray(2.0 if first else 3.0)

        def duel(model=model, q=q) -> None:
            moe_optima(model, service)
            dense_optima(model, service, q, RELEASED, dense_match(model, q, RELEASED))

        misses = count_compilations(duel)
    assert misses == 0
