"""Ways of serving: limits in which they meet, laws, and hand-worked numbers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from serving_designs import deployment, served

from qsopt import InputError, Workload
from qsopt.physics.evaluate import compiled_metrics
from qsopt.physics.memory import sequence_bytes
from qsopt.physics.prefill import prefill_phase
from qsopt.serving.disaggregated import cache_bytes, link_speed, split_of, transfer
from qsopt.serving.metrics import compiled_request_metrics as metrics
from qsopt.serving.one_pool import needed
from qsopt.serving.plan import Plan, in_one_pool
from qsopt.serving.queue import busiest, waiting
from qsopt.serving.replica import Served
from qsopt.spec.service import Service

LAYOUT = {"tensor": 2.0, "data": 2.0, "pipeline": 2.0, "expert": 2.0, "batch": 128.0}


def plan(tokens: float, **sizes: float) -> Plan:
    layout = deployment(**{**LAYOUT, **sizes})
    return jax.tree.map(jnp.asarray, in_one_pool(layout, tokens))


def pools(tokens: float, sharing: float = 1.0, decode=None, prefill=None) -> Plan:
    writes = deployment(**(decode or {"tensor": 2.0, "data": 2.0, "expert": 2.0, "batch": 64.0}))
    reads = deployment(**(prefill or {"tensor": 2.0}))
    return jax.tree.map(jnp.asarray, Plan(writes, reads, tokens, sharing))


def decode(found: Served):
    """Metrics of a decode step alone, at the context of the requests."""
    context = found.service.workload.context
    service = eqx.tree_at(
        lambda s: s.workload,
        found.service,
        Workload(context, utilization=found.service.workload.utilization),
    )
    return compiled_metrics(found.model, service, deployment(**LAYOUT))


# ---- limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["gqa", "mla", "hybrid"])
def test_decode_alone_is_a_decode_step(model: str) -> None:
    found = served(model)
    alone, step = metrics(found, plan(4096.0), "decode"), decode(found)
    for name in ("throughput", "tpot", "per_user", "per_device"):
        assert float(getattr(alone, name)) == pytest.approx(float(getattr(step, name)), rel=1e-12)
    assert float(alone.memory.total) == pytest.approx(float(step.memory.total), rel=1e-12)
    assert float(alone.ttft) == 0.0


@pytest.mark.parametrize("which", ["ideal", "fitted"])
@pytest.mark.parametrize("model", ["gqa", "mla"])
def test_long_answers_without_prompts_are_decode_alone(model: str, which: str) -> None:
    """A prompt of one token and a million of answer."""
    found = served(model, which, prompt=1.0, answer=1e6)
    step = decode(found)
    for way in ("mixed", "alternating"):
        reached = metrics(found, plan(64.0), way)
        assert float(reached.throughput) == pytest.approx(float(step.throughput), rel=1e-3)
        assert float(reached.tpot) == pytest.approx(float(step.tpot), rel=1e-3)


@pytest.mark.parametrize("model", ["gqa", "mla"])
def test_prompts_alone_are_prefill(model: str) -> None:
    """Answers that cost nothing leave the rate at which full pipelines read prompts."""
    found = served(model, "kernels", answer=1e-6)
    for way, given in (("alternating", plan(2 * 4096.0)), ("disaggregated", pools(4096.0))):
        reached = metrics(found, given, way)
        alone = prefill_phase(found.model, found.service, given.prefill, given.tokens)
        rate = float(reached.prefill_replicas / alone.per_prompt)
        assert float(reached.requests) == pytest.approx(rate, rel=1e-4)


def test_mixed_without_prompt_tokens_is_decode() -> None:
    """c = 0: what is cached is not read, and answers are long."""
    found = served("mla", "fitted", prompt=4096.0, cached=1.0, answer=1e9)
    mixed = metrics(found, plan(64.0), "mixed")
    alone = metrics(found, plan(64.0), "decode")
    assert float(mixed.tpot) == pytest.approx(float(alone.tpot), rel=1e-4)


@pytest.mark.parametrize("way", ["mixed", "alternating", "disaggregated"])
def test_cached_prompts_cost_almost_nothing(way: str) -> None:
    """A cached share of 1 leaves the last token to read, and decode alone."""
    found = served("gqa", "ideal", cached=1.0)
    given = pools(64.0) if way == "disaggregated" else plan(64.0)
    reached = metrics(found, given, way)
    step = metrics(found, given, "decode")
    assert float(reached.tpot) == pytest.approx(float(step.tpot), rel=0.02)


# ---- laws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["dense", "gqa", "mla", "hybrid"])
@pytest.mark.parametrize("length", [256.0, 1024.0, 4096.0, 16384.0])
def test_bursts_are_never_slower_than_alternating(model: str, length: float) -> None:
    """Ideal kernels do two works at once in no more time than one after the other."""
    found = served(model, "ideal")
    for batch in (4.0, 64.0, 512.0):
        given = plan(2 * length, batch=batch)
        mixed, alternating = (metrics(found, given, way) for way in ("mixed", "alternating"))
        share = float(needed(found.service.workload, given.decode) / given.tokens)
        if share <= 1.0:
            assert float(mixed.tpot) <= float(alternating.tpot) * (1 + 1e-12)


def test_alternating_is_the_step_and_a_share_of_prefill() -> None:
    """TPOT = scale step + host + host for each layer + interference B prefill / osl, the form that
    is fitted.
    """
    found = served("gqa", "rich")
    given = plan(4 * 4096.0)
    server = found.service.efficiency.server
    bare = eqx.tree_at(
        lambda s: s.service.efficiency.server,
        found,
        jax.tree.map(jnp.asarray, type(server)()),
    )
    step = float(metrics(bare, given, "decode").tpot)
    alone = metrics(bare, given, "alternating")
    prefill = float(alone.ttft) / 2.0 / float(alone.prompts)
    prompts = float(server.prefill_scale) * prefill + float(server.prefill_host / alone.prompts)
    expected = (
        float(server.scale) * step
        + float(server.host)
        + float(server.host_layer * found.model.layers)
        + float(server.interference) * 128.0 * prompts / 700.0
    )
    assert float(metrics(found, given, "alternating").tpot) == pytest.approx(expected, rel=1e-12)


def test_uniform_steps_are_bursts_in_every_step() -> None:
    found = served("gqa")
    given = plan(4096.0)
    tokens = needed(found.service.workload, given.decode)
    every = metrics(found, eqx.tree_at(lambda p: p.tokens, given, tokens), "mixed")
    almost = metrics(found, eqx.tree_at(lambda p: p.tokens, given, tokens * (1 + 1e-9)), "mixed")
    assert bool(every.keeps_up)
    assert float(every.tpot) == pytest.approx(float(almost.tpot), rel=1e-6)
    fewer = metrics(found, eqx.tree_at(lambda p: p.tokens, given, tokens * 0.99), "mixed")
    assert not bool(fewer.keeps_up)


@pytest.mark.parametrize("way", ["mixed", "alternating"])
def test_more_sequences_serve_no_less_and_take_no_less_time(way: str) -> None:
    """What the search relies on, while prompts keep up."""
    for model in ("dense", "gqa", "mla", "hybrid"):
        for which in ("ideal", "fitted"):
            found = served(model, which, prompt=8192.0, answer=500.0)
            for length in (512.0, 4096.0):
                reached = []
                for units in (1, 2, 3, 5, 8, 13, 21, 34, 55, 89):
                    given = plan(2 * length, batch=4.0 * units)
                    one = metrics(found, given, way)
                    if bool(one.keeps_up):
                        reached.append(
                            [float(x) for x in (one.throughput, one.tpot, one.ttft)]
                            + [float(one.memory.total)]
                        )
                assert len(reached) > 2
                steps = np.diff(np.array(reached, dtype=float), axis=0)
                assert np.all(steps >= -1e-9), (model, which, length)


def test_a_limit_is_kept_or_not() -> None:
    """Limits just above and just below what a plan reaches."""
    given = plan(4096.0)
    base = metrics(served(), given, "mixed")
    for name, value in (("ttft_limit", base.ttft), ("tpot_limit", base.tpot)):
        for factor, kept in ((1 + 1e-6, True), (1 - 1e-6, False)):
            limit = {name: float(value) * factor}
            found = metrics(served("gqa", "fitted", "8xh100", False, 0.0, **limit), given, "mixed")
            assert bool(found.feasible) == kept == bool(getattr(found, f"meets_{name[:4]}"))


def test_a_request_ends_after_its_first_token_and_the_rest() -> None:
    reached = metrics(served(), plan(4096.0), "mixed")
    expected = float(reached.ttft) + 699.0 * float(reached.tpot)
    assert float(reached.end_to_end) == pytest.approx(expected, rel=1e-12)
    assert float(reached.requests) == pytest.approx(float(reached.throughput) / 700.0, rel=1e-12)


# ---- memory --------------------------------------------------------------------------------------


def test_prompts_in_progress_take_cache_in_mixed_steps() -> None:
    """Each of two attention ranks reads one prompt, in two forwards of a pipeline of two: that is
    2 (2 + 1)/2 prompts.
    """
    found, given = served("gqa"), plan(4096.0)
    mixed, alternating = (metrics(found, given, way) for way in ("mixed", "alternating"))
    one = sequence_bytes(found.model, jnp.asarray(4096.0), jnp.asarray(4096.0), given.decode)
    held = float(mixed.memory.kv_cache - alternating.memory.kv_cache)
    assert held == pytest.approx(3.0 / 2.0 * float(one) / 2.0, rel=1e-9)
    assert float(mixed.memory.growing) > float(alternating.memory.growing) > 0.0


def test_pools_hold_what_they_need() -> None:
    reached = metrics(served("gqa", "ideal"), pools(4096.0), "disaggregated")
    assert float(reached.prefill_memory.kv_cache) < 0.1 * float(reached.memory.kv_cache)
    assert float(reached.prefill_memory.weights) > 1.9 * float(reached.memory.weights)


# ---- queues --------------------------------------------------------------------------------------


def test_mean_wait_is_that_of_a_simulated_queue() -> None:
    """M/D/1 at 70 % load, simulated."""
    generator = np.random.default_rng(0)
    arrivals = np.cumsum(generator.exponential(1.0 / 0.7, 400_000))
    free, waits = 0.0, np.empty(len(arrivals))
    for place, at in enumerate(arrivals):
        start = max(free, at)
        waits[place], free = start - at, start + 1.0
    expected = float(waiting(jnp.asarray(0.7), jnp.asarray(1.0)))
    assert waits.mean() == pytest.approx(expected, rel=0.03)


def test_a_load_leaves_room_and_adds_a_wait() -> None:
    assert float(busiest(jnp.asarray(0.0))) == 1.0
    busy, idle = served("gqa", "kernels", load=0.5), served("gqa", "kernels")
    one, other = (metrics(found, plan(4096.0), "mixed") for found in (busy, idle))
    forwards = float(other.ttft) * 2.0 / 3.0
    assert float(one.ttft) == pytest.approx(float(other.ttft) + 0.5 * forwards, rel=1e-9)
    two, rest = (metrics(found, pools(4096.0), "disaggregated") for found in (busy, idle))
    assert float(two.ttft) > float(rest.ttft)
    assert float(two.requests) <= float(rest.requests)


# ---- two pools -----------------------------------------------------------------------------------


def test_best_split_by_brute_force() -> None:
    """Every pair of whole numbers of replicas of random pools."""
    generator = np.random.default_rng(1)
    fast = jax.jit(split_of)
    for _ in range(300):
        devices = int(generator.integers(2, 130))
        reads, writes = np.exp(generator.normal(0.0, 1.5, 2))
        sizes = generator.integers(1, 20, 2)
        best = 0.0
        for readers in range(1, devices // sizes[0] + 1):
            writers = (devices - readers * sizes[0]) // sizes[1]
            best = max(best, min(readers * reads, writers * writes))
        found = fast(float(devices), reads, float(sizes[0]), writes, float(sizes[1]))
        assert float(found.requests) == pytest.approx(best, rel=1e-12), (devices, sizes)
        used = float(found.readers) * sizes[0] + float(found.writers) * sizes[1]
        assert used <= devices or best == 0.0


def test_real_split_balances_both_pools() -> None:
    found = split_of(100.0, 3.0, 4.0, 2.0, 1.0, softness=jnp.asarray(0.1))
    assert float(found.requests) == pytest.approx(100 / (4 / 3 + 1 / 2), rel=1e-9)
    assert float(found.readers) * 3.0 == pytest.approx(float(found.writers) * 2.0, rel=1e-6)


def test_the_cache_moves_over_the_links_of_those_that_hold_it() -> None:
    """12 layers of 2 x 4 heads of 64 in bf16 for 4096 tokens, over two devices inside a domain and
    beyond it.
    """
    for phrase, speed in (("8xh100", "scale_up"), ("16xh100", "scale_out")):
        found = served("gqa", on=phrase)
        assert float(cache_bytes(found)) == 12 * 2 * 4 * 64 * 2 * 4096
        chip = found.service.cluster.accelerator
        reached = float(
            getattr(chip, f"{speed}_bandwidth") * getattr(found.service.efficiency, speed).bandwidth
        )
        assert float(link_speed(found)) == pytest.approx(reached, rel=1e-9)
        two = float(transfer(found, jnp.asarray(2.0)))
        assert two == pytest.approx(12 * 2 * 4 * 64 * 2 * 4096 / 2 / reached, rel=1e-9)


def test_slow_links_bound_the_requests() -> None:
    found = served("gqa", on="16xh100")
    slow = eqx.tree_at(
        lambda s: s.service.cluster.accelerator.scale_out_bandwidth, found, jnp.asarray(1e6)
    )
    reached = metrics(slow, pools(4096.0), "disaggregated")
    bytes_moved = float(reached.requests * cache_bytes(slow))
    most = float(jnp.minimum(reached.prefill_replicas * 2.0, reached.decode_replicas * 4.0))
    assert bytes_moved <= most * float(link_speed(slow)) * (1 + 1e-9)
    assert float(reached.requests) < 0.1 * float(
        metrics(found, pools(4096.0), "disaggregated").requests
    )


def test_sharing_a_prompt_answers_sooner_and_serves_less() -> None:
    apart, together = (
        metrics(
            served("gqa", "kernels", prompt=16384.0),
            pools(16384.0 * 4.0 / sharing, sharing, prefill={"data": 4.0}),
            "disaggregated",
        )
        for sharing in (1.0, 4.0)
    )
    assert float(together.ttft) < 0.5 * float(apart.ttft)


# ---- input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({}, "prompt and an answer"),
        ({"context": 1.0, "prompt": 1.0, "answer": 1.0}, "one of the two"),
        ({"prompt": 1.0}, "prompt and an answer"),
        ({"prompt": 1.0, "answer": 0.0}, "answer"),
        ({"prompt": -1.0, "answer": 1.0}, "prompt"),
        ({"prompt": 1.0, "answer": 1.0, "cached": 1.5}, "cached"),
        ({"prompt": 1.0, "answer": 1.0, "load": 1.0}, "load"),
        ({"prompt": 1.0, "answer": 1.0, "acceptance": -0.1}, "acceptance"),
        ({"prompt": 1.0, "answer": 1.0, "ttft_limit": 0.0}, "ttft_limit"),
        ({"prompt": float("nan"), "answer": 1.0}, "prompt"),
    ],
)
def test_bad_workloads_are_refused(given: dict, word: str) -> None:
    with pytest.raises(InputError, match=word):
        Workload(**given)


def test_a_workload_of_requests_decodes_at_its_mean_context() -> None:
    asked = Workload(prompt=8192.0, answer=1024.0, cached=0.5)
    assert float(asked.context) == 8192.0 + 512.0
    assert float(asked.read) == 4096.0
    assert float(asked.encoder_tokens) == 8192.0
    assert float(Workload(100.0).read) == 100.0


# ---- precision and batches -----------------------------------------------------------------------


@pytest.mark.parametrize("way", ["mixed", "alternating", "disaggregated"])
def test_float32_agrees(way: str) -> None:
    given = pools(4096.0) if way == "disaggregated" else plan(4096.0)
    exact = metrics(served("mla", prompt=1e5), given, way)
    with jax.enable_x64(False):
        single = jax.tree.map(
            lambda x: (
                jnp.asarray(np.asarray(x), dtype=jnp.float32)
                if np.issubdtype(np.asarray(x).dtype, np.floating)
                else jnp.asarray(np.asarray(x))
            ),
            (served("mla", prompt=1e5), given),
        )
        coarse = metrics(*single, way)
    for name in ("throughput", "tpot", "ttft", "requests"):
        assert float(getattr(coarse, name)) == pytest.approx(float(getattr(exact, name)), rel=2e-4)


def test_request_mixes_batch() -> None:
    """A vmap over workloads is the same as one after the other."""
    mixes = [(512.0, 100.0, 0.0), (8192.0, 1000.0, 0.5), (100_000.0, 300.0, 0.9)]
    found, given = served("gqa"), plan(4096.0)

    def of(prompt, answer, cached):
        work = Workload(prompt=prompt, answer=answer, cached=cached)
        service = Service(found.service.cluster, work, found.service.efficiency)
        return metrics(eqx.tree_at(lambda s: s.service, found, service), given, "mixed")

    batched = jax.vmap(of)(*(jnp.asarray(column) for column in zip(*mixes, strict=True)))
    for place, mix in enumerate(mixes):
        one = of(*mix)
        for name in ("throughput", "ttft", "tpot"):
            expected = float(getattr(one, name))
            assert float(getattr(batched, name)[place]) == pytest.approx(expected, rel=1e-12)
