"""Ranks that share a cache, and places for experts: by hand, and as laws."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from physics_designs import efficiency, h100

from qsopt import Deployment, Workload, evaluate, load_accelerator, load_cluster, load_model
from qsopt.physics.kv_cache import kv_bytes_per_token
from qsopt.physics.step import OPERATORS
from qsopt.spec.counterfactual import ACTUAL
from qsopt.spec.formats import number_format

LATENT, GROUPED = "deepseek-v3", "qwen3-235b-a22b"
CONTEXT = 32768.0


def reached(model: str, which: str = "ideal", **sizes: float):
    design = Deployment(batch=64, **sizes)
    return evaluate(load_model(model), load_cluster("16xh200"), Workload(CONTEXT), design, which)


def seconds(metrics, operator: str) -> float:
    return float(metrics.breakdown.seconds[OPERATORS.index(operator)])


@pytest.mark.parametrize(("model", "shares"), [(LATENT, 8), (GROUPED, 2)])
def test_ranks_that_share_a_cache_hold_a_part_each(model: str, shares: int) -> None:
    alone, shared = (reached(model, tensor=8, dcp=size) for size in (1, shares))
    assert float(shared.memory.kv_cache) == pytest.approx(float(alone.memory.kv_cache) / shares)
    assert float(shared.memory.weights) == float(alone.memory.weights)
    flops = (
        float(each.breakdown.flops[OPERATORS.index("attention core")]) for each in (alone, shared)
    )
    assert next(flops) == pytest.approx(next(flops))
    assert seconds(shared, "attention core") < seconds(alone, "attention core")
    assert seconds(shared, "attention communication") > seconds(alone, "attention communication")


def test_messages_of_a_shared_cache_by_hand() -> None:
    """DeepSeek-V3, t = c = 8, 64 sequences: every rank gathers the queries of 128 heads of 576
    values, and scatters 512 values and a float32 for each; 7/8 of both leave a device.
    """
    alone, shared = (reached(LATENT, tensor=8, dcp=size) for size in (1, 8))
    sent = 64 * 128 * (576 * 2 + 512 * 2 + 4) * 7 / 8
    link = 61 * sent / float(load_accelerator("h200", 8).scale_up_bandwidth)
    extra = seconds(shared, "attention communication") - seconds(alone, "attention communication")
    assert extra == pytest.approx(link, rel=1e-9)


def test_one_rank_that_shares_changes_nothing() -> None:
    for which in ("ideal", "fitted"):
        one, other = (reached(LATENT, which, tensor=8, **given) for given in ({}, {"dcp": 1}))
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("experts", [8, 16])
def test_as_many_places_as_experts_are_no_places_of_their_own(experts: int) -> None:
    plain, same = (
        reached(LATENT, "fitted", tensor=2, data=8, expert=experts, expert_slots=slots)
        for slots in (0, 256)
    )
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(same), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_uneven_ranks_hold_whole_places() -> None:
    """256 experts on 12 ranks: 22 places on the fullest, 264 filled or not."""
    model, cluster = load_model(LATENT), load_cluster("12xh200")
    sizes = {"data": 12, "expert": 12, "batch": 96}
    designs = [Deployment(expert_slots=slots, **sizes) for slots in (0, 264)]
    bare, filled = (
        evaluate(model, cluster, Workload(CONTEXT), design, "ideal") for design in designs
    )
    assert float(bare.memory.weights) == float(filled.memory.weights)
    even = evaluate(model, cluster, Workload(CONTEXT), Deployment(data=12, batch=96), "ideal")
    more = 58 * (22 - 256 / 12) * 3 * 7168 * 2048  # fp8, one byte
    assert float(bare.memory.weights - even.memory.weights) == pytest.approx(more, rel=1e-9)
    routed = OPERATORS.index("routed experts")
    rows = [float(each.breakdown.flops[routed]) for each in (bare, filled)]
    assert rows[0] == pytest.approx(rows[1] * 22 / (256 / 12), rel=1e-9)


def test_formats_run_at_the_arithmetic_of_the_accelerator() -> None:
    form = number_format("mxfp4")
    old, new, amd = (load_accelerator(name, 8) for name in ("h100", "b200", "mi355x"))
    assert float(old.peak(form)) == float(old.peak(number_format("bf16")))
    assert float(new.peak(form)) == float(new.peak(number_format("fp8")))
    assert float(amd.peak(form)) == float(amd.peak(number_format("nvfp4")))


def test_indexer_keys_are_fp8_with_a_scale() -> None:
    """128 values and a scale of 4 bytes a token and layer, whatever the cache is stored in."""
    model = load_model("deepseek-v3.2")
    growth = [
        float(kv_bytes_per_token(eqx.tree_at(lambda m: m.precision.kv_cache, model, form)))
        for form in (number_format("bf16"), number_format("fp8"))
    ]
    assert growth == pytest.approx([61 * (576 * 2 + 132), 61 * (576 + 132)])


def test_overlap_hides_messages_where_microbatches_take_turns() -> None:
    """With attention data parallelism or dispatch, for dense layers and experts alike."""
    base = efficiency("ideal")
    half = eqx.tree_at(lambda e: e.ffn_overlap, base, jnp.asarray(0.5))
    for name in (LATENT, "llama-3.1-70b"):
        for data, share in ((1, 1.0), (2, 0.5)):
            design = Deployment(tensor=4, data=data, batch=64)
            spent = [
                seconds(
                    evaluate(load_model(name), h100(8), Workload(CONTEXT), design, which, ACTUAL),
                    "ffn communication",
                )
                for which in (base, half)
            ]
            assert spent[1] == pytest.approx(share * spent[0], rel=1e-12)
