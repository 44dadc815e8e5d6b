"""Prompts read in chunks: hand-worked attention, laws of chunks, and published anchors."""

import csv
import os
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from serving_designs import DENSE, GQA, LINEAR, MLA, WINDOWED, build, deployment, served

from qsopt import Deployment, Workload, load_cluster, load_efficiency, load_model, prefill
from qsopt.calibration.serving.served_run import model_name, precise
from qsopt.catalog.accelerators import load_accelerator
from qsopt.physics import chunks
from qsopt.physics.chunks import Chunk, mean_of_least, whole_prompts
from qsopt.physics.prefill import chunk_of, prefill_phase
from qsopt.physics.step import OPERATORS
from qsopt.spec.hardware import Cluster
from qsopt.spec.layers import NO_WINDOW, Layers, Mla
from qsopt.spec.service import Service

DATA = Path(
    os.environ.get("QSOPT_MEASURED", Path(__file__).parents[2].parent / "shared" / "measured")
)
ONE, TWO = jnp.asarray(1.0), jnp.asarray(2.0)
phase = jax.jit(prefill_phase)


def whole(tokens: float, prompts: float = 1.0, cached: float = 0.0) -> Chunk:
    return jax.tree.map(jnp.asarray, whole_prompts(prompts, tokens, cached))


def chunks_of(tokens: float, count: int) -> list[Chunk]:
    """The chunks of one prompt, one by one."""
    size = tokens / count
    rows = [(size, size, place * size, (place + 1) * size) for place in range(count)]
    return [Chunk(*(jnp.asarray(value) for value in row)) for row in rows]


def seconds(part, **changes):
    """Time of a forward of `tokens` prompt tokens of a small model [s]."""
    found = served(**changes)
    layout = part.pop("layout", deployment())
    return phase(found.model, found.service, layout, jnp.asarray(part["tokens"]))


# ---- attention -----------------------------------------------------------------------------------


def test_whole_prompt_of_grouped_heads_by_hand() -> None:
    """16 heads of 64 over 1000 tokens: 4 x 16 x 64 FLOP for each of 1000^2/2 pairs; queries and
    outputs of 16 heads, keys and values of 4 are moved in 2 bytes, and 2 x 4 x 64 entries of 2
    bytes are cached for each token.
    """
    cost = chunks.softmax_core(GQA, whole(1000.0), ONE, TWO, ONE, ONE, TWO)
    assert float(cost.flops) == 4 * 16 * 64 * 1000**2 / 2
    assert float(cost.bytes) == 1000 * (2 * (16 + 4) * 64 + 2 * 4 * 64) * 2
    assert float(cost.launches) == 1.0


def test_a_chunk_reads_what_is_cached_and_sees_it_all() -> None:
    """100 tokens from position 900: each sees 900 and half of the 100."""
    chunk = Chunk(*(jnp.asarray(x) for x in (100.0, 100.0, 900.0, 1000.0)))
    cost = chunks.softmax_core(GQA, chunk, ONE, TWO, ONE, ONE, TWO)
    assert float(cost.flops) == 4 * 16 * 64 * (100 * 900 + 100**2 / 2)
    moved = 100 * 2 * (16 + 4) * 64 * 2
    assert float(cost.bytes) == moved + (900 + 100) * 2 * 4 * 64 * 2


def test_latent_attention_by_hand() -> None:
    """Expanded, a pair costs 2 x 16 (64 + 32 + 64); absorbed, 2 x 16 (2 x 256 + 32)."""
    absorbed = chunks.absorbed_core(MLA, whole(1000.0), TWO, ONE, TWO)
    assert float(absorbed.flops) == 2 * 8 * (2 * 256 + 32) * 1000**2 / 2
    assert float(absorbed.bytes) == 1000 * (256 + 32) * 2
    expanded = chunks.expanded_core(MLA, whole(1000.0), TWO, ONE, TWO, TWO)
    assert float(expanded.flops) == 2 * 8 * (64 + 32 + 64) * 1000**2 / 2
    moved = 2 * 8 * (64 + 32 + 64) * 2
    assert float(expanded.bytes) == 1000 * (moved + (256 + 32) * 2)
    chunk = Chunk(*(jnp.asarray(x) for x in (100.0, 100.0, 900.0, 1000.0)))
    again = chunks.expansion(MLA, chunk, ONE, TWO, TWO)
    assert float(again.flops) == 2 * 900 * 256 * 8 * (64 + 64)
    assert float(again.bytes) == 900 * (256 + 8 * 128) * 2


@pytest.mark.parametrize("window", [NO_WINDOW, 5000.0, 700.0, 300.0])
def test_pairs_are_the_sum_over_tokens(window: float) -> None:
    """The integral of min(position, window) against the sum, which has half a token more or less of
    the diagonal.
    """
    for begin, end in ((0, 1000), (400, 1000), (900, 1000)):
        exact = np.minimum(np.arange(begin, end) + 0.5, window).mean()
        found = mean_of_least(jnp.asarray(float(begin)), jnp.asarray(float(end)), window)
        assert float(found) == pytest.approx(exact, rel=2e-4)


@pytest.mark.parametrize("kind", [GQA, WINDOWED, MLA, LINEAR])
@pytest.mark.parametrize("count", [2, 8])
def test_chunks_add_up_to_the_prompt(kind, count: int) -> None:
    """One by one or as a mean: pairs are those of the whole prompt; what is read again is extra."""

    def cost(chunk):
        if kind is LINEAR:
            return chunks.state_update(kind, chunk, ONE, ONE)
        if kind is MLA:
            return chunks.expanded_core(kind, chunk, TWO, ONE, ONE, TWO)
        return chunks.softmax_core(kind, chunk, ONE, TWO, ONE, ONE, TWO)

    prompt = whole(8192.0)
    each = [cost(chunk) for chunk in chunks_of(8192.0, count)]
    mean = eqx.tree_at(lambda c: (c.tokens, c.length), prompt, (jnp.asarray(8192.0 / count),) * 2)
    for total in (sum(float(one.flops) for one in each), count * float(cost(mean).flops)):
        assert total == pytest.approx(float(cost(prompt).flops), rel=1e-12)
    together = sum(float(one.bytes) for one in each)
    assert count * float(cost(mean).bytes) == pytest.approx(together, rel=0.08)
    assert together > float(cost(prompt).bytes)


def test_windows_hold_no_more_than_they_see() -> None:
    """Chunks far into a prompt see the window before them and their own part of it."""
    chunk = Chunk(*(jnp.asarray(x) for x in (100.0, 100.0, 90_000.0, 90_100.0)))
    assert float(chunk.seen(3000.0)) == 3000.0
    assert float(chunk.before(3000.0)) == 3000.0


def test_small_chunks_are_absorbed_and_large_ones_expanded() -> None:
    """By arithmetic alone both ways cost the same where 2 c H (nope + v) s of expansion are
    2 H (2 c - nope - v) s for each token of the chunk: 171 tokens of DeepSeek-V3.
    """
    kind = load_model("deepseek-v3").decoder.attention[0].kind
    assert isinstance(kind, Mla)
    tokens = 1e6

    def arithmetic(length: float, absorbed: bool) -> float:
        chunk = Chunk(*(jnp.asarray(x) for x in (length, length, tokens - length, tokens)))
        if absorbed:
            return float(chunks.absorbed_core(kind, chunk, TWO, ONE, ONE).flops)
        extra = chunks.expansion(kind, chunk, ONE, ONE, TWO).flops
        return float(chunks.expanded_core(kind, chunk, TWO, ONE, ONE, TWO).flops + extra)

    assert arithmetic(165.0, True) < arithmetic(165.0, False)
    assert arithmetic(176.0, True) > arithmetic(176.0, False)


def test_the_cheaper_way_is_taken() -> None:
    """A chunk's attention never takes longer than either way alone."""
    model = build((Layers(12, MLA),), (Layers(12, DENSE),))
    for length in (16.0, 64.0, 256.0, 4096.0):
        found = served(model, prompt=1e5, answer=10.0)
        chosen = phase(found.model, found.service, deployment(), jnp.asarray(length))
        core = float(chosen.spent.seconds[OPERATORS.index("attention core")])
        other = eqx.tree_at(
            lambda s: s.efficiency.prefill_mla.compute,
            found.service,
            1e-3 * found.service.efficiency.prefill_mla.compute,
        )
        forced = phase(found.model, other, deployment(), jnp.asarray(length))
        assert core <= float(forced.spent.seconds[OPERATORS.index("attention core")]) * (1 + 1e-12)


# ---- laws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["gqa", "mla", "hybrid"])
@pytest.mark.parametrize("which", ["ideal", "kernels"])
def test_time_of_a_prompt_falls_to_that_of_whole_prompts(model: str, which: str) -> None:
    """Larger chunks read weights and cache less often."""
    times = []
    for length in (128.0, 512.0, 2048.0, 8192.0):
        found = served(model, which, prompt=8192.0)
        done = phase(found.model, found.service, deployment(), jnp.asarray(length))
        assert float(done.forwards) == 8192.0 / length
        times.append(float(done.per_prompt))
    assert times == sorted(times, reverse=True)
    one = prefill(found.model, found.service, deployment())
    assert times[-1] == pytest.approx(float(one.seconds), rel=1e-12)


@pytest.mark.parametrize("which", ["ideal", "kernels"])
def test_what_is_cached_is_not_read(which: str) -> None:
    """Time falls with the cached share to that of one token; without launches little is left."""
    times = []
    for cached in (0.0, 0.25, 0.5, 0.9, 1.0):
        found = served("gqa", which, cached=cached)
        times.append(float(prefill(found.model, found.service, deployment()).seconds))
    assert times == sorted(times, reverse=True)
    one = served(prompt=4096.0, cached=1.0)
    assert float(one.service.workload.read) == 1.0
    if which == "ideal":
        assert times[-1] < 0.25 * times[0]


def test_only_the_last_token_passes_the_head() -> None:
    found = served()
    done = phase(found.model, found.service, deployment(), jnp.asarray(4096.0))
    head = done.spent.flops[OPERATORS.index("head")]
    assert float(head) == 2 * 1024 * 8192


def test_chunks_fill_the_pipeline() -> None:
    """n chunks take n + p - 1 turns of the slowest stage, and a full pipeline one for each."""
    found = served(prompt=8192.0)
    done = phase(found.model, found.service, deployment(pipeline=4.0), jnp.asarray(1024.0))
    assert float(done.latency) == pytest.approx((8 + 3) * float(done.seconds), rel=1e-12)
    assert float(done.per_prompt) == pytest.approx(8 * float(done.seconds), rel=1e-12)
    assert float(done.in_progress) == pytest.approx((8 + 3) / 8, rel=1e-12)


def test_ranks_that_share_a_prompt_answer_it_sooner() -> None:
    """Context parallel: the prompt's own time falls, the messages between them are extra."""
    found, layout = served(prompt=32768.0), deployment(data=8.0)
    one = phase(found.model, found.service, layout, jnp.asarray(8 * 32768.0))
    all_ = phase(found.model, found.service, layout, jnp.asarray(32768.0), jnp.asarray(8.0))
    assert float(one.chunk.finished) == 8.0
    assert float(all_.chunk.finished) == 1.0
    assert 1 / 8 < float(all_.latency / one.latency) < 0.3
    assert float(all_.per_prompt) > float(one.per_prompt)
    ideal = served(which="ideal", prompt=32768.0)
    core = OPERATORS.index("attention core")
    flops = [
        float(phase(ideal.model, ideal.service, layout, tokens, share).spent.flops[core])
        for tokens, share in ((8 * 32768.0, 1.0), (32768.0, 8.0))
    ]
    assert flops[0] == pytest.approx(8 * flops[1], rel=1e-12)


def test_a_context_alone_is_a_prompt_of_its_length() -> None:
    found = served()
    both = [
        prefill(found.model, found.service.cluster, work, Deployment(), found.service.efficiency)
        for work in (Workload(4096.0), Workload(prompt=4096.0, answer=1.0))
    ]
    assert float(both[0].seconds) == float(both[1].seconds)


def test_shares_of_a_forward_are_of_the_attention_ranks() -> None:
    layout = deployment(data=4.0)
    chunk = chunk_of(Workload(prompt=1000.0, answer=1.0), layout, jnp.asarray(1200.0))
    assert [float(chunk.length), float(chunk.pieces), float(chunk.finished)] == [300.0, 4.0, 1.2]
    several = chunk_of(Workload(prompt=100.0, answer=1.0), layout, jnp.asarray(1200.0))
    assert [float(several.length), float(several.finished)] == [100.0, 12.0]


# ---- anchors -------------------------------------------------------------------------------------


def rate(model, cluster: Cluster, layout: Deployment, efficiency, prompts: float) -> float:
    """Prompt tokens per second and device at 4096 tokens a prompt."""
    service = Service(cluster, Workload(prompt=4096.0, answer=1.0), efficiency)
    tokens = np.asarray(prompts * float(layout.data) * 4096.0)
    done = phase(model, service, layout, tokens)
    return float(tokens / done.seconds / layout.replica_devices)


def test_prefill_of_deepseek_v3_reaches_its_published_rate() -> None:
    """32 H100, attention data parallel, experts over all, 4k prompts, tokens dispatched in fp8 to
    at most 4 of 8 groups of experts while the other half of the batch computes: SGLang measured
    50,302 tokens/s a node, and with tokens spread evenly over experts came within 5.6 % of the
    7,839 on each H800 of DeepSeek's own profile (LMSYS, 2025-05-05). Without the overlap it is
    about two thirds.
    """
    fitted = load_efficiency("kernels")
    runs = eqx.tree_at(lambda e: e.dispatch_bytes, fitted, np.asarray(1 + 4 / 128))
    model = eqx.tree_at(
        lambda m: (m.decoder.ffn[-1].kind.groups, m.decoder.ffn[-1].kind.top_groups),
        load_model("deepseek-v3"),
        (np.asarray(8.0), np.asarray(4.0)),
    )
    layout = Deployment(1, 32, 1, 32, 1, 1)
    cluster = load_cluster("32xh100")
    reached = rate(model, cluster, layout, runs, 4.0)
    assert reached == pytest.approx(50_302 / 8, rel=0.15)
    even = eqx.tree_at(lambda e: e.straggler, runs, np.asarray(0.0))
    assert rate(model, cluster, layout, even, 4.0) == pytest.approx(7_839 * (1 - 0.056), rel=0.2)
    alone = eqx.tree_at(lambda e: e.prefill_overlap, runs, np.asarray(0.0))
    assert rate(model, cluster, layout, alone, 4.0) < 0.75 * reached


def test_measured_first_tokens_are_no_sooner_than_the_forward() -> None:
    """At concurrency 1 to 4 a prompt of 8k tokens waits for little but its own forward and for the
    host: measured times are 0.8 to 6 times the forward's.
    """
    path = DATA / "e2e_inferencex.csv"
    if not path.exists():
        pytest.skip("no measurements here")
    rows = [
        row
        for row in csv.DictReader(path.read_text().splitlines())
        if float(row["concurrency"]) <= 4 and row["isl"] == "8192" and row["ttft_ms"]
    ]
    ratios = [float(row["ttft_ms"]) / 1e3 / first_token(row) for row in rows]
    assert len(ratios) > 30
    assert 1.0 < np.median(ratios) < 4.0
    assert np.quantile(ratios, 0.1) > 0.6


def first_token(row: dict[str, str]) -> float:
    """Time of one prompt's forward in the layout of a row [s]."""
    name = {"b200_sxm": "b200", "b300_sxm": "b300", "h100_sxm": "h100", "h200_sxm": "h200"}
    gpu = name.get(row["gpu"], row["gpu"])
    layout = Deployment(float(row["tp"]), float(row["attention_dp"]), 1, float(row["ep"]))
    cluster = Cluster(load_accelerator(gpu, 8), layout.replica_devices)
    model = precise(model_name(row["model"]) or "", row["precision"])
    service = Service(cluster, Workload(prompt=8192.0, answer=1.0), load_efficiency("kernels"))
    tokens = np.asarray(8192.0)
    return float(phase(model, service, layout, tokens, np.asarray(layout.data)).latency)
