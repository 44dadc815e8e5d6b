"""Drafts: layers for multi-token prediction as configs state them, and what they cost."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from serving_designs import deployment, served

from qsopt import load_model, parameter_count
from qsopt.catalog.huggingface.stored import draft_layers
from qsopt.serving.metrics import compiled_request_metrics as metrics
from qsopt.serving.plan import WAYS, Plan, in_one_pool
from qsopt.serving.speculation import drafted_by, next_token_layer


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("deepseek-v3", 1),
        ("glm-4.5", 1),
        ("qwen3.5-35b-a3b", 1),
        ("minimax-m2", 3),
        ("kimi-k2", 0),
        ("mixtral-8x7b", 0),
    ],
)
def test_layers_for_drafts_are_those_of_the_config(name: str, layers: int) -> None:
    model = load_model(name)
    assert float(model.draft_layers) == layers
    assert float(next_token_layer(model).copies) == max(layers, 1)
    words = drafted_by(model)
    assert words.startswith(f"{layers} prediction layer" if layers else "one more layer")


def test_fields_of_other_makers_are_read() -> None:
    assert draft_layers({"num_mtp_layers": 2}) == 2
    assert draft_layers({"num_mtp_modules": 3, "use_mtp": False}) == 0
    assert draft_layers({"hidden_size": 8}) == 0


def test_draft_layers_are_in_no_count() -> None:
    """DeepSeek-V3: 671 B without its module of 14 B."""
    model = load_model("deepseek-v3")
    without = eqx.tree_at(lambda m: m.draft_layers, model, np.float64(0.0))
    assert float(parameter_count(model).total) == float(parameter_count(without).total)
    assert float(parameter_count(model).total) == pytest.approx(671e9, rel=0.002)
    layer = parameter_count(next_token_layer(model).model)
    tables = 2.0 * float(model.vocabulary * model.hidden)
    assert float(layer.total) - tables == pytest.approx(11.6e9, rel=0.05)


def drafting(drafts: bool, **changes: float):
    return served("gqa", "fitted", "8xh100", drafts, 0.0, tokens_per_step=3.0, **changes)


def test_layers_that_are_held_take_memory_and_no_more_time() -> None:
    found = drafting(True, acceptance=0.7)
    more = eqx.tree_at(lambda s: s.draft.copies, found, jnp.asarray(3.0))
    given = in_one_pool(deployment(tensor=2.0, batch=32.0), jnp.asarray(4096.0))
    one, three, alone = (
        metrics(each, given, "mixed") for each in (found, more, drafting(False, acceptance=0.7))
    )
    assert float(three.tpot) == float(one.tpot) > float(alone.tpot)
    first = float(one.memory.weights - alone.memory.weights)
    assert float(three.memory.weights - alone.memory.weights) > 2.5 * first > 0.0


@pytest.mark.parametrize("way", WAYS)
def test_drafts_are_charged_in_every_way(way: str) -> None:
    """Steps that only decode and forwards that only read have drafts of half of what there is."""
    layout = deployment(tensor=2.0, data=2.0, batch=64.0)
    given = Plan(layout, layout, jnp.asarray(8192.0))
    charged, free = (metrics(drafting(each, acceptance=0.7), given, way) for each in (True, False))
    assert np.isfinite(float(charged.throughput))
    assert 1.0 < float(charged.tpot / free.tpot) < 2.0
    if way != "decode":
        assert float(free.ttft) < float(charged.ttft) < 1.5 * float(free.ttft)
