"""Architectures as models and as configs: the compiled form and the file say the same."""

import jax
import numpy as np
import pytest

from qsopt import load_model, parameter_count
from qsopt.catalog.huggingface import read_config
from qsopt.proposals.architecture import as_row, built, from_rows, is_dense, padded, trimmed
from qsopt.proposals.bodies import body_of, plain_body
from qsopt.proposals.configs import config_of, model_of
from qsopt.proposals.rows import row_of

REFERENCES = ("qwen3-235b-a22b", "mixtral-8x7b", "deepseek-v3", "gpt-oss-120b", "llama-3.1-70b")


def row(**sizes: float) -> np.ndarray:
    none = {"experts": 1, "top_k": 1, "shared": 0, "leading": 0}
    return as_row({**none, **sizes})


def rows_for(kv: float) -> dict[str, np.ndarray]:
    return {
        "dense": row(layers=48, hidden=4096, kv=kv, width=14336),
        "plain": row(layers=61, hidden=7168, kv=kv, experts=256, top_k=8, width=2048),
        "shared": row(
            layers=61, hidden=6144, kv=kv, experts=128, top_k=4, width=1536, shared=1, leading=3
        ),
        "leading": row(layers=24, hidden=2048, kv=kv, experts=64, top_k=4, width=1024, leading=1),
    }


@pytest.mark.parametrize("name", REFERENCES)
def test_compiled_model_is_the_model_of_the_config(name: str) -> None:
    body = body_of(load_model(name))
    for label, numbers in rows_for(body.kv).items():
        read = model_of(numbers, body)
        made = trimmed(jax.tree.map(np.asarray, built(from_rows(numbers), body)))
        assert jax.tree.structure(read) == jax.tree.structure(made), label
        for one, other in zip(jax.tree.leaves(read), jax.tree.leaves(made), strict=True):
            assert float(one) == pytest.approx(float(other), rel=1e-12), label


@pytest.mark.parametrize(
    "name", ["qwen3-235b-a22b", "mixtral-8x7b", "deepseek-v3", "llama-3.1-70b"]
)
def test_a_plain_reference_is_an_architecture_of_its_own_body(name: str) -> None:
    model = load_model(name)
    body = body_of(model)
    assert body.replaced == ()
    found = row_of(model, body)
    assert found is not None
    again = read_config(config_of(found, body, 4096))
    assert float(parameter_count(again).total) == float(parameter_count(model).total)


def test_a_reference_with_windows_gets_grouped_heads_and_says_so() -> None:
    model = load_model("gpt-oss-120b")
    body = body_of(model)
    assert any("attention" in text for text in body.replaced)
    assert row_of(model, body) is None


def test_parameters_by_hand() -> None:
    body = plain_body()
    numbers = row(layers=2, hidden=1024, kv=8, experts=8, top_k=2, width=256)
    heads, dim, table = 8, 128, 151936 * 1024
    attention = 1024 * (heads * dim + 2 * 8 * dim) + heads * dim * 1024 + 1024 + 2 * dim
    experts = 8 * 3 * 1024 * 256 + 1024 * 8 + 1024
    total = 2 * (attention + experts) + 2 * table + 1024
    assert float(parameter_count(model_of(numbers, body)).total) == total


def test_one_expert_or_all_of_them_is_dense() -> None:
    table = np.stack(
        [
            row(layers=2, hidden=1024, kv=8, width=256),
            row(layers=2, hidden=1024, kv=8, width=256, experts=8, top_k=8),
            row(layers=2, hidden=1024, kv=8, width=256, experts=8, top_k=7),
        ]
    )
    assert is_dense(table).tolist() == [True, True, False]


def test_padding_changes_no_count() -> None:
    for name in ("qwen3-14b", "mixtral-8x7b", "deepseek-v3"):
        model = load_model(name)
        assert float(parameter_count(padded(model)).total) == float(parameter_count(model).total)


def test_transformers_builds_every_class_with_as_many_parameters() -> None:
    """On the meta device; only where torch and transformers are installed."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    for name in REFERENCES:
        body = body_of(load_model(name))
        for numbers in rows_for(body.kv).values():
            if body.attention != "grouped" and not is_dense(numbers) and not numbers[5]:
                continue  # DeepSeek-V3 always has shared experts
            fields = config_of(numbers, body, 4096)
            fields.pop("quantization_config", None)
            config = transformers.AutoConfig.for_model(**fields)
            with torch.device("meta"):
                made = transformers.AutoModelForCausalLM.from_config(config)
            count = sum(each.numel() for each in made.parameters())
            bias = sum(
                each.numel() for key, each in made.named_buffers() if "correction_bias" in key
            )
            expected = float(parameter_count(model_of(numbers, body)).total)
            assert count + bias == expected, (name, fields["model_type"])
