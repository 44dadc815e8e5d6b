"""What a server's memory holds beside weights and cache: laws, and numbers worked by hand from
start-up logs that people published.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsopt import ideal, load_efficiency
from qsopt.catalog.accelerators import load_cluster
from qsopt.catalog.efficiencies import efficiency_set
from qsopt.catalog.models import load_model
from qsopt.comparison.dense import SAME_BODY, dense_match
from qsopt.comparison.twin import aligned
from qsopt.fitted.memory import memory_fit
from qsopt.physics.memory import Memory, memory
from qsopt.physics.padding import padding
from qsopt.spec.deployment import Deployment
from qsopt.spec.efficiency import Efficiency
from qsopt.spec.formats import FORMATS, number_format
from qsopt.spec.model import routed_layers
from qsopt.spec.server_memory import ServerMemory
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload
from qsopt.units import GiB

RULES = {"total": {}, "pool": {"pool_only": 1.0}, "free": {"of_free": 1.0}}

SERVER = {"communication": 1.5e9, "prompt_tokens": 8192.0, "sequences": 512.0, "logit_bytes": 18.0}

MODEL = load_model("mixtral-8x7b")
LAYOUT = Deployment(tensor=4, data=2, expert=4, batch=64)


def serving(**server: object) -> Efficiency:
    chosen = ServerMemory(**{**SERVER, **server})
    return eqx.tree_at(
        lambda e: (e.workspace, e.reserve_bytes, e.memory),
        ideal(),
        (np.asarray(2.0), np.asarray(1e9), chosen),
    )


@jax.jit
def held(model, service, deployment, softness=0.0) -> Memory:
    return memory(model, service, deployment, softness=softness)


def on(efficiency: Efficiency, cluster: str = "8xh100", utilization: float = 0.9) -> Service:
    return Service(load_cluster(cluster), Workload(4096.0, utilization=utilization), efficiency)


def test_the_default_adds_nothing() -> None:
    found = held(MODEL, on(ideal()), LAYOUT)
    assert float(found.reserve) == float(found.activations) == 0.0
    assert float(found.capacity) == pytest.approx(
        0.9 * float(load_cluster("h100").accelerator.memory_bytes)
    )
    rooms = float(found.capacity - found.weights)
    assert float(found.room) == pytest.approx(rooms)
    assert float(found.largest_batch) == pytest.approx(rooms / float(found.kv_cache))


def test_a_share_of_the_whole_memory() -> None:
    found = held(MODEL, on(serving()), LAYOUT)
    assert float(found.reserve) == pytest.approx(1e9 + 3 * 1.5e9), "eight devices: three doublings"
    logits = 18.0 * float(MODEL.vocabulary) * 512
    layers = 2 * 2 * 3 * 14336 / 2 * (2 * 8192) * 2 / 4  # experts: 2 of 8, ranks of 4, split in 2
    assert float(found.activations) == pytest.approx(max(logits, layers))


def test_a_share_of_the_pool_leaves_activations_outside() -> None:
    """min(u (M - R), M - R - A) - W: the pool, unless activations need more than the rest."""
    memory_bytes = float(load_cluster("h100").accelerator.memory_bytes)
    for utilization in (0.8, 0.99):
        found = held(MODEL, on(serving(pool_only=1.0), utilization=utilization), LAYOUT)
        whole = held(MODEL, on(serving(), utilization=utilization), LAYOUT)
        free = memory_bytes - float(whole.reserve)
        pool = min(utilization * free, free - float(whole.activations)) - float(whole.weights)
        assert float(found.room) == pytest.approx(pool, rel=1e-6)


def test_a_share_of_what_is_free() -> None:
    found, whole = (held(MODEL, on(serving(**RULES[rule])), LAYOUT) for rule in ("free", "total"))
    memory_bytes = float(load_cluster("h100").accelerator.memory_bytes)
    beside = float(whole.weights + whole.reserve + whole.activations)
    assert float(found.room) == pytest.approx(0.9 * (memory_bytes - beside), rel=1e-6)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("sequences", [0.0, 512.0, 1e5], ids=["none", "some", "many"])
def test_the_largest_batch_fills_the_capacity(rule: str, sequences: float) -> None:
    service = on(serving(sequences=sequences, **RULES[rule]), utilization=0.95)
    found = held(MODEL, service, LAYOUT)
    most = float(found.largest_batch) * float(LAYOUT.batch)
    if most <= 0:
        assert float(found.room) <= 0
        return
    full = held(MODEL, service, eqx.tree_at(lambda d: d.batch, LAYOUT, np.asarray(most)))
    assert float(full.total) == pytest.approx(float(full.capacity), rel=1e-6)


def test_more_devices_chunks_and_sequences_never_leave_more_room() -> None:
    def room(service: Service, deployment: Deployment = LAYOUT) -> float:
        found = held(MODEL, service, deployment)
        return float(found.room + found.weights)

    tokens = [room(on(serving(prompt_tokens=count))) for count in (0.0, 2048.0, 32768.0, 131072.0)]
    sequences = [room(on(serving(sequences=count))) for count in (0.0, 256.0, 4096.0)]
    assert tokens == sorted(tokens, reverse=True) and tokens[0] > tokens[-1]
    assert sequences == sorted(sequences, reverse=True) and sequences[0] > sequences[-1]
    reserves = [
        float(held(MODEL, on(serving()), Deployment(tensor=t, data=d, pipeline=p, batch=8)).reserve)
        for t, d, p in ((1, 1, 1), (2, 1, 1), (2, 2, 1), (2, 2, 2))
    ]
    np.testing.assert_allclose(np.diff(reserves), 1.5e9, rtol=1e-6)


def test_small_devices_start_with_less() -> None:
    small, large = (
        held(MODEL, on(serving(large_memory=limit, small_share=0.25)), LAYOUT).activations
        for limit in (1e15, 0.0)
    )
    assert float(small) == pytest.approx(float(large) / 4)


def test_tables_are_whole_on_each_data_rank() -> None:
    shared, whole = (held(MODEL, on(serving(whole_tables=x)), LAYOUT).weights for x in (0.0, 1.0))
    table = 2 * float(MODEL.vocabulary * MODEL.hidden) * 2.0
    assert float(whole - shared) == pytest.approx(table / 4 - table / 8, rel=1e-4)


@pytest.mark.parametrize("rule", RULES)
def test_slopes_are_those_of_differences(rule: str) -> None:
    service = on(serving(whole_tables=0.5, **RULES[rule]), utilization=0.93)

    def outputs(logs):
        scale = jnp.exp(logs)
        moved = eqx.tree_at(
            lambda s: (
                s.workload.utilization,
                s.efficiency.memory.communication,
                s.efficiency.memory.prompt_tokens,
                s.efficiency.reserve_bytes,
                s.cluster.accelerator.memory_bytes,
            ),
            service,
            (
                service.workload.utilization * scale[0],
                service.efficiency.memory.communication * scale[1],
                service.efficiency.memory.prompt_tokens * scale[2],
                service.efficiency.reserve_bytes * scale[3],
                service.cluster.accelerator.memory_bytes * scale[4],
            ),
        )
        layout = eqx.tree_at(
            lambda d: (d.tensor, d.batch), LAYOUT, (4.0 * scale[5], 64.0 * scale[6])
        )
        found = memory(MODEL, moved, layout, softness=0.05)
        return jnp.stack([found.total, found.capacity, found.largest_batch]) / jnp.array(
            [1e9, 1e9, 1.0]
        )

    function, zero = jax.jit(outputs), jnp.zeros(7)
    slopes = jax.jit(jax.jacrev(outputs))(zero)
    for place in range(7):
        step = 1e-5 * jnp.eye(7)[place]
        rise = (function(step) - function(-step)) / 2e-5
        np.testing.assert_allclose(slopes[:, place], rise, rtol=1e-4, atol=1e-5)


def test_smooth_tends_to_exact_from_above() -> None:
    service = on(serving())
    exact = float(held(MODEL, service, LAYOUT).activations)
    smooth = [float(held(MODEL, service, LAYOUT, x).activations) for x in (0.3, 0.1, 0.01, 1e-4)]
    assert smooth == sorted(smooth, reverse=True)
    assert smooth[-1] == pytest.approx(exact, rel=1e-3) and smooth[-1] >= exact * (1 - 1e-6)


# ---- experts as their kernels want them ----------------------------------------------------------


def padded(model, shards: float, server: ServerMemory, softness: float = 0.0) -> float:
    kind = routed_layers(model, "experts are padded")
    return float(padding(kind, model.hidden, shards, model.precision, server, softness))


def test_mxfp4_experts_are_rounded_up() -> None:
    """2,880 columns and rows become 2,944 and 3,072 on one device; an eighth, 360, becomes 384."""
    model, server = load_model("gpt-oss-120b"), memory_fit().of("vllm", "h100")[1]
    assert padded(model, 1.0, server) == pytest.approx(3072 * 2944 / 2880**2)
    assert padded(model, 8.0, server) == pytest.approx(3072 * 384 / (2880 * 360))
    assert padded(model, 8.0, server, 0.1) == pytest.approx(1.0), "relaxed sizes are not rounded"
    assert padded(MODEL, 1.0, server) == 1.0


def test_padded_rows_on_amd_cost_a_third() -> None:
    """Rows of 2,048 and 768 columns get 128 more. Gate and up take 2 (1 + 1/16) of an expert's
    three parts, and down stands where they were, which takes 2.
    """
    model, server = load_model("qwen3-vl-30b-a3b"), memory_fit().of("vllm", "mi300x")[1]
    assert padded(model, 1.0, server) == pytest.approx((2 * (1 + 1 / 16) + 2) / 3)
    assert padded(model, 1.0, memory_fit().of("vllm", "h200")[1]) == 1.0
    fp8 = eqx.tree_at(lambda m: m.precision.experts, model, number_format("fp8"))
    assert padded(fp8, 1.0, server) == 1.0
    odd = eqx.tree_at(lambda m: m.hidden, model, np.asarray(2050.0))
    assert padded(odd, 1.0, server) == pytest.approx(1 + (1 / 6) / 3), "down alone"


# ---- published logs ------------------------------------------------------------------------------


def started(name: str, software: str, chip: str, utilization: float, layout: Deployment) -> Memory:
    efficiency = memory_fit().applied(efficiency_set("kernels"), software, chip)
    devices = int(float(layout.replica_devices))
    return held(load_model(name), on(efficiency, f"{devices}x{chip}", utilization), layout)


def test_sglang_on_one_h100() -> None:
    """sgl-project/sglang#4760: Llama-3.1-8B, static fraction 0.88: weights 15.11 GiB, cache 54.04.
    By hand 0.88 (79.65 - 1.28) - 14.96 = 54.0 GiB.
    """
    found = started("llama-3.1-8b", "sglang", "h100", 0.88, Deployment())
    assert float(found.weights) / GiB == pytest.approx(15.11, rel=0.011)
    reserve = memory_fit().tables["sglang"]["reserve_GiB"]
    assert float(found.room) / GiB == pytest.approx(0.88 * (79.6475 - reserve) - 14.958, rel=1e-3)
    assert float(found.room) / GiB == pytest.approx(54.04, rel=0.01)


def test_sglang_with_attention_data_parallelism() -> None:
    """sgl-project/sglang#17392: Qwen3-30B-A3B, 4 H200, attention and experts over 4: 16.39 GiB of
    weights, as every rank has 0.58 GiB of input table and as much of head.
    """
    found = started("qwen3-30b-a3b", "sglang", "h200", 0.8, Deployment(data=4, expert=4, batch=4))
    assert float(found.weights) / GiB == pytest.approx(16.39, rel=0.005)
    assert float(found.room) / GiB == pytest.approx(94.24, rel=0.02)


def test_vllm_on_one_h100() -> None:
    """vllm-project/vllm#10511: Llama-3-8B at 0.9: cache 53.29 GiB. By hand 0.9 of 79.65 GiB without
    weights 14.96, reserve 1.32 and 18 bytes of each of 1,024 x 128,256 logits, 2.20: 53.2.
    """
    found = started("llama-3.1-8b", "vllm", "h100", 0.9, Deployment())
    reserve = memory_fit().tables["vllm"]["reserve_GiB"]
    logits = 18 * 1024 * 128256 / GiB
    by_hand = 0.9 * 79.6475 - 14.958 - reserve - logits
    assert float(found.room) / GiB == pytest.approx(by_hand, rel=1e-3)
    assert float(found.room) / GiB == pytest.approx(53.29, rel=0.02)


def test_formats_have_a_multiple_each() -> None:
    assert ServerMemory().hidden_multiple.shape == (len(FORMATS),)


def test_groups_without_layers_take_no_memory() -> None:
    """A dense match in the structure of its MoE has an empty group of experts."""
    moe = load_model("mixtral-8x7b")
    match = dense_match(moe, np.float64(1.0), SAME_BODY)
    service = Service(load_cluster("4xh100"), Workload(1000.0), load_efficiency("fitted"))
    own, same = (
        memory(side, service, Deployment(data=2.0, batch=64.0))
        for side in (match, aligned(match, moe))
    )
    np.testing.assert_allclose(jax.tree.leaves(own), jax.tree.leaves(same), rtol=1e-12)
