"""Dense matches of an MoE: shapes, sizes, and a model against itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsopt import load_cluster, load_model, model_names, parameter_count
from qsopt.comparison.dense import (
    RELEASED,
    RELEASED_GQA8,
    SAME_BODY,
    dense_match,
    kinds_of,
    match_kind,
    relaxed_matches,
    size_factor,
)
from qsopt.comparison.duel import throughput_of
from qsopt.comparison.shapes import (
    HIDDEN_OVER_LAYERS,
    HIDDEN_OVER_LAYERS_GROWTH,
    WIDTH_OVER_HIDDEN,
    hidden_over_layers,
    released,
)
from qsopt.errors import InputError
from qsopt.report.records.comparison import overall
from qsopt.spec.efficiency import ideal
from qsopt.spec.layers import Gqa
from qsopt.spec.model import moe_layers
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

MOES = ("deepseek-v3", "qwen3-235b-a22b", "mixtral-8x7b", "gpt-oss-120b")
FITTED_ON = (
    "llama-2-7b", "mistral-7b-v0.1", "llama-3.1-8b", "qwen3-8b", "qwen3-14b", "gemma-3-27b",
    "gemma-2-27b", "qwen3-32b", "llama-2-70b", "llama-3.1-70b", "qwen2.5-72b", "mistral-large-2",
    "gpt-3-175b", "falcon-180b", "nemotron-4-340b", "llama-3.1-405b",
)  # fmt: skip


@pytest.mark.parametrize("kind", [SAME_BODY, RELEASED, RELEASED_GQA8])
@pytest.mark.parametrize("name", MOES)
def test_a_match_has_its_size_and_legal_integers(name: str, kind) -> None:
    model = load_model(name)
    wanted = 3.0 * float(parameter_count(model).active)
    match = dense_match(model, jnp.asarray(3.0), kind)
    assert moe_layers(match) is None
    assert float(parameter_count(match).total) == pytest.approx(wanted, rel=0.01)
    assert float(match.layers) == round(float(match.layers))
    assert float(match.hidden) % 32 == 0
    assert float(match.decoder.ffn[0].kind.width) % 128 == 0
    if kind == RELEASED_GQA8:
        attention = match.decoder.attention[0].kind
        assert isinstance(attention, Gqa)
        assert (float(attention.kv_heads), float(attention.head_dim)) == (8.0, 128.0)
        assert float(attention.heads) % 8 == 0


def test_ratios_are_those_of_the_dense_models_of_the_catalog() -> None:
    """Least squares in logs over the models that the page on dense matches lists."""
    rows = []
    for name in FITTED_ON:
        model = load_model(name)
        ffn = model.decoder.ffn[0].kind
        gated = float(ffn.width * ffn.matrices) / 3.0
        size = float(parameter_count(model).total)
        rows.append((size, float(model.hidden / model.layers), gated / float(model.hidden)))
    size, ratio, width = np.array(rows).T
    growth, at = np.polyfit(np.log(size / 1e11), np.log(ratio), 1)
    assert np.exp(at) == pytest.approx(HIDDEN_OVER_LAYERS, rel=2e-3)
    assert growth == pytest.approx(HIDDEN_OVER_LAYERS_GROWTH, abs=2e-3)
    assert np.exp(np.log(width).mean()) == pytest.approx(WIDTH_OVER_HIDDEN, rel=2e-3)


@pytest.mark.parametrize("attention", ["same", "gqa8"])
def test_the_shape_is_smooth_in_the_size(attention) -> None:
    """Derivative of the hidden size against a central difference; the relaxed size is exact."""
    model = load_model("deepseek-v3")
    size = jnp.asarray(158.7e9)
    shaped = jax.jit(lambda x: released(model, x, attention, exact=False))
    assert float(parameter_count(shaped(size)).total) == pytest.approx(158.7e9, rel=1e-9)
    assert float(shaped(size).hidden / shaped(size).layers) == pytest.approx(
        float(hidden_over_layers(size)), rel=1e-9
    )
    slope = float(jax.grad(lambda x: released(model, x, attention).hidden)(size))
    step = 1e6
    numeric = float(shaped(size + step).hidden - shaped(size - step).hidden) / (2 * step)
    assert slope == pytest.approx(numeric, rel=1e-6)


def test_a_released_shape_with_the_ratio_of_a_body_is_near_it() -> None:
    """The same ratio of hidden size over layers and as many parameters: the same layers."""
    model = load_model("mixtral-8x7b")
    body = dense_match(model, jnp.asarray(1.3), SAME_BODY)
    size = parameter_count(body).total
    ratio = jnp.asarray(float(body.hidden / body.layers))
    twin = released(model, size, "same", exact=False, ratio=ratio)
    assert float(twin.hidden / twin.layers) == pytest.approx(128.0)
    assert float(parameter_count(twin).total) == pytest.approx(float(size), rel=1e-9)


def test_relaxed_matches_are_the_exact_ones_but_for_whole_sizes() -> None:
    model = load_model("mixtral-8x7b")
    for kind in kinds_of(model):
        batch = relaxed_matches(model, np.array([1.5, 3.0]), kind)
        exact = dense_match(model, jnp.asarray(3.0), kind)
        assert float(batch.hidden[1]) == pytest.approx(float(exact.hidden), rel=0.02)
        assert float(batch.layers[1]) == pytest.approx(float(exact.layers), rel=0.02)


def test_a_dense_model_against_itself_is_a_tie() -> None:
    dense = load_model("llama-3.1-8b")
    service = Service(load_cluster("4xh100"), Workload(8192.0), ideal())
    moe = load_model("mixtral-8x7b")
    first, second = (throughput_of(dense, moe, service) for _ in range(2))
    assert first == second > 0.0


def test_q_of_a_named_model_is_its_size_over_the_active_parameters() -> None:
    model, dense = load_model("qwen3-235b-a22b"), load_model("qwen2.5-72b")
    q = float(size_factor(model, dense))
    assert q == pytest.approx(72.7 / 22.2, rel=0.02)
    with pytest.raises(InputError, match="dense"):
        size_factor(model, load_model("mixtral-8x7b"))


def test_kinds_by_name() -> None:
    assert match_kind("released", "gqa8") == RELEASED_GQA8
    assert match_kind("same-body", "same") == SAME_BODY
    for wrong in (("wide", "same"), ("released", "mla"), ("same-body", "gqa8")):
        with pytest.raises(InputError):
            match_kind(*wrong)
    assert kinds_of(load_model("switch-c")) == (SAME_BODY,)
    assert set(MOES) <= set(model_names())


def test_a_verdict_over_all_shapes_is_unconditional_only_where_they_agree() -> None:
    assert overall(["dense wins"] * 3) == "dense wins whatever its shape"
    assert overall(["moe wins"] * 3) == "moe wins whatever the dense shape"
    assert overall(["moe wins", "dense wins"]) == "depends on the dense shape"
    assert overall(["moe infeasible"] * 3) == "moe infeasible"
