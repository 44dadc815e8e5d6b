"""Shapes of released models: ranges that follow from the catalog, and what leaves them."""

import dataclasses

import equinox as eqx
import numpy as np
import pytest

from qsopt import load_model
from qsopt.proposals.measures import measures, off_step
from qsopt.proposals.priors import COVERED, DENSE, MOE, beyond, depth, priors, shapes


def test_measures_of_deepseek_v3_by_hand() -> None:
    found = measures(load_model("deepseek-v3"))
    assert found["hidden_over_layers"] == pytest.approx(7168 / 61)
    assert found["granularity"] == pytest.approx(2 * 7168 / 2048)
    assert found["active_share"] == pytest.approx(9 / 257)
    assert found["active_width_over_hidden"] == pytest.approx(9 * 2048 / 7168)
    assert (found["experts"], found["top_k"], found["shared_experts"]) == (256, 8, 1)
    assert found["leading_dense"] == 3
    assert "kv_heads" not in found  # latents have none


def test_measures_of_a_dense_model_by_hand() -> None:
    found = measures(load_model("llama-3.1-70b"))
    assert found["width_over_hidden"] == pytest.approx(28672 / 8192)
    assert (found["kv_heads"], found["head_dim"]) == (8, 128)
    assert found["heads_over_hidden"] == pytest.approx(1.0)
    assert "experts" not in found


@pytest.mark.parametrize("family", [DENSE, MOE])
def test_ranges_cover_the_share_of_the_catalog_that_they_say(family: str) -> None:
    for name, span in priors(family).items():
        values = np.array([row[name] for row in shapes().values() if name in row])
        assert span.least == values.min()
        assert span.most == values.max()
        assert span.models == len(values)
        inside = (values >= span.low * (1 - 1e-9)) & (values <= span.high * (1 + 1e-9))
        assert inside.mean() >= COVERED - 1e-9, name
        assert shapes()[span.lowest][name] == span.least


def test_usual_layers_grow_with_size_and_centre_on_the_catalog() -> None:
    law = depth()
    assert 0 < law.growth < 0.5
    logs = [np.log(row["layers_for_size"]) for row in shapes().values()]
    assert np.mean(logs) == pytest.approx(0.0, abs=1e-9)


def test_released_models_are_not_beyond_and_a_strange_one_is() -> None:
    model = load_model("qwen3-235b-a22b")
    assert beyond(model, priors(MOE)) == []
    flat = dataclasses.replace(model, layers=4.0)
    told = " ".join(beyond(flat, priors(MOE)))
    assert "hidden over layers" in told
    assert "released" in told
    assert off_step(model) == []
    odd = eqx.tree_at(lambda m: m.hidden, model, np.float64(4100))
    assert off_step(odd) == ["hidden size 4100"]
