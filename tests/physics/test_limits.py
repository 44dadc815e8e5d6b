"""The limits that the qs criterion rests on, and the directions in which no input may push an
answer.
"""

from operator import itemgetter

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from physics_designs import (
    DENSE,
    GQA,
    MLA,
    MOE,
    build,
    efficiency,
    h100,
    layouts,
    precision,
    resized,
    silent,
)

from qsopt import Deployment, Workload, evaluate, ideal, load_model
from qsopt.physics.evaluate import metrics
from qsopt.spec.layers import DenseFfn, Layers, Mla, MoeFfn
from qsopt.spec.service import Service

EMPTY = Workload(0.0)
ENDLESS = 1e40
"""A peak or a bandwidth that never binds."""

CLOCKLESS = resized(h100(1), bandwidth=ENDLESS)
MEMORY_BOUND = eqx.tree_at(lambda c: c.accelerator.peak_flops, h100(1), np.full(4, ENDLESS))


def seconds(model, cluster, batch: float, workload: Workload = EMPTY) -> float:
    return float(evaluate(model, cluster, workload, Deployment(batch=batch), ideal()).step)


# ---- 1. an MoE of one expert ---------------------------------------------------------------------

SPLITS = (
    Deployment(batch=7),
    Deployment(tensor=4, batch=33),
    Deployment(tensor=2, data=4, batch=64),
    Deployment(tensor=2, data=2, pipeline=3, batch=48),
    Deployment(tensor=16, batch=5),
)


def one_expert_and_dense(attention, design: Deployment, form=None):
    """Metrics of E = k = 1 of the dense width without shared expert at expert_tensor = n, and of
    the dense model.
    """
    ffns = (MoeFfn(experts=1, top_k=1, width=4096), DenseFfn(4096))
    models = (build((Layers(12, attention),), (Layers(12, ffn),), form) for ffn in ffns)
    return tuple(evaluate(model, h100(16), Workload(3000.0), design, ideal()) for model in models)


@pytest.mark.parametrize("attention", [GQA, MLA], ids=["gqa", "mla"])
def test_one_expert_of_all_takes_the_time_of_the_dense_model(attention) -> None:
    """Shared experts that are not there cost nothing, not even their activations."""
    for design in SPLITS:
        moe, dense = one_expert_and_dense(attention, design)
        assert float(moe.step) == pytest.approx(float(dense.step), rel=1e-11)
        assert float(moe.throughput) == pytest.approx(float(dense.throughput), rel=1e-11)


@pytest.mark.parametrize("attention", [GQA, MLA], ids=["gqa", "mla"])
def test_one_expert_of_all_takes_the_time_of_the_dense_model_without_activations(attention) -> None:
    """The same where activations weigh nothing, so that only weights, cache and messages are
    left.
    """
    for design in SPLITS:
        moe, dense = one_expert_and_dense(attention, design, precision(activation_bytes=0.0))
        assert float(moe.step) == pytest.approx(float(dense.step), rel=1e-11)


@pytest.mark.parametrize("attention", [GQA, MLA], ids=["gqa", "mla"])
def test_one_expert_of_all_takes_the_memory_of_the_dense_model(attention) -> None:
    """A single expert needs no router, so none is resident."""
    for design in SPLITS:
        moe, dense = one_expert_and_dense(attention, design)
        assert float(moe.memory.kv_cache) == pytest.approx(float(dense.memory.kv_cache), rel=1e-13)
        assert float(moe.memory.weights) == pytest.approx(float(dense.memory.weights), rel=1e-13)


# ---- 2-4. weights and arithmetic only ------------------------------------------------------------

KINDS = {
    "gqa": ((Layers(12, GQA),), (Layers(12, MOE),)),
    "mla": ((Layers(12, MLA),), (Layers(12, MOE),)),
    "dense first": ((Layers(12, MLA),), (Layers(2, DENSE), Layers(10, MOE))),
    "unshared": ((Layers(12, GQA),), (Layers(12, MoeFfn(experts=64, top_k=2, width=700)),)),
    "ungated": (
        (Layers(12, GQA),),
        (Layers(12, MoeFfn(experts=16, top_k=1, width=700, matrices=2)),),
    ),
}


def counts(kind: str) -> tuple[float, float]:
    """Parameters that a step reads with all experts and with k of them, by hand: tied table, no
    norms.
    """
    attention, ffn = KINDS[kind]
    gqa = 1024 * (16 + 2 * 4) * 64 + 16 * 64 * 1024
    mla = 1024 * (384 + 256 + 32) + 384 * 16 * 96 + 2 * 16 * 64 * 256 + 16 * 64 * 1024
    every_token = 8192 * 1024 + 12 * (mla if attention[0].kind is MLA else gqa)
    total = active = 0.0
    for layers in ffn:
        count, kind_of = float(layers.count), layers.kind
        if isinstance(kind_of, DenseFfn):
            every_token += count * 3 * 1024 * float(kind_of.width)
            continue
        expert = float(kind_of.matrices) * 1024 * float(kind_of.width)
        every_token += count * (
            1024 * float(kind_of.experts) + float(kind_of.shared_experts) * expert
        )
        total, active = (
            total + count * float(kind_of.experts) * expert,
            active + count * float(kind_of.top_k) * expert,
        )
    return every_token + total, every_token + active


def pair(kind: str, q: float):
    """An MoE, and a dense model of q times its active parameters, both counting what a step
    reads.
    """
    attention, ffn = KINDS[kind]
    _, active = counts(kind)
    dense = build(attention, (Layers(12, DenseFfn(1.0)),), silent())
    base = seconds_of_weights(dense) - 12 * 3 * 1024
    width = (q * active - base) / (12 * 3 * 1024)
    assert width > 0
    return build(attention, ffn, silent()), build(
        attention, (Layers(12, DenseFfn(width)),), silent()
    )


def seconds_of_weights(model) -> float:
    """Parameters that a step of one token reads, from its bytes; at 2 bytes each."""
    return float(evaluate(model, h100(1), EMPTY, Deployment(), ideal()).breakdown.bytes.sum()) / 2.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("q", [1.5, 3.0])
def test_weight_traffic_with_all_experts_hit_is_one_over_qs(kind: str, q: float) -> None:
    moe, dense = pair(kind, q)
    total, active = counts(kind)
    slow = seconds(moe, MEMORY_BOUND, 1e5)
    assert slow == pytest.approx(2 * total / 3.35e12, rel=1e-12)
    assert slow / seconds(dense, MEMORY_BOUND, 1e5) == pytest.approx(
        1 / (q * active / total), rel=1e-12
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("q", [1.5, 3.0])
def test_one_token_reads_only_active_weights(kind: str, q: float) -> None:
    moe, dense = pair(kind, q)
    alone = seconds(moe, MEMORY_BOUND, 1)
    assert alone == pytest.approx(2 * counts(kind)[1] / 3.35e12, rel=1e-11)
    assert alone / seconds(dense, MEMORY_BOUND, 1) == pytest.approx(1 / q, rel=1e-11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("q", [1.5, 3.0])
def test_compute_bound_is_one_over_q(kind: str, q: float) -> None:
    moe, dense = pair(kind, q)
    busy = seconds(moe, CLOCKLESS, 4096)
    assert busy == pytest.approx(2 * counts(kind)[1] * 4096 / 989e12, rel=1e-12)
    assert busy / seconds(dense, CLOCKLESS, 4096) == pytest.approx(1 / q, rel=1e-12)


@pytest.mark.parametrize("kind", ["gqa", "mla", "dense first"])
def test_the_losing_region_is_a_band_in_batch(kind: str) -> None:
    """As the batch grows the MoE wins, loses, and wins again; a real machine, with qs < 1 < q."""
    moe, dense = pair(kind, 1.5)
    total, active = counts(kind)
    assert 1.5 * active / total < 0.8
    ratio = np.array(
        [
            seconds(moe, h100(1), batch) / seconds(dense, h100(1), batch)
            for batch in np.geomspace(1, 1e5, 60)
        ]
    )
    wins = ratio < 1
    assert wins[0]
    assert wins[-1]
    assert (np.diff(wins.astype(int)) != 0).sum() == 2
    assert ratio[0] == pytest.approx(1 / 1.5, rel=1e-9)
    assert ratio[-1] == pytest.approx(1 / 1.5, rel=1e-3)
    assert 1.2 < ratio.max() <= total / active / 1.5 * (1 + 1e-12)


# ---- 5. capacity ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attention", "elements"), [(GQA, 2 * 4 * 64), (MLA, 256 + 32)], ids=["gqa", "mla"]
)
def test_largest_batch_is_what_the_weights_leave(attention, elements: int) -> None:
    """B_max = (capacity u - weights)/(S KV); dense over MoE it grows without bound as memory
    shrinks, and tends to 1.
    """
    moe, dense = (
        build((Layers(12, attention),), (Layers(12, ffn),)) for ffn in (MOE, DenseFfn(4096))
    )
    cache, utilization = 12 * elements * 2 * 2000.0, 0.8
    workload = Workload(2000.0, utilization=utilization)

    def largest(model, capacity: float) -> tuple[float, float]:
        found = evaluate(
            model, resized(h100(1), memory_bytes=capacity), workload, Deployment(), ideal()
        )
        weights = float(found.memory.weights)
        assert float(found.largest_batch) == np.floor(
            (capacity * utilization - weights) / cache + 1e-6
        )
        assert float(found.memory.largest_batch) == pytest.approx(
            (capacity * utilization - weights) / cache, rel=1e-6
        )
        return float(found.memory.largest_batch), weights

    _, weights = largest(moe, 1e12)
    ratios = []
    for excess in (1e-6, 1e-5, 1e-3, 0.1, 1.0, 10.0, 1e3, 1e5):
        capacity = weights * (1 + excess) / utilization
        ratios.append(largest(dense, capacity)[0] / largest(moe, capacity)[0])
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] > 1e5
    assert ratios[0] / ratios[1] == pytest.approx(10.0, rel=1e-3)
    assert 1 < ratios[-1] < 1 + 2e-5


# ---- 6. directions -------------------------------------------------------------------------------


def test_bandwidth_halves_memory_bound_time() -> None:
    model = load_model("mixtral-8x7b")
    for batch in (1, 8):
        found = [
            seconds(model, resized(h100(1), bandwidth=factor * 3.35e12), batch, Workload(8192.0))
            for factor in (1, 2)
        ]
        assert found[0] / found[1] == pytest.approx(2.0, rel=1e-12)


@pytest.mark.parametrize("name", ["ideal", "fitted"])
def test_throughput_doubles_with_devices_at_the_same_load(name: str) -> None:
    design = Deployment(tensor=4, pipeline=2, expert=4, batch=64)
    few, many = (
        evaluate(
            load_model("mixtral-8x7b"), h100(devices), Workload(8192.0), design, efficiency(name)
        )
        for devices in (8, 16)
    )
    assert float(many.throughput) == pytest.approx(2 * float(few.throughput), rel=1e-13)
    assert float(many.per_device) == pytest.approx(float(few.per_device), rel=1e-13)
    assert float(many.tpot) == float(few.tpot)


@jax.jit
def sweep(model, service, designs):
    """Throughput, TPOT and memory of many designs."""

    def one(design):
        found = metrics(model, service, design)
        return found.throughput, found.tpot, found.memory.total, found.memory.largest_batch

    return jax.vmap(one)(designs)


def cache_width(kind):
    return kind.kv_rank if isinstance(kind, Mla) else kind.kv_heads


def moe_of(model):
    return model.decoder.ffn[-1].kind


SCALED = {
    # what is doubled: (where it is, does throughput rise (+), fall (-) or stay (0), memory
    # likewise)
    "context": (lambda x: x[1].workload.context, -1, 1),
    "bandwidth": (lambda x: x[1].cluster.accelerator.bandwidth, 1, 0),
    "peak": (lambda x: x[1].cluster.accelerator.peak_flops, 1, 0),
    "scale-up": (lambda x: x[1].cluster.accelerator.scale_up_bandwidth, 1, 0),
    "scale-out": (lambda x: x[1].cluster.accelerator.scale_out_bandwidth, 1, 0),
    "devices": (lambda x: x[1].cluster.devices, 1, 0),
    "experts": (lambda x: moe_of(x[0]).experts, -1, 1),
    "expert width": (lambda x: moe_of(x[0]).width, -1, 1),
    "cache width": (lambda x: cache_width(x[0].decoder.attention[0].kind), -1, 1),
    "expert bytes": (lambda x: x[0].precision.experts.bytes, -1, 1),
    "cache bytes": (lambda x: x[0].precision.kv_cache.bytes, -1, 1),
    "activation bytes": (lambda x: x[0].precision.activation_bytes, -1, 1),
    "vocabulary": (lambda x: x[0].vocabulary, -1, 1),
    "launch": (lambda x: x[1].efficiency.gemm.launch, -1, 0),
    "collective": (lambda x: x[1].efficiency.scale_up.collective, -1, 0),
    "popularity": (lambda x: x[1].efficiency.popularity_cv2, 1, 0),
    "imbalance": (lambda x: x[1].efficiency.imbalance_cv2, -1, 0),
}


@pytest.mark.parametrize("name", ["ideal", "fitted", "rich"])
@pytest.mark.parametrize("model", ["mixtral-8x7b", "deepseek-v3"])
def test_doubling_an_input_moves_every_layout_its_way(model: str, name: str) -> None:
    """On all legal layouts; a side that is memory or compute bound may stay, none may move the
    other way.
    """
    designs = layouts(model, 16)
    designs = eqx.tree_at(lambda d: d.batch, designs, designs.batch * 16)
    base = (
        load_model(model),
        Service(h100(16), Workload(8192.0), efficiency(name)),
        designs,
    )
    before = sweep(*base)
    for what, (where, speed, held) in SCALED.items():
        after = sweep(*eqx.tree_at(where, base, 2.0 * where(base)))
        for index, sign in ((0, speed), (2, held)):
            change = np.log(np.asarray(after[index]) / np.asarray(before[index]))
            assert (change * sign >= -1e-12).all() if sign else (np.abs(change) <= 1e-12).all(), (
                what
            )


@pytest.mark.parametrize("name", ["ideal", "fitted", "rich"])
@pytest.mark.parametrize("model", ["mixtral-8x7b", "deepseek-v3", "qwen3-next-80b-a3b"])
def test_batch_raises_throughput_and_never_lowers_tpot_or_memory(model: str, name: str) -> None:
    """What the exact search relies on, for every legal layout on 16 devices and batches up to 2^14
    units.
    """
    designs = layouts(model, 16)
    units = np.unique(np.round(np.geomspace(1, 2.0**14, 40)))
    found = [
        sweep(
            load_model(model),
            Service(h100(16), Workload(8192.0), efficiency(name)),
            eqx.tree_at(
                lambda d: d.batch, designs, designs.pipeline * designs.data * jnp.asarray(unit)
            ),
        )
        for unit in units
    ]
    for index, what in ((0, "throughput"), (1, "tpot"), (2, "memory")):
        rows = np.array([leaf[index] for leaf in found])
        worst = (rows[1:] / rows[:-1]).min(axis=0)
        at = jax.tree.map(itemgetter(worst.argmin()), designs)
        assert worst.min() >= 1 - 1e-12, (
            what,
            at.tensor,
            at.data,
            at.pipeline,
            at.expert,
            at.dispatched,
        )
