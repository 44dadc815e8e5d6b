"""The exact search against brute force: every legal layout, enumerated independently, at every
whole batch that fits.
"""

import itertools
import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from physics_designs import GQA, MOE, build, efficiency, h100, resized

from qsopt import (
    Deployment,
    InputError,
    Workload,
    compare,
    dense_twin,
    load_cluster,
    load_model,
)
from qsopt.comparison.compare import Comparison, verdict
from qsopt.comparison.penalties import MOE_CAUSES, WORLDS, Penalties, shapley
from qsopt.comparison.twin import aligned
from qsopt.deployments.batches import take
from qsopt.deployments.layouts import layout_batch, legal_layouts
from qsopt.deployments.legality import SIZE_LIMITS, is_legal, legality, size_ratios, with_places
from qsopt.deployments.request import best_batch
from qsopt.physics.evaluate import metrics
from qsopt.spec.counterfactual import Counterfactual
from qsopt.spec.layers import Layers
from qsopt.spec.rules import EVERY, PLAIN, LayoutRules
from qsopt.spec.server_memory import ServerMemory
from qsopt.spec.service import Service

MODEL = build((Layers(12, GQA),), (Layers(12, MOE),))
CLUSTER = resized(h100(6), memory_bytes=1.0e9, scale_up_devices=4.0, scale_out_bandwidth=2e9)
"""Six devices of 1 GB, four to a domain: a few dozen sequences of 4096 tokens fit."""

Q = 1.7
SIZES = ("tensor", "data", "pipeline", "expert", "batch", "dispatched")
CASES = {
    "ideal": ("ideal", {}),
    "rich": ("lean", {}),
    "ideal, TPOT limit": ("ideal", {"tpot_limit": 0.36e-3}),
    "rich, TPOT limit": ("lean", {"tpot_limit": 1.2e-3}),
}


def lean():
    """Everything that a fitted set has, with buffers that leave room on a device of 1 GB."""
    server = ServerMemory(
        communication=2e7, prompt_tokens=512.0, sequences=16.0, logit_bytes=18.0, whole_tables=1.0
    )
    return eqx.tree_at(
        lambda e: (e.reserve_bytes, e.memory), efficiency("rich"), (np.array(2e7), server)
    )


def service(case: str) -> Service:
    name, limits = CASES[case]
    return Service(
        CLUSTER, Workload(4096.0, **limits), lean() if name == "lean" else efficiency(name), PLAIN
    )


def enumerated(model, devices: int) -> set[tuple[int, ...]]:
    """(t, D, p, e, way) by the rules of the reference, tried one by one."""
    heads = [int(layers.kind.heads) for layers in model.decoder.attention]
    kv_heads = [
        int(layers.kind.kv_heads)
        for layers in model.decoder.attention
        if hasattr(layers.kind, "kv_heads")
    ]
    experts = [
        int(layers.kind.experts) for layers in model.decoder.ffn if hasattr(layers.kind, "experts")
    ]
    found = set()
    for t, d, p, e, way in itertools.product(*[range(1, devices + 1)] * 4, (0, 1)):
        if t * d * p > devices or p > int(model.layers) or any(h % t for h in heads):
            continue
        if any(k % t and t % k for k in kv_heads) or (t * d) % e or (way == 1 and e == 1):
            continue
        if any(count % e for count in experts) or (not experts and e > 1):
            continue
        found.add((t, d, p, e, way))
    return found


SIZES = ("tensor", "data", "pipeline", "expert", "dispatched", "dcp", "expert_slots")


def rows_of(layouts: Deployment) -> list[tuple[float, ...]]:
    return list(zip(*(np.asarray(getattr(layouts, name)) for name in SIZES), strict=True))


@pytest.mark.parametrize(
    ("model", "cluster"),
    [
        ("mixtral-8x7b", "8xh100"),
        ("llama-3.1-70b", "8xh100"),
        ("deepseek-v3", "8xh200"),
        ("qwen3-next-80b-a3b", "12xh100"),
        ("gpt-oss-120b", "7xh100"),
        ("jamba-v0.1", "6xh100"),
        ("switch-c", "5xh100"),
    ],
)
def test_legal_layouts_are_those_of_the_rules(model: str, cluster: str) -> None:
    found = legal_layouts(load_model(model), load_cluster(cluster), PLAIN)
    rows = rows_of(found)
    assert len(rows) == len(set(rows))
    expected = enumerated(load_model(model), int(load_cluster(cluster).devices))
    assert {row[:5] for row in rows} == expected
    assert {row[5:] for row in rows} == {(1, 0)}
    np.testing.assert_array_equal(found.batch, found.pipeline * found.data)
    assert tuple(rows[0]) == (1, 1, 1, 1, 0, 1, 0)


@pytest.mark.parametrize(
    ("model", "kv_heads", "experts"),
    [("mixtral-8x7b", 8, 8), ("deepseek-v3", 1, 256), ("llama-3.1-70b", 8, None)],
)
def test_freedoms_are_those_of_the_rules(model: str, kv_heads: int, experts: int | None) -> None:
    """Ranks share a cache where it would be copied; any divisor of a stage splits the experts."""
    rows = rows_of(legal_layouts(load_model(model), load_cluster("24xh100")))
    assert len(rows) == len(set(rows))
    plain = rows_of(
        legal_layouts(
            load_model(model), load_cluster("24xh100"), LayoutRules(dcp=1, expert_slots=0)
        )
    )
    assert set(plain) < set(rows) if model != "llama-3.1-70b" else set(plain) <= set(rows)
    for tensor, data, _, expert, _, dcp, slots in rows:
        assert max(tensor // kv_heads, 1) % dcp == 0
        assert tensor * data % expert == 0
        if experts is None:
            assert (expert, slots) == (1, 0)
        else:
            assert slots == (0 if experts % expert == 0 else expert * -(-experts // expert))
    if experts:
        assert {row[3] for row in rows} >= {3, 24}


def test_given_places_and_shares_are_taken() -> None:
    deepseek, cluster = load_model("deepseek-v3"), load_cluster("16xh200")
    rows = rows_of(legal_layouts(deepseek, cluster, LayoutRules(dcp=4, expert_slots=288)))
    assert {row[5] for row in rows} == {4}
    assert {row[6] for row in rows} == {288}
    with pytest.raises(InputError, match="dcp"):
        legal_layouts(load_model("llama-3.1-70b"), cluster, LayoutRules(dcp=4))


@pytest.mark.parametrize("stack", ["vllm", "sglang", "trtllm"])
def test_software_runs_a_part_of_the_layouts(stack: Any) -> None:
    cluster = load_cluster("16xh200")
    for name in ("deepseek-v3", "llama-3.1-70b"):
        model = load_model(name)
        every = set(rows_of(legal_layouts(model, cluster)))
        rows = rows_of(legal_layouts(model, cluster, LayoutRules(stack=stack)))
        assert set(rows) < every
        for tensor, data, _, expert, dispatched, dcp, _ in rows:
            if stack == "vllm":
                assert data == 1 if name != "deepseek-v3" else expert in (1, tensor * data)
            if stack == "sglang":
                assert not dispatched or expert == tensor * data
                assert name == "deepseek-v3" or dcp == 1
            if stack == "trtllm":
                assert 1 in (tensor, data)


@pytest.mark.parametrize("name", ["mixtral-8x7b", "deepseek-v3", "jamba-v0.1", "llama-3.1-70b"])
@pytest.mark.parametrize(
    ("rules", "shares"),
    [(PLAIN, (1,)), (EVERY, range(1, 7)), (LayoutRules(dcp=2, expert_slots=12), (2,))],
)
def test_the_oracle_of_legality_says_the_same_of_every_layout(
    name: str, rules: LayoutRules, shares: Sequence[int]
) -> None:
    """Of all sizes up to six devices, concrete and traced; what is legal keeps the limits that are
    left where sizes are real.
    """
    model, cluster = load_model(name), load_cluster("6xh100")
    rows = list(itertools.product(*[range(1, 7)] * 4, (0, 1), shares))
    designs = with_places(model, layout_batch(rows), rules)
    legal = np.asarray(is_legal(model, cluster, designs, rules))
    kept = set(rows_of(take(designs, legal)))
    if kept:
        assert kept == set(rows_of(legal_layouts(model, cluster, rules)))
    if rules == PLAIN:
        assert {row[:5] for row in kept} == enumerated(model, 6)
    traced = jax.jit(jax.vmap(lambda layout: is_legal(model, cluster, layout, rules)))(designs)
    np.testing.assert_array_equal(traced, legal)
    if rules == PLAIN and name != "llama-3.1-70b":
        ratios = np.array(size_ratios(model, cluster, take(designs, legal)))
        assert ratios.shape == (len(SIZE_LIMITS), legal.sum())
        assert ratios.max() == 1.0


def test_each_rule_of_legality_can_be_broken_alone() -> None:
    """Mixtral: 32 heads, 8 KV heads, 8 experts, 32 layers, on 64 devices in domains of eight."""
    sizes = {"tensor": 4, "data": 2, "pipeline": 2, "expert": 4, "batch": 8, "dispatched": 1}
    plain = {"tensor": 1, "data": 1, "expert": 1, "dispatched": 0}
    changes = {
        "devices domains": {"data": 16, "batch": 32},
        "domains": {**plain, "data": 5, "pipeline": 9, "batch": 45},
        "expert_devices": {"data": 1, "expert": 8, "batch": 2},
        "experts_per_rank": {"tensor": 16, "data": 1, "expert": 16},
        "heads": {"tensor": 12},
        "cache": {"tensor": 16, "data": 1, "dcp": 4},
        "stages": {**plain, "pipeline": 33, "batch": 33},
        "batch": {"batch": 6},
        "way": {"expert": 1},
    }
    model, cluster = load_model("mixtral-8x7b"), load_cluster("64xh100")
    assert all(legality(model, cluster, Deployment(**sizes)))
    for name, change in changes.items():
        kept = legality(model, cluster, Deployment(**{**sizes, **change}))
        assert [rule for rule in kept._fields if not getattr(kept, rule)] == name.split()


@jax.jit
def score(model, service: Service, designs: Deployment, world: Counterfactual):
    """Throughput of each design, 0 where a limit is broken, and whether its memory holds it."""

    def one(design):
        found = metrics(model, service, design, world)
        return jnp.where(found.feasible, found.throughput, 0.0), found.fits_memory

    return jax.vmap(one)(designs)


DESIGN = ("tensor", "data", "pipeline", "expert", "batch", "dispatched", "dcp", "expert_slots")


def brute_force(model, case: str, world: tuple[float, ...] = (1.0, 1.0, 1.0)) -> tuple[float, dict]:
    """The best of every legal layout at every whole batch up to the first that memory refuses, and
    its design.
    """
    rows = sorted(enumerated(model, 6))
    most, best = 512, (0.0, {})
    aligned_model = aligned(model, MODEL)
    units = np.tile(np.arange(1.0, most + 1), len(rows))
    t, d, p, e, way = (
        np.repeat(np.array(column, dtype=float), most) for column in zip(*rows, strict=True)
    )
    size = 65536
    filled = [
        np.resize(column, -(-len(units) // size) * size)
        for column in (t, d, p, e, p * d * units, way, np.ones_like(t), np.zeros_like(t))
    ]
    for start in range(0, len(filled[0]), size):
        columns = [column[start : start + size] for column in filled]
        designs = eqx.tree_at(
            lambda x: tuple(getattr(x, name) for name in DESIGN), Deployment(), tuple(columns)
        )
        throughput, fits = score(aligned_model, service(case), designs, Counterfactual(*world))
        assert not bool(np.asarray(fits)[columns[4] == most * columns[1] * columns[2]].any()), (
            "enumerate more batches"
        )
        index = int(jnp.argmax(throughput))
        if float(throughput[index]) > best[0]:
            best = (
                float(throughput[index]),
                {name: float(c[index]) for name, c in zip(DESIGN, columns, strict=True)},
            )
    return best


@cache
def compared(case: str) -> Comparison:
    given = service(case)
    result = compare(MODEL, service=given, q=Q, twin="same-body")
    assert isinstance(result, Comparison)
    return result


@pytest.mark.parametrize("case", CASES)
def test_search_finds_what_brute_force_finds(case: str) -> None:
    result = compared(case)
    for model, side in ((MODEL, result.moe), (dense_twin(MODEL, Q), result.dense)):
        throughput, design = brute_force(model, case)
        assert throughput > 0
        assert float(side.throughput) == pytest.approx(throughput, rel=1e-9), design
        assert bool(side.feasible)
        assert bool(side.metrics.feasible)
        assert float(side.metrics.throughput) == float(side.throughput)
        alone = best_batch(model, service(case), legal_layouts(model, CLUSTER, PLAIN))
        assert float(alone.throughput) == pytest.approx(throughput, rel=1e-9)


def test_limits_bind_in_these_problems() -> None:
    """So that the cases above differ: memory stops one more unit, or the TPOT limit does."""
    for case in CASES:
        for side in (compared(case).moe, compared(case).dense):
            more = eqx.tree_at(
                lambda d: d.batch,
                side.deployment,
                side.deployment.batch + side.deployment.pipeline * side.deployment.data,
            )
            given = service(case)
            found = metrics(side.model, given, more)
            assert not bool(found.feasible)
    for free, bound in (("ideal", "ideal, TPOT limit"), ("rich", "rich, TPOT limit")):
        assert float(compared(bound).moe.throughput) < float(compared(free).moe.throughput)


NAMES = tuple(Penalties.__dataclass_fields__)


@pytest.mark.parametrize("case", ["ideal", "rich, TPOT limit"])
def test_penalties_multiply_to_the_ratio_and_are_averages_over_orders(case: str) -> None:
    """Each cause's factor is the mean, over all orders of switching causes off, of the fall of the
    log ratio; worlds and twins by brute force.
    """
    result = compared(case)
    factors = {name: float(getattr(result.penalties, name)) for name in NAMES}
    assert math.prod(factors.values()) == pytest.approx(float(result.ratio), rel=1e-9)
    assert factors["attention"] == pytest.approx(1.0, rel=1e-12)  # the twin has the MoE's body

    twins = {1.0: dense_twin(MODEL, Q), 0.0: dense_twin(MODEL, 1.0)}
    dense = {
        (size, free): math.log(brute_force(twins[size], case, (1.0, 1.0, free, 1.0))[0])
        for size, free in itertools.product((1.0, 0.0), repeat=2)
    }
    moe = {
        world: math.log(brute_force(MODEL, case, world)[0])
        for world in itertools.product((1.0, 0.0), repeat=4)
    }
    causes = ("reuse", "residency", "communication", "imbalance", "arithmetic")
    means = dict.fromkeys(causes, 0.0)
    orders = list(itertools.permutations(causes))
    for order in orders:
        on = dict.fromkeys(causes, 1.0)
        for cause in order:
            before = dense[on["arithmetic"], on["communication"]] - moe[tuple(on.values())[:4]]
            on[cause] = 0.0
            after = dense[on["arithmetic"], on["communication"]] - moe[tuple(on.values())[:4]]
            means[cause] += (before - after) / len(orders)
    for cause, mean in means.items():
        assert factors[cause] == pytest.approx(math.exp(mean), rel=1e-9)
    rest = dense[0.0, 0.0] - moe[0.0, 0.0, 0.0, 0.0]
    assert factors["other"] == pytest.approx(math.exp(rest), rel=1e-9)
    if case == "ideal":
        assert factors["other"] == pytest.approx(1.0, abs=0.02), "nothing is left unnamed"


def test_shapley_of_any_throughputs() -> None:
    """Random worlds: product, causes that do nothing, and NaN where a side cannot run."""
    rng = np.random.default_rng(3)
    moe, dense = rng.uniform(1, 10, 16), rng.uniform(1, 10, 8)
    for name in MOE_CAUSES:
        assert getattr(WORLDS, name)[0] == 1.0
        assert getattr(WORLDS, name)[-1] == 0.0
    found = shapley(jnp.asarray(moe), jnp.asarray(dense))
    product = math.prod(float(getattr(found, name)) for name in NAMES)
    assert product == pytest.approx(dense[0] / moe[0], rel=1e-12)
    only_reuse = np.where(WORLDS.reuse == 1.0, 1.0, 3.0)
    found = shapley(jnp.asarray(only_reuse), jnp.ones(8))
    assert float(found.reuse) == pytest.approx(3.0, rel=1e-12)
    for name in ("residency", "communication", "imbalance", "arithmetic", "attention"):
        assert float(getattr(found, name)) == pytest.approx(1.0, rel=1e-12)
    moe[3] = 0.0
    assert np.isnan(float(shapley(jnp.asarray(moe), jnp.asarray(dense)).reuse))


@pytest.mark.parametrize("case", CASES)
def test_break_even_q_flips_the_verdict(case: str) -> None:
    result, given = compared(case), service(case)
    assert np.isfinite(float(result.break_even_q))

    def twin(q: float) -> float:
        found = best_batch(
            dense_twin(MODEL, q, exact=False),
            given,
            legal_layouts(dense_twin(MODEL, q), CLUSTER, PLAIN),
        )
        return float(found.throughput)

    q, moe = float(result.break_even_q), float(result.moe.throughput)
    assert verdict(moe, twin(q * (1 - 1e-3))) == "dense wins"
    assert verdict(moe, twin(q * (1 + 1e-3))) in ("moe wins", "dense infeasible")
    assert twin(q * (1 - 1e-6)) >= moe >= twin(q * (1 + 1e-6))
    assert (verdict(moe, twin(Q)) == "dense wins") == (q > Q)


@pytest.mark.parametrize(
    ("moe", "dense", "expected"),
    [
        (1.0, 2.0, "dense wins"),
        (2.0, 1.0, "moe wins"),
        (1.0, 1.0, "tie"),
        (1e6, 1e6 + 0.9, "tie"),
        (1e6, 1e6 - 0.9, "tie"),
        (1e6, 1e6 + 1.1, "dense wins"),
        (1e6, 1e6 - 1.1, "moe wins"),
        (0.0, 1.0, "moe infeasible"),
        (1.0, 0.0, "dense infeasible"),
        (0.0, 0.0, "both infeasible"),
    ],
)
def test_verdicts(moe: float, dense: float, expected: str) -> None:
    assert verdict(moe, dense) == expected


def test_nothing_feasible_is_said() -> None:
    """On devices too small for the MoE, the dense side, or both."""
    given = service("ideal")
    for size, expected in ((1.5e8, "moe infeasible"), (1e7, "both infeasible")):
        found = compare(
            MODEL,
            resized(CLUSTER, memory_bytes=size),
            given.workload,
            given.efficiency,
            q=1.2,
            twin="same-body",
        )
        assert found.verdict == expected
        assert np.isnan(float(found.ratio))
        assert np.isnan(float(found.penalties.reuse))
        assert float(found.moe.throughput) == 0.0
