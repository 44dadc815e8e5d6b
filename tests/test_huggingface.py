"""The importer: layers, windows and parameters come out as the configs say.

Configs are small made-up ones, changed one field at a time. Where a folder of released configs is
at hand (`QSOPT_REFERENCE`, or `shared/reference` beside the checkout), those are read too, and
their totals checked against that folder's table.
"""

import csv
import os
from pathlib import Path

import pytest
from huggingface_configs import (
    DEEPSEEK,
    GPT_OSS,
    LLAMA,
    LLAMA4,
    MIXTRAL,
    NEXT,
    QWEN_MOE,
    SWITCH,
    attention,
    ffn,
    total,
)

from qsopt.catalog.huggingface import read_config
from qsopt.physics.kv_cache import index_key_bytes, kv_bytes_per_token
from qsopt.physics.parameters import parameter_count
from qsopt.spec.layers import NO_WINDOW, DenseFfn, Gqa, LinearAttention, Mla, MoeFfn


def test_llama_by_hand() -> None:
    model = read_config(LLAMA)
    # Per layer: query and output 2*64*64, key and value 2*64*16, gated feed-forward 3*64*96, two
    # norms of 64.
    layer = 2 * 64 * 64 + 2 * 64 * 16 + 3 * 64 * 96 + 2 * 64
    assert parameter_count(model).total == 4 * layer + 64 + 2 * 100 * 64
    assert attention(model) == [(4, Gqa, NO_WINDOW)]
    assert ffn(model) == [(4, DenseFfn, 96)]
    assert float(kv_bytes_per_token(model)) == 4 * 2 * 2 * 8 * 2


def test_defaults_of_the_class() -> None:
    bare = {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"}
    assert total(bare) == total(
        {**LLAMA, "num_key_value_heads": 8, "head_dim": 8, "tie_word_embeddings": False}
    )
    assert total({**LLAMA, "num_key_value_heads": None}) == total(bare)


@pytest.mark.parametrize(
    ("base", "change", "more"),
    [
        (LLAMA, {"tie_word_embeddings": True}, -100 * 64),
        (LLAMA, {"attention_bias": True}, 4 * (64 + 2 * 16 + 64)),
        (LLAMA, {"mlp_bias": True}, 4 * (2 * 96 + 64)),
        (LLAMA, {"model_type": "qwen2"}, 4 * (64 + 2 * 16)),
        (LLAMA, {"model_type": "qwen3", "head_dim": 8}, 4 * 2 * 8),
        (
            LLAMA,
            {"model_type": "gemma3_text", "head_dim": 8, "sliding_window": 8},
            4 * (2 * 64 + 2 * 8) - 100 * 64,
        ),
        (MIXTRAL, {"model_type": "phimoe", "lm_head_bias": True}, 9 * 64 + 100),
        (MIXTRAL, {"model_type": "minimax_m2", "head_dim": 8}, 4 * (64 + 16 + 8)),
        (GPT_OSS, {"attention_bias": False}, -4 * (64 + 2 * 16 + 64)),
        (DEEPSEEK, {"model_type": "deepseek_v2"}, -3 * 8),
        (DEEPSEEK, {"q_lora_rank": None}, 4 * (64 * 96 - 64 * 24 - 24 - 24 * 96)),
        (
            DEEPSEEK,
            {
                "model_type": "deepseek_v32",
                "index_n_heads": 4,
                "index_head_dim": 8,
                "index_topk": 16,
            },
            4 * (24 * 4 * 8 + 64 * (8 + 4) + 2 * 8),
        ),
    ],
)
def test_what_a_field_adds(base: dict, change: dict, more: int) -> None:
    assert total({**base, **change}) - total(base) == more


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({**LLAMA, "model_type": "mistral", "sliding_window": 8}, [(4, Gqa, 8)]),
        ({**LLAMA, "model_type": "mistral", "sliding_window": None}, [(4, Gqa, NO_WINDOW)]),
        (
            {**LLAMA, "model_type": "qwen2", "sliding_window": 8, "use_sliding_window": False},
            [(4, Gqa, NO_WINDOW)],
        ),
        (
            {
                **LLAMA,
                "model_type": "qwen2",
                "sliding_window": 8,
                "use_sliding_window": True,
                "max_window_layers": 3,
            },
            [(3, Gqa, NO_WINDOW), (1, Gqa, 8)],
        ),
        (
            {
                **LLAMA,
                "model_type": "gemma2",
                "head_dim": 8,
                "num_hidden_layers": 5,
                "sliding_window": 8,
            },
            [(3, Gqa, 8), (2, Gqa, NO_WINDOW)],
        ),
        (
            {
                **LLAMA,
                "model_type": "gemma3_text",
                "head_dim": 8,
                "num_hidden_layers": 7,
                "sliding_window": 8,
            },
            [(6, Gqa, 8), (1, Gqa, NO_WINDOW)],
        ),
        (GPT_OSS, [(2, Gqa, 16), (2, Gqa, NO_WINDOW)]),
        (
            {**GPT_OSS, "layer_types": ["full_attention"] * 3 + ["sliding_attention"]},
            [(3, Gqa, NO_WINDOW), (1, Gqa, 16)],
        ),
        (NEXT, [(3, LinearAttention, NO_WINDOW), (1, Gqa, NO_WINDOW)]),
        (
            {**NEXT, "full_attention_interval": 2},
            [(2, LinearAttention, NO_WINDOW), (2, Gqa, NO_WINDOW)],
        ),
        (
            {**MIXTRAL, "model_type": "minimax_m1", "attn_type_list": [0, 0, 0, 1]},
            [(3, LinearAttention, NO_WINDOW), (1, Gqa, NO_WINDOW)],
        ),
        (
            {
                **MIXTRAL,
                "model_type": "minimax",
                "layer_types": ["linear_attention"] * 2 + ["full_attention"] * 2,
            },
            [(2, LinearAttention, NO_WINDOW), (2, Gqa, NO_WINDOW)],
        ),
        (DEEPSEEK, [(4, Mla, NO_WINDOW)]),
    ],
)
def test_attention_of_each_layer(config: dict, expected: list) -> None:
    assert attention(read_config(config)) == expected


@pytest.mark.parametrize(
    ("change", "windows"),
    [
        ({}, [(3, Gqa, 32), (1, Gqa, NO_WINDOW)]),
        ({"no_rope_layers": []}, [(3, Gqa, 32), (1, Gqa, NO_WINDOW)]),
        ({"no_rope_layers": [0, 1, 1, 0]}, [(2, Gqa, NO_WINDOW), (2, Gqa, 32)]),
        ({"attention_chunk_size": None}, [(4, Gqa, NO_WINDOW)]),
    ],
)
def test_chunks_of_llama4(change: dict, windows: list) -> None:
    model = read_config({**LLAMA4, **change})
    assert sorted(attention(model), key=str) == sorted(windows, key=str)
    assert ffn(model) == [(2, DenseFfn, 128), (2, MoeFfn, 96)]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (DEEPSEEK, [(1, DenseFfn, 96), (3, MoeFfn, 32)]),
        ({**DEEPSEEK, "moe_layer_freq": 2}, [(3, DenseFfn, 96), (1, MoeFfn, 32)]),
        (QWEN_MOE, [(4, MoeFfn, 32)]),
        ({**QWEN_MOE, "decoder_sparse_step": 2}, [(2, DenseFfn, 96), (2, MoeFfn, 32)]),
        ({**QWEN_MOE, "mlp_only_layers": [3]}, [(3, MoeFfn, 32), (1, DenseFfn, 96)]),
        ({**LLAMA4, "interleave_moe_layer_step": 1}, [(4, MoeFfn, 96)]),
        ({**LLAMA4, "moe_layers": [0, 1, 2]}, [(3, MoeFfn, 96), (1, DenseFfn, 128)]),
    ],
)
def test_experts_of_each_layer(config: dict, expected: list) -> None:
    assert ffn(read_config(config)) == expected


def test_delta_net_by_hand() -> None:
    layer = read_config(NEXT).decoder.attention[0].kind
    assert isinstance(layer, LinearAttention)
    # Query and key 2*16, value and gate 2*32, two scalars for each of four value heads; state of
    # four 8 by 8 heads.
    assert float(layer.input_width) == 2 * 16 + 2 * 32 + 2 * 4
    assert float(layer.state_bytes) == 4 * 8 * 8 * 4 + (2 * 16 + 32) * 3 * 2
    assert float(layer.heads) == 2


def test_switch_has_two_stacks() -> None:
    model = read_config(SWITCH)
    assert model.encoder is not None
    assert [
        float(layers.kind.cross)
        for layers in model.decoder.attention
        if isinstance(layers.kind, Gqa)
    ] == [0, 1]
    assert ffn(model) == [(4, MoeFfn, 96)]
    assert [(int(layers.count), type(layers.kind)) for layers in model.encoder.ffn] == [
        (2, DenseFfn),
        (2, MoeFfn),
    ]
    block, expert = 4 * 64 * 64 + 64, 2 * 64 * 96
    moe = 16 * expert + 16 * 64 + 64
    small = 2 * (64 + 32 * 8)
    assert total(SWITCH) == 12 * block + 6 * moe + 2 * (expert + 64) + small + 2 * 100 * 64


def test_wrapper_of_a_multimodal_model() -> None:
    inner = {**LLAMA, "model_type": "gemma3_text", "head_dim": 8, "sliding_window": 8}
    wrapper = {
        "model_type": "gemma3",
        "text_config": inner,
        "vision_config": {"num_hidden_layers": 3, "hidden_size": 8, "intermediate_size": 16},
        "mm_tokens_per_image": 4,
    }
    assert total(wrapper) == total(inner) + 3 * (4 * 8 * 8 + 2 * 8 * 16) + 8 * 64
    assert parameter_count(read_config(wrapper)).active == parameter_count(read_config(inner)).total
    assert total({**wrapper, "tie_word_embeddings": False}) == total(wrapper) + 100 * 64


REFERENCE = Path(
    os.environ.get("QSOPT_REFERENCE", Path(__file__).parents[2] / "shared" / "reference")
)
RELEASED = sorted((REFERENCE / "hf_configs").glob("*.json"))


@pytest.mark.skipif(not RELEASED, reason="no folder of released configs")
@pytest.mark.parametrize("file", RELEASED, ids=lambda file: file.stem)
def test_released_configs(file: Path) -> None:
    """Configs as released, read whole; names of checkpoints and of the table differ by a suffix."""
    name = file.stem.replace("__", "/").replace("Meta-", "").replace("DeepSeek-R1", "DeepSeek-V3")
    with (REFERENCE / "models.csv").open() as table:
        rows = {row["hf"].removesuffix("-Instruct"): row for row in csv.DictReader(table)}
    row = rows[name.removesuffix("-Instruct")]
    counted = parameter_count(read_config(file))
    assert int(counted.total - counted.resident) == int(row["total"])
    assert int(counted.active) == int(row["active"])
    # The table leaves out the keys of indexers.
    keys = sum(
        float(each.count * index_key_bytes(each.kind))
        for each in read_config(file).decoder.attention
        if isinstance(each.kind, Gqa | Mla)
    )
    assert float(kv_bytes_per_token(read_config(file))) - keys == float(row["kv_tok_all"])
