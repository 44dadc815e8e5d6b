"""Whole designs worked by hand in plain numbers: FLOPs, bytes and seconds of every operator,
memory, TPOT, throughput.

Nothing here calls a formula of qsopt. H100: 989 TFLOP/s (bf16), 3.35 TB/s, 450 GB/s; H200: the same
at 4.8 TB/s and 1979 TFLOP/s in fp8; 8 devices in a domain, 50 GB/s between domains. All matrices in
bf16 (2 bytes) unless noted.
"""

import tomllib
from dataclasses import dataclass

import pytest

from qsopt import Deployment, Metrics, Workload, evaluate, load_cluster, load_model
from qsopt.catalog.folder import configs
from qsopt.physics.step import OPERATORS

BF16, FP8, NVLINK, NETWORK = 989e12, 1979e12, 450e9, 50e9
H100, H200 = 3.35e12, 4.8e12
EXACTLY = 1e-12


@dataclass(frozen=True)
class Op:
    """One kind of operator of a microbatch in a stage: times run, FLOPs and bytes of one run, and
    what it runs at.
    """

    count: float
    flops: float
    bytes: float
    peak: float = BF16


def agree(
    found: Metrics, ops: dict[str, Op], links: dict[str, float], bandwidth: float, stages: int = 1
) -> float:
    """Check every operator of the breakdown, and return the time of a microbatch in a stage."""
    seconds, flops, traffic = (
        dict(zip(OPERATORS, getattr(found.breakdown, name).tolist(), strict=True))
        for name in ("seconds", "flops", "bytes")
    )
    total = 0.0
    for name in OPERATORS:
        if name in ops:
            op = ops[name]
            time = op.count * max(op.flops / op.peak, op.bytes / bandwidth)
            assert flops[name] == pytest.approx(stages * op.count * op.flops, rel=EXACTLY), name
            assert traffic[name] == pytest.approx(stages * op.count * op.bytes, rel=EXACTLY), name
        else:
            time = links.get(name, 0.0)
            assert flops[name] == 0.0, name
            # matrices of zero width, such as those of shared experts that a model lacks, move
            # nothing
            assert name in links or traffic[name] == 0.0, name
        assert seconds[name] == pytest.approx(stages * time, rel=EXACTLY), name
        total += time
    return total


def reached(
    model: str, cluster: str, workload: Workload, deployment: Deployment, efficiency: str = "ideal"
) -> Metrics:
    return evaluate(load_model(model), load_cluster(cluster), workload, deployment, efficiency)


def test_llama_70b_on_four_h100() -> None:
    """h 8192, 80 layers, 64 heads of 128, 8 KV heads, f 28672, V 128256; t = 4, 16 sequences of
    8192 tokens.
    """
    found = reached("llama-3.1-70b", "4xh100", Workload(8192), Deployment(tensor=4, batch=16))
    qkv = 8192 * (2048 + 2 * 2 * 128)  # 64/4 query heads and 8/4 heads of keys and of values
    out = 2048 * 8192
    ffn = 3 * 8192 * 7168
    head = 8192 * 32064
    ops = {
        "attention projections": Op(
            80, 2 * (qkv + out) * 16, 2 * (qkv + out) + 16 * 2 * ((8192 + 2560) + (2048 + 8192))
        ),
        "attention core": Op(
            80, 4 * 16 * 8192 * 64 * 128 / 4, 16 * 8193 * 2 * 2 * 128 * 2
        ),  # one entry more is written
        "dense ffn": Op(80, 2 * ffn * 16, 2 * ffn + 16 * 2 * ((8192 + 14336) + (7168 + 8192))),
        "head": Op(1, 2 * head * 16, 2 * head + 16 * 2 * (8192 + 32064)),
    }
    message = 16 * 8192 * 2
    all_reduce = 2 * 3 / 4 * message / NVLINK
    links = {"attention communication": 80 * all_reduce, "ffn communication": 80 * all_reduce}
    step = agree(found, ops, links, H100)
    assert step == pytest.approx(
        (35.3e9 + 10.7e9) / 3.35e12, rel=0.01
    )  # little else than weights and cache
    assert float(found.tpot) == pytest.approx(step, rel=EXACTLY)
    assert float(found.throughput) == pytest.approx(16 / step, rel=EXACTLY)
    assert float(found.per_device) == pytest.approx(4 / step, rel=EXACTLY)
    weights = 80 * 2 * (qkv + out + ffn + 8192 + 8192) + 2 * (
        2 * head + 8192
    )  # two norms a layer, and the last
    cache = 16 * 8192 * 80 * 2 * 2 * 128 * 2
    assert float(found.memory.weights) == pytest.approx(weights, rel=EXACTLY)
    assert float(found.memory.kv_cache) == pytest.approx(cache, rel=EXACTLY)
    assert float(found.memory.total) == pytest.approx(weights + cache, rel=EXACTLY)
    capacity = 0.9 * 85_520_809_984
    assert float(found.memory.capacity) == pytest.approx(capacity, rel=EXACTLY)
    assert float(found.largest_batch) == (capacity - weights) // (cache / 16)
    assert bool(found.feasible)


def test_llama_70b_on_four_h100_as_measured_kernels_go() -> None:
    """The same with the fitted set: its values as its file states them, its norms and losses worked
    out here.
    """
    found = reached(
        "llama-3.1-70b", "4xh100", Workload(8192), Deployment(tensor=4, batch=16), "kernels"
    )
    seconds = dict(zip(OPERATORS, found.breakdown.seconds.tolist(), strict=True))
    stated = tomllib.loads((configs() / "efficiency" / "kernels.toml").read_text())

    def operator(kind: str, launches: int, flops: float, traffic: float) -> float:
        fit = stated[kind]
        compute, memory = flops / (fit["compute"] * BF16), traffic / (fit["bandwidth"] * H100)
        norm = 1 / fit["softness"]
        return launches * fit["launch_us"] * 1e-6 + (compute**norm + memory**norm) ** (1 / norm)

    def products(*shapes: tuple[float, float]) -> float:
        """Products of 16 tokens with matrices of so many rows and columns, in one go: narrow ones
        lose bandwidth for their weights, and arithmetic.
        """
        width, wide = stated["gemm"]["half_width"], stated["gemm"]["half_columns"]
        flops = sum(2 * 16 * rows * (columns + wide) for rows, columns in shapes)
        traffic = sum(
            2 * rows * (columns + width) + 16 * 2 * (rows + columns) for rows, columns in shapes
        )
        return operator("gemm", len(shapes), flops, traffic)

    core = operator("attention", 1, 4 * 16 * 8192 * 64 * 128 / 4, 16 * 8193 * 2 * 2 * 128 * 2)
    link = stated["scale_up"]
    latency = (link["collective_us"] + 2 * 3 * link["step_us"]) * 1e-6
    sent = 2 * 3 / 4 * (16 * 8192 * 2) / (link["bandwidth"] * NVLINK)
    all_reduce = latency + sent + link["ramp"] * (latency * sent) ** 0.5
    by_hand = {
        "attention projections": 80 * products((8192, 2560), (2048, 8192)),
        "attention core": 80 * core,
        "attention communication": 80 * all_reduce,
        "dense ffn": 80 * products((8192, 14336), (7168, 8192)),
        "ffn communication": 80 * all_reduce,
        "head": products((8192, 32064)),
    }
    for name in OPERATORS:
        assert seconds[name] == pytest.approx(by_hand.get(name, 0.0), rel=EXACTLY), name
    assert float(found.tpot) == pytest.approx(sum(by_hand.values()), rel=EXACTLY)
    server = stated["server_memory"]
    layers = 2 * 2 * server["prompt_tokens"] * max(8192, 64 * 128 / 4, 3 * 28672 / 4)
    logits = server["logit_bytes"] * server["sequences"] * 128256
    assert float(found.memory.activations) == pytest.approx(max(layers, logits), rel=EXACTLY)
    reserve = stated["memory"]["reserve_GiB"] + 2 * server["communication_GiB"]  # two doublings
    assert float(found.memory.reserve) == pytest.approx(reserve * 2**30, rel=EXACTLY)


def test_mixtral_gathered_on_two_stages() -> None:
    """h 4096, 32 layers, 32 heads of 128, 8 KV heads, 8 experts of 14336, 2 used, V 32000.

    8 H200: t = 2, D = 2, p = 2, so n = 4; e = 4, u = 1. 64 sequences: 32 in a stage, 16 on an
    attention rank.
    """
    deployment = Deployment(tensor=2, data=2, pipeline=2, expert=4, batch=64)
    found = reached("mixtral-8x7b", "8xh200", Workload(16384), deployment)
    qkv, out = 4096 * (2048 + 2 * 4 * 128), 2048 * 4096
    expert, router, head = 3 * 4096 * 14336, 4096 * 8, 4096 * 8000
    hit = 8 * (1 - 0.75**32)
    ops = {
        "attention projections": Op(
            16, 2 * (qkv + out) * 16, 2 * (qkv + out) + 16 * 2 * (4096 + 3072 + 2048 + 4096)
        ),
        "attention core": Op(16, 4 * 16 * 16384 * 16 * 128, 16 * 16385 * 2 * 4 * 128 * 2),
        "router": Op(16, 2 * router * 16, 2 * router + 16 * 2 * (4096 + 8)),
        "routed experts": Op(  # 32 tokens at 2 of 8 experts: 16 rows on each device, on 2 experts
            16, 2 * expert * 16, 2 * expert * hit / 4 + 16 * 2 * (4096 + 28672 + 14336 + 4096)
        ),
        "head": Op(1, 2 * head * 32, 2 * head + 32 * 2 * (4096 + 8000)),
    }
    message = 32 * 4096 * 2
    gather = 3 / 4 * message / NVLINK
    links = {
        "attention communication": 16 * 2 * 1 / 2 * (message / 2) / NVLINK,
        "ffn communication": 16 * 2 * gather,  # all-gather before, reduce-scatter after
        "head communication": gather,
        "pipeline communication": message / 2 / NVLINK,
    }
    tau = agree(found, ops, links, H200, stages=2)
    assert float(found.tpot) == pytest.approx(2 * tau, rel=EXACTLY)
    assert float(found.throughput) == pytest.approx(64 / (2 * tau), rel=EXACTLY)
    layer = qkv + out + 8 * expert / 4 + router + 4096 + 4096
    assert float(found.memory.weights) == pytest.approx(2 * (16 * layer + head + 4096), rel=EXACTLY)
    assert float(found.memory.kv_cache) == pytest.approx(
        32 * 16384 * 16 * 2 * 4 * 128 * 2, rel=EXACTLY
    )
    assert float(found.experts_hit) == pytest.approx(hit, rel=EXACTLY)
    assert float(found.reuse) == 8.0
    assert float(found.replicas) == 1.0


def test_mixtral_tensor_parallel_over_two_domains() -> None:
    """16 H100, t = 16 over 2 domains of 8, so KV heads are replicated: 1 on each device of 8/16. e
    = 2, u = 8.

    Speculative decoding: 32 sequences put 2 tokens each into a step, T = 64; two replicas on 40
    devices, 8 idle.
    """
    deployment = Deployment(tensor=16, expert=2, batch=32)
    found = reached("mixtral-8x7b", "40xh100", Workload(10000, tokens_per_step=2), deployment)
    qkv, out = 4096 * (256 + 2 * 128), 256 * 4096
    expert, router, head = 3 * 4096 * 14336 / 8, 4096 * 8, 4096 * 2000
    hit = 8 * (1 - 0.75**64)
    ops = {
        "attention projections": Op(
            32, 2 * (qkv + out) * 64, 2 * (qkv + out) + 64 * 2 * (4096 + 512 + 256 + 4096)
        ),
        "attention core": Op(32, 4 * 32 * 2 * 10000 * 2 * 128, 32 * (10000 + 2) * 2 * 128 * 2),
        "router": Op(32, 2 * router * 64, 2 * router + 64 * 2 * (4096 + 8)),
        "routed experts": Op(
            32, 2 * expert * 64, 2 * expert * hit / 2 + 64 * 2 * (4096 + 3584 + 1792 + 4096)
        ),
        "head": Op(1, 2 * head * 64, 2 * head + 64 * 2 * (4096 + 2000)),
    }
    message = 64 * 4096 * 2
    all_reduce = 2 * 7 / 8 * message / NVLINK + 2 * 1 / 2 * (message / 8) / NETWORK
    links = {"attention communication": 32 * all_reduce, "ffn communication": 32 * all_reduce}
    tau = agree(found, ops, links, H100)
    assert float(found.tpot) == pytest.approx(tau / 2, rel=EXACTLY)
    assert float(found.step) == pytest.approx(tau, rel=EXACTLY)
    assert float(found.throughput) == pytest.approx(2 * 32 * 2 / tau, rel=EXACTLY)
    assert float(found.per_device) == pytest.approx(2 * 32 * 2 / tau / 40, rel=EXACTLY)
    assert float(found.memory.kv_cache) == pytest.approx(32 * 10000 * 32 * 2 * 128 * 2, rel=EXACTLY)
    layer = qkv + out + 8 * (3 * 4096 * 14336) / 16 + router + 4096 + 4096
    assert float(found.memory.weights) == pytest.approx(
        2 * (32 * layer + 2 * head + 4096), rel=EXACTLY
    )


def test_deepseek_v3_dispatched_over_two_domains() -> None:
    """h 7168, 61 layers of MLA, 3 dense of 18432, 58 of 256 experts of 2048 (8 used, 1 shared), V
    129280.

    16 H200: t = 2, D = 8, n = 16; e = 8, u = 2. 256 sequences: 32 on an attention rank, tokens of
    16 on a device for its experts. Layer weights are fp8 (1 byte), tables, router and norms bf16,
    the cache bf16; the core runs in bf16.
    """
    deployment = Deployment(tensor=2, data=8, expert=8, batch=256, dispatched=1.0)
    found = reached("deepseek-v3", "16xh200", Workload(4096), deployment)
    down, query = 7168 * (1536 + 512 + 64), 1536 * 64 * (128 + 64)
    up_key, up_value, out = 64 * 128 * 512, 64 * 512 * 128, 64 * 128 * 7168
    attention = down + query + up_key + up_value + out
    moved = (7168 + 2112) + (1536 + 12288) + (8192 + 32768) + (32768 + 8192) + (8192 + 7168)
    dense, shared, router, head = 3 * 7168 * 1152, 3 * 7168 * 2048, 7168 * 256, 7168 * 8080
    shard = 3 * 7168 * 1024
    hit = 256 * (1 - (1 - 8 / 256) ** 256)
    ops = {
        "attention projections": Op(61, 2 * attention * 32, attention + 32 * 2 * moved, FP8),
        "attention core": Op(61, 2 * 32 * 4096 * 64 * (2 * 512 + 64), 32 * 4097 * 576 * 2),
        "dense ffn": Op(3, 2 * dense * 256, dense + 256 * 2 * (7168 + 2304 + 1152 + 7168), FP8),
        "shared experts": Op(
            58, 2 * shared * 16, shared + 16 * 2 * (7168 + 4096 + 2048 + 7168), FP8
        ),  # whole, 16 tokens
        "router": Op(58, 2 * router * 32, 2 * router + 32 * 2 * (7168 + 256)),
        "routed experts": Op(  # 256 * 8/8 rows on each device, half an expert wide
            58, 2 * shard * 256, shard * hit / 8 + 256 * 2 * (7168 + 2048 + 1024 + 7168), FP8
        ),
        "head": Op(1, 2 * head * 256, 2 * head + 256 * 2 * (7168 + 8080)),
    }
    message = 256 * 7168 * 2
    gather = 7 / 8 * message / NVLINK + 1 / 2 * (message / 8) / NETWORK
    # a token's 8 experts lie in 8 (1 - (7/8)^8) of 8 places of 2 shards each, 2 domains of 8:
    # so many times (2 - 2/8) copies inside; they stay in 4 of 8 groups of experts, half of which
    # are in the other domain
    places = 8 * (1 - (7 / 8) ** 8)
    one_way = 16 * 7168 * 2 * (places * (2 - 2 / 8) / NVLINK + 1 * (1 - 0.5**4) / NETWORK)
    links = {
        "attention communication": 61 * 2 * 1 / 2 * (message / 8) / NVLINK,
        "ffn communication": 3 * 2 * gather + 58 * 2 * one_way,
        "head communication": 2 * gather,  # the last hidden states and the embeddings
    }
    tau = agree(found, ops, links, H200)
    assert float(found.tpot) == pytest.approx(tau, rel=EXACTLY)
    assert float(found.throughput) == pytest.approx(256 / tau, rel=EXACTLY)
    weights = 61 * (attention + 2 * 9216) + 3 * (dense + 2 * 7168)
    weights += 58 * (shared + 256 * shared / 16 + 2 * (router + 7424)) + 2 * (2 * head + 7168)
    cache = 32 * 4096 * 576 * 2 * 61
    assert float(found.memory.weights) == pytest.approx(weights, rel=EXACTLY)
    assert float(found.memory.kv_cache) == pytest.approx(cache, rel=EXACTLY)
    capacity = 0.9 * 150_754_820_096
    assert float(found.largest_batch) == (capacity - weights) // (cache / 32) * 8
    assert float(found.experts_hit) == pytest.approx(hit, rel=EXACTLY)


def test_deepseek_v3_gathered_on_three_stages_of_a_domain() -> None:
    """24 H200: t = 1, D = 8, p = 3, n = 8; e = 4, u = 2; shared experts are split over n;
    ceil(61/3) = 21 layers a stage.

    96 sequences: 32 in a stage, 4 on a rank. Stages lie in different domains, so activations cross
    the network.
    """
    deployment = Deployment(data=8, pipeline=3, expert=4, batch=96)
    found = reached("deepseek-v3", "24xh200", Workload(30000), deployment)
    share = 21 / 61
    attention = 7168 * 2112 + 1536 * 24576 + 2 * 128 * 128 * 512 + 16384 * 7168
    moved = (7168 + 2112) + (1536 + 24576) + (16384 + 65536) + (65536 + 16384) + (16384 + 7168)
    dense, shared, router, head = 3 * 7168 * 2304, 3 * 7168 * 256, 7168 * 256, 7168 * 16160
    shard, hit = 3 * 7168 * 1024, 256 * (1 - (1 - 8 / 256) ** 32)
    ops = {
        "attention projections": Op(61 * share, 2 * attention * 4, attention + 4 * 2 * moved, FP8),
        "attention core": Op(61 * share, 2 * 4 * 30000 * 128 * (2 * 512 + 64), 4 * 30001 * 576 * 2),
        "dense ffn": Op(
            3 * share, 2 * dense * 32, dense + 32 * 2 * (7168 + 4608 + 2304 + 7168), FP8
        ),
        "shared experts": Op(
            58 * share, 2 * shared * 32, shared + 32 * 2 * (7168 + 512 + 256 + 7168), FP8
        ),
        "router": Op(58 * share, 2 * router * 4, 2 * router + 4 * 2 * (7168 + 256)),
        "routed experts": Op(
            58 * share, 2 * shard * 64, shard * hit / 4 + 64 * 2 * (7168 + 2048 + 1024 + 7168), FP8
        ),
        "head": Op(1, 2 * head * 32, 2 * head + 32 * 2 * (7168 + 16160)),
    }
    message = 32 * 7168 * 2
    gather = 7 / 8 * message / NVLINK
    links = {
        "ffn communication": 61 * share * 2 * gather,
        "head communication": gather,
        "pipeline communication": message / 8 / NETWORK,
    }
    tau = agree(found, ops, links, H200, stages=3)
    assert float(found.tpot) == pytest.approx(3 * tau, rel=EXACTLY)
    assert float(found.throughput) == pytest.approx(96 / (3 * tau), rel=EXACTLY)
    weights = 21 * (attention + 2 * 9216) + 3 * share * (dense + 2 * 7168)
    weights += 58 * share * (shared + 256 * (3 * 7168 * 2048) / 8 + 2 * (router + 7424)) + 2 * (
        head + 7168
    )
    assert float(found.memory.weights) == pytest.approx(weights, rel=EXACTLY)
    assert float(found.memory.kv_cache) == pytest.approx(12 * 30000 * 576 * 2 * 21, rel=EXACTLY)
