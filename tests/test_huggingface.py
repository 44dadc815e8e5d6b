"""The importer: every refusal names its field and a remedy, and layers, windows and formats come
out as the configs say.

Configs are small made-up ones, changed one field at a time. Where a folder of released configs is
at hand (`QSOPT_REFERENCE`, or `shared/reference` beside the checkout), those are read too, and
their totals checked against that folder's table.
"""

import csv
import json
import os
from pathlib import Path

import pytest

from qsopt.catalog.huggingface import FAMILIES, read_config
from qsopt.errors import InputError
from qsopt.physics.accounting import index_key_bytes, kv_bytes_per_token, parameter_count
from qsopt.spec.formats import format_name
from qsopt.spec.model import NO_WINDOW, DenseFfn, Gqa, LinearAttention, Mla, Model, MoeFfn

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 100,
    "torch_dtype": "bfloat16",
}
MIXTRAL = {**LLAMA, "model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}
QWEN_MOE = {
    **LLAMA,
    "model_type": "qwen3_moe",
    "head_dim": 16,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
}
GPT_OSS = {**MIXTRAL, "model_type": "gpt_oss", "head_dim": 8, "sliding_window": 16}
DEEPSEEK = {
    **LLAMA,
    "model_type": "deepseek_v3",
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "first_k_dense_replace": 1,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
}
NEXT = {
    **QWEN_MOE,
    "model_type": "qwen3_next",
    "shared_expert_intermediate_size": 32,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 4,
}
SWITCH = {
    "model_type": "switch_transformers",
    "d_model": 64,
    "d_kv": 8,
    "d_ff": 96,
    "num_layers": 4,
    "num_sparse_encoder_layers": 2,
    "num_sparse_decoder_layers": 4,
    "num_heads": 8,
    "num_experts": 16,
    "relative_attention_num_buckets": 32,
    "vocab_size": 100,
    "tie_word_embeddings": False,
}


def attention(model: Model) -> list[tuple[int, type, float]]:
    """Count, kind and window of the decoder's attention."""
    return [
        (int(layers.count), type(layers.kind), float(getattr(layers.kind, "window", NO_WINDOW)))
        for layers in model.decoder.attention
    ]


def ffn(model: Model) -> list[tuple[int, type, float]]:
    """Count, kind and width of the decoder's feed-forward layers."""
    return [
        (int(layers.count), type(layers.kind), float(layers.kind.width))
        for layers in model.decoder.ffn
    ]


def formats(model: Model) -> tuple[str, ...]:
    """Formats of attention, dense layers, experts and tables."""
    chosen = model.precision
    return tuple(
        format_name(form) for form in (chosen.attention, chosen.ffn, chosen.experts, chosen.tables)
    )


def total(config: dict[str, object]) -> int:
    """Parameters of the model that a config describes."""
    return int(parameter_count(read_config(config)).total)


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


LLAMA4 = {
    **MIXTRAL,
    "model_type": "llama4_text",
    "head_dim": 8,
    "intermediate_size_mlp": 128,
    "interleave_moe_layer_step": 2,
    "attention_chunk_size": 32,
}


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


FP8 = {
    "quant_method": "fp8",
    "activation_scheme": "dynamic",
    "fmt": "e4m3",
    "weight_block_size": [128, 128],
}
INT4_GROUP = {
    "targets": ["Linear"],
    "weights": {
        "num_bits": 4,
        "type": "int",
        "strategy": "group",
        "group_size": 32,
        "symmetric": True,
    },
}
PACKED = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "config_groups": {"group_0": INT4_GROUP},
}


@pytest.mark.parametrize(
    ("quantisation", "expected"),
    [
        (FP8, ("fp8_block", "fp8_block", "fp8_block", "bf16")),
        ({"quant_method": "fp8"}, ("fp8", "fp8", "fp8", "bf16")),
        (
            {**FP8, "modules_to_not_convert": ["gate", "lm_head"]},
            ("fp8_block", "fp8_block", "fp8_block", "bf16"),
        ),
        (
            {**FP8, "modules_to_not_convert": ["model.layers.*.self_attn"]},
            ("bf16", "fp8_block", "fp8_block", "bf16"),
        ),
        (
            {**FP8, "modules_to_not_convert": ["model.layers.*.mlp"]},
            ("fp8_block", "bf16", "bf16", "bf16"),
        ),
        (
            {**FP8, "modules_to_not_convert": ["model.layers.3.input_layernorm"]},
            ("fp8_block",) * 3 + ("bf16",),
        ),
        ({"quant_method": "mxfp4"}, ("bf16", "bf16", "mxfp4", "bf16")),
        ({"quant_method": "int8"}, ("int8", "int8", "int8", "bf16")),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, ("int4", "int4", "int4", "bf16")),
        (
            {
                **PACKED,
                "ignore": [
                    "lm_head",
                    "re:.*self_attn.*",
                    "re:.*mlp\\.(gate|up|gate_up|down)_proj.*",
                ],
            },
            ("bf16", "bf16", "int4", "bf16"),
        ),
        ({**PACKED, "ignore": ["re:.*shared_experts.*"]}, ("int4", "bf16", "int4", "bf16")),
    ],
)
def test_formats(quantisation: dict, expected: tuple[str, ...]) -> None:
    assert formats(read_config({**MIXTRAL, "quantization_config": quantisation})) == expected


def test_int4_weighs_its_group() -> None:
    model = read_config({**MIXTRAL, "quantization_config": PACKED})
    assert float(model.precision.experts.bytes) == 0.5 + 2 / 32


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16", "torch.bfloat16"])
def test_wide_types_are_served_as_bf16(name: str) -> None:
    assert formats(read_config({**LLAMA, "torch_dtype": name})) == ("bf16",) * 4
    assert formats(read_config({**LLAMA, "torch_dtype": None, "dtype": name})) == ("bf16",) * 4


@pytest.mark.parametrize(
    ("base", "change", "named"),
    [
        (LLAMA, {"foo": 1}, "'foo' is not understood by qsopt and may change counts"),
        (LLAMA, {"num_local_experts": 8}, "'num_local_experts' is not understood"),
        (LLAMA, {"hidden_size": None}, "'hidden_size' is missing; add it"),
        (LLAMA, {"hidden_size": -64}, "'hidden_size' = -64: it must be a whole number"),
        (LLAMA, {"hidden_size": 0}, "'hidden_size' = 0: it must lie between 1 and"),
        (LLAMA, {"hidden_size": 64.5}, "'hidden_size' = 64.5: it must be a whole number"),
        (LLAMA, {"hidden_size": float("nan")}, "'hidden_size' = nan"),
        (LLAMA, {"hidden_size": float("inf")}, "'hidden_size' = inf"),
        (LLAMA, {"hidden_size": 10**400}, "'hidden_size' = 1000"),
        (LLAMA, {"hidden_size": "64"}, "'hidden_size' = '64'"),
        (LLAMA, {"hidden_size": True}, "'hidden_size' = True"),
        (
            LLAMA,
            {"num_hidden_layers": 10**8},
            "'num_hidden_layers' = 100000000: it must lie between 1 and 10000",
        ),
        (
            LLAMA,
            {"num_attention_heads": 7, "num_key_value_heads": 7},
            "64 does not divide into 7 heads; give 'head_dim'",
        ),
        (
            LLAMA,
            {"num_key_value_heads": 3},
            "8 query heads do not divide into 3 key-value heads; correct",
        ),
        (LLAMA, {"num_key_value_heads": 16}, "8 query heads do not divide into 16"),
        (LLAMA, {"tie_word_embeddings": 1}, "'tie_word_embeddings' = 1: it must be true or false"),
        (
            LLAMA,
            {"torch_dtype": "float8"},
            "'torch_dtype' = 'float8' is not supported; known: float32",
        ),
        (LLAMA, {"model_type": "mistral"}, "'sliding_window' is missing; add the window, or null"),
        (LLAMA, {"model_type": "falcon", "alibi": True}, "'alibi' = True is not supported"),
        (LLAMA, {"model_type": "qwen3"}, "'head_dim' is missing"),
        (
            MIXTRAL,
            {"num_experts_per_tok": 9},
            "'num_experts_per_tok' = 9 exceeds 'num_local_experts' = 8",
        ),
        (MIXTRAL, {"num_experts_per_tok": 0}, "'num_experts_per_tok' = 0"),
        (MIXTRAL, {"model_type": "arctic"}, "'moe_layer_frequency' is missing; add it as 1"),
        (
            MIXTRAL,
            {"model_type": "minimax_m1", "attn_type_list": [0]},
            "'attn_type_list' names 1 layers, but the model has 4",
        ),
        (
            GPT_OSS,
            {"layer_types": ["full_attention"] * 3},
            "'layer_types' names 3 layers, but the model has 4",
        ),
        (
            GPT_OSS,
            {"layer_types": ["chunked_attention"] * 4},
            "'chunked_attention'; this family has full_attention",
        ),
        (
            GPT_OSS,
            {"layer_types": "full_attention"},
            "'layer_types' = 'full_attention': it must be a list",
        ),
        (GPT_OSS, {"layer_types": [1, 2, 3, 4]}, "'layer_types': it must hold only strings"),
        (GPT_OSS, {"sliding_window": None}, "'sliding_window' is missing"),
        (
            GPT_OSS,
            {"experts_per_token": 4},
            "'experts_per_token' = 4 contradicts num_experts_per_tok (2)",
        ),
        (
            DEEPSEEK,
            {"qk_head_dim": 64},
            "'qk_head_dim' = 64 contradicts qk_nope_head_dim + qk_rope_head_dim (12)",
        ),
        (DEEPSEEK, {"first_k_dense_replace": 4}, "no layer has experts"),
        (DEEPSEEK, {"intermediate_size": None}, "'intermediate_size' is missing"),
        (
            DEEPSEEK,
            {"topk_method": "greedy"},
            "'topk_method' = 'greedy' is not supported; only 'noaux_tc' is",
        ),
        (
            QWEN_MOE,
            {"mlp_only_layers": [7]},
            "'mlp_only_layers' names layer 7, but the 4 layers end at 3",
        ),
        (QWEN_MOE, {"use_sliding_window": True}, "'use_sliding_window' = True is not supported"),
        (NEXT, {"linear_num_value_heads": 3}, "linear_num_value_heads = 3 is no multiple"),
        (
            SWITCH,
            {"feed_forward_proj": "gated-gelu"},
            "'feed_forward_proj' = 'gated-gelu' is not supported",
        ),
        (
            SWITCH,
            {"num_sparse_decoder_layers": 5},
            "'num_sparse_decoder_layers' = 5 exceeds the 4 layers",
        ),
        (SWITCH, {"encoder_sparse_step": 1}, "'encoder_sparse_step' = 1 contradicts"),
        (
            LLAMA,
            {"quantization_config": "fp8"},
            "'quantization_config' = 'fp8': it must be a table",
        ),
        (
            LLAMA,
            {"quantization_config": {"quant_method": "quip"}},
            "quant_method 'quip' is not supported; known: awq",
        ),
        (
            LLAMA,
            {"quantization_config": {**FP8, "foo": 1}},
            "in 'quantization_config': field 'foo' is not understood",
        ),
        (
            LLAMA,
            {"quantization_config": {**FP8, "modules_to_not_convert": ["foo"]}},
            "'foo' among the modules is not understood",
        ),
        (
            LLAMA,
            {"quantization_config": {"quant_method": "gptq", "bits": 3}},
            "weights of 3 bits are not supported",
        ),
        (
            LLAMA,
            {"text_config": {**LLAMA, "hidden_size": 32}},
            "'hidden_size' differs between the wrapper and",
        ),
        (LLAMA4, {"attention_chunk_size": "drop"}, "'attention_chunk_size' = 'drop'"),
        (
            MIXTRAL,
            {"model_type": "llama4_text", "head_dim": 8, "interleave_moe_layer_step": 1},
            "'attention_chunk_size' is missing",
        ),
        (MIXTRAL, {"model_type": "minimax_m1"}, "'attn_type_list' is missing"),
        (
            DEEPSEEK,
            {"model_type": "deepseek_v2", "topk_method": "noaux_tc"},
            "only 'greedy' or 'group_limited_greedy' is",
        ),
        (LLAMA, {"text_config": 3}, "'text_config' must be a table"),
    ],
)
def test_refusals(base: dict, change: dict, named: str) -> None:
    with pytest.raises(InputError) as caught:
        read_config({**base, **change})
    assert named in str(caught.value)


@pytest.mark.parametrize(
    "key", [key for key in DEEPSEEK if key not in ("num_key_value_heads", "torch_dtype")]
)
def test_every_needed_field_is_missed(key: str) -> None:
    with pytest.raises(InputError, match=f"'{key}' is missing"):
        read_config({name: value for name, value in DEEPSEEK.items() if name != key})


def test_unknown_family() -> None:
    with pytest.raises(InputError) as caught:
        read_config({**LLAMA, "model_type": "lama"})
    assert "nearest are llama, " in str(caught.value)
    assert f"none of {len(FAMILIES)} families" in str(caught.value)
    assert "--as llama" in str(caught.value)


@pytest.mark.parametrize("family", ["zamba2", "step3_text", "rwkv"])
def test_families_beyond_the_specification(family: str) -> None:
    with pytest.raises(InputError, match=f"model_type '{family}' is not supported: its"):
        read_config({**LLAMA, "model_type": family})


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


def test_file_folder_and_table_agree(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(LLAMA))
    assert (
        total(LLAMA)
        == int(parameter_count(read_config(file)).total)
        == int(parameter_count(read_config(tmp_path)).total)
    )


@pytest.mark.parametrize(
    ("text", "named"),
    [("{", "is not valid JSON"), ("[1]", "holds no table"), ("\udcff", "is not valid JSON")],
)
def test_malformed_file(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=named) as caught:
        read_config(tmp_path)
    assert str(file) in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"config\.json: cannot be read .* give a config\.json or a folder"
    ):
        read_config(tmp_path)


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
