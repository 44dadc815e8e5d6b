"""Derivatives against central differences, and shadow prices against re-optimising with the limit
moved.
"""

from functools import cache

import equinox as eqx
import jax
import numpy as np
import pytest
from real_optimum import relaxed, relaxed_throughput

from qsopt import Deployment, Workload, load_cluster, load_efficiency, load_model
from qsopt.physics.parameters import compiled_parameter_count
from qsopt.slopes.inputs import Design, design_inputs
from qsopt.slopes.sensitivity import MEMORY, TPOT, Sensitivity, sensitivity
from qsopt.spec.service import Service

STEP = 1e-5

CASES = {
    "memory binds": (
        "deepseek-v3",
        "16xh200",
        {"data": 16, "expert": 16, "batch": 512, "dispatched": 1},
        0.4,
    ),
    "tpot binds": (
        "deepseek-v3",
        "16xh200",
        {"data": 16, "expert": 16, "batch": 512, "dispatched": 1},
        0.04,
    ),
    "no limit": ("mixtral-8x7b", "4xa100-80gb", {"tensor": 4, "batch": 64}, None),
    "dense": ("llama-3.1-70b", "8xh100", {"tensor": 8, "batch": 64}, None),
}


@cache
def design(case: str) -> Design:
    name, cluster, sizes, limit = CASES[case]
    workload = Workload(context=8192) if limit is None else Workload(context=8192, tpot_limit=limit)
    return Design(
        load_model(name),
        Service(load_cluster(cluster), workload, load_efficiency("fitted")),
        Deployment(**sizes),
    )


@cache
def found(case: str) -> Sensitivity:
    return sensitivity(design(case))


def throughput(moved: Design) -> float:
    return float(relaxed(moved).throughput)


@pytest.mark.parametrize("case", CASES)
def test_every_elasticity_is_the_central_difference(case):
    """At the design as it is, and where the batch follows the limit."""
    here = design(case)
    for each in design_inputs(here):
        up, down = (each.scale(here, np.exp(step)) for step in (STEP, -STEP))
        fixed = np.log(throughput(up) / throughput(down)) / (2 * STEP)
        assert found(case).fixed.elasticity[each.name] == pytest.approx(fixed, abs=1e-6), each.name
        following = np.log(relaxed_throughput(up) / relaxed_throughput(down)) / (2 * STEP)
        assert found(case).relaxed.elasticity[each.name] == pytest.approx(following, abs=1e-6), (
            each.name
        )


@pytest.mark.parametrize("case", CASES)
def test_gradient_is_elasticity_in_units(case):
    slopes = found(case).fixed
    values = {each.name: float(each.value(design(case))) for each in design_inputs(design(case))}
    for name, value in values.items():
        assert slopes.gradient[name] == pytest.approx(
            slopes.elasticity[name] * slopes.throughput / value
        )


@pytest.mark.parametrize(
    ("case", "binding"), [("memory binds", MEMORY), ("tpot binds", TPOT), ("no limit", MEMORY)]
)
def test_shadow_prices_are_what_a_moved_limit_brings(case, binding):
    """A limit moved by 1 %: within 2 % where it binds, and 0 where it does not."""
    result, here = found(case), design(case)
    assert result.binding == binding
    moved = {
        MEMORY: (lambda d: d.service.cluster.accelerator.memory_bytes, 1e9),
        TPOT: (lambda d: d.service.workload.tpot_limit, 1e-3),
        "bandwidth": (lambda d: d.service.cluster.accelerator.bandwidth, 1e9),
    }
    for price in result.shadow_prices:
        leaf, unit = moved[price.constraint]
        step = 0.01 * float(leaf(here))
        up, down = (
            eqx.tree_at(leaf, here, np.asarray(float(leaf(here)) + side * step)) for side in (1, -1)
        )
        brought = (relaxed_throughput(up) - relaxed_throughput(down)) / (2 * step / unit)
        assert price.multiplier == pytest.approx(brought, rel=0.02, abs=1e-9), price.constraint
        assert price.active == (price.multiplier > 0)


@pytest.mark.parametrize("name", ["s_at_fixed_total", "s_at_fixed_active"])
def test_share_moves_alone(name):
    """The elasticity in s is that of a step in top_k (or in experts, top_k giving way) which moves
    s and nothing else.
    """
    here = design("memory binds")
    by_name = {each.name: each for each in design_inputs(here)}

    def size(moved: Design):
        return compiled_parameter_count(moved.model)

    def at(step: float) -> Design:
        if name == "s_at_fixed_total":
            return by_name["top_k"].scale(here, np.exp(step))
        more = by_name["experts"].scale(here, np.exp(step))
        router = float(size(more).active - size(here).active)
        return by_name["top_k"].scale(more, 1.0 - router / float(size(here).routed_active))

    up, down = at(STEP), at(-STEP)
    kept = "total" if name == "s_at_fixed_total" else "active"
    assert float(getattr(size(up), kept)) == pytest.approx(
        float(getattr(size(down), kept)), rel=1e-9
    )
    share = np.log(
        float(size(up).active / size(up).total) / float(size(down).active / size(down).total)
    )
    slope = np.log(throughput(up) / throughput(down)) / share
    assert found("memory binds").fixed.elasticity[name] == pytest.approx(slope, rel=1e-4)


def test_weights_that_do_not_fit_leave_no_largest_batch():
    here = eqx.tree_at(
        lambda d: d.service.cluster.accelerator.memory_bytes, design("no limit"), np.asarray(1e9)
    )
    result = sensitivity(here)
    assert (result.relaxed, result.binding, result.shadow_prices) == (None, None, ())
    assert np.isfinite(result.fixed.throughput)


def test_one_compilation_for_designs_of_one_structure():
    from qsopt.slopes import sensitivity as module

    found("memory binds")
    before = module._outputs_and_slopes.count
    sensitivity(
        jax.tree.map(
            lambda leaf: leaf,
            eqx.tree_at(
                lambda d: d.service.workload.context, design("tpot binds"), np.asarray(3e4)
            ),
        )
    )
    assert module._outputs_and_slopes.count == before
