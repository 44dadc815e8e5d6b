"""The importer's refusals: each names its field and a remedy."""

import json
from pathlib import Path

import pytest
from huggingface_configs import (
    DEEPSEEK,
    GPT_OSS,
    JAMBA,
    LLAMA,
    LLAMA4,
    MIXTRAL,
    NEXT,
    QWEN_MOE,
    SWITCH,
    total,
)

from qsopt.catalog.huggingface import FAMILIES, read_config
from qsopt.errors import InputError
from qsopt.physics.parameters import parameter_count

FP8 = {"quant_method": "fp8"}
TOWER = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "intermediate_size": 16,
    "image_size": [28, 28],
    "patch_size": [14, 14],
}


@pytest.mark.parametrize(
    ("base", "change", "named"),
    [
        (DEEPSEEK, {"num_nextn_predict_layers": -1}, "num_nextn_predict_layers = -1: give a whole"),
        (DEEPSEEK, {"num_nextn_predict_layers": "1"}, "num_nextn_predict_layers = '1'"),
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
        (
            JAMBA,
            {"attn_layer_offset": 4},
            "'attn_layer_offset' = 4 lies beyond 'attn_layer_period' = 4",
        ),
        (JAMBA, {"expert_layer_offset": 2}, "'expert_layer_offset' = 2 lies beyond"),
        (
            {**LLAMA, "model_type": "qwen2", "sliding_window": 8, "use_sliding_window": False},
            {"layer_types": ["full_attention"] * 3 + ["sliding_attention"]},
            "'use_sliding_window' is not true, but 'layer_types' has sliding layers",
        ),
        (LLAMA4, {"no_rope_layers": [1, 1, 2, 0]}, "'no_rope_layers': it must hold only 0 and 1"),
        (
            MIXTRAL,
            {"model_type": "minimax_m1", "attn_type_list": [0, 1, 1, 3]},
            "'attn_type_list': it must hold only 0 and 1",
        ),
        (LLAMA, {"sliding_window": 8}, "'sliding_window' = 8 is not supported"),
        (
            DEEPSEEK,
            {"mlp_layer_types": ["dense"] * 2 + ["sparse"] * 2},
            "'mlp_layer_types' contradicts the fields that place experts",
        ),
        (DEEPSEEK, {"mlp_layer_types": ["dense", "odd", "sparse", "sparse"]}, "holds 'odd'"),
        (LLAMA, {"vision_config": {"odd": 3}}, "the tower in 'vision_config' (llama) is not"),
        (LLAMA, {"vision_config": {**TOWER, "image_size": []}}, "field 'image_size' = []: give a"),
        (LLAMA, {"vision_config": {**TOWER, "image_size": [0, 8]}}, "'image_size' = [0, 8]: give"),
        (LLAMA, {"vision_config": {**TOWER, "patch_size": []}}, "field 'patch_size' = []: give a"),
        (
            {"model_type": "some_vl", "text_config": LLAMA},
            {"odd": 3},
            "'odd' of the wrapper around 'text_config' is not understood",
        ),
        (MIXTRAL, {"num_experts": 8}, "'num_experts' is not understood"),
        (
            {**LLAMA, "model_type": "gemma3n_text", "head_dim": 8},
            {"intermediate_size": [96, 96, 96, 48]},
            "'intermediate_size' has several widths",
        ),
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


@pytest.mark.parametrize("family", ["xlstm", "step3_text", "rwkv"])
def test_families_beyond_the_specification(family: str) -> None:
    with pytest.raises(InputError, match=f"model_type '{family}' is not supported: its"):
        read_config({**LLAMA, "model_type": family})


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
    [("{", "is not valid JSON"), ("[1]", "holds no table"), ("\udcff", "cannot be read")],
)
def test_malformed_file(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=named) as caught:
        read_config(tmp_path)
    assert str(file) in str(caught.value)


def test_field_that_stands_there_twice(tmp_path: Path) -> None:
    """JSON readers silently keep the last."""
    text = json.dumps(LLAMA)[:-1] + ', "hidden_size": 128}'
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match="field 'hidden_size' stands there twice"):
        read_config(tmp_path)
    text = json.dumps({"text_config": LLAMA}).replace(
        '"vocab_size"', '"vocab_size": 9, "vocab_size"'
    )
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match="field 'vocab_size' stands there twice"):
        read_config(tmp_path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"config\.json: cannot be read .* give a config\.json in JSON, or a folder",
    ):
        read_config(tmp_path)


def test_groups_of_more_heads_than_there_are_are_refused(tmp_path: Path) -> None:
    """Found by fuzzing: no KV heads were left to divide by."""
    models = Path(__file__).parents[1] / "configs" / "models"
    config = json.loads((models / "nemotron-super-49b.json").read_text("utf-8"))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config | {"num_attention_heads": 1}), "utf-8")
    with pytest.raises(InputError, match="1 query heads do not divide into 0 key-value heads"):
        read_config(path)
