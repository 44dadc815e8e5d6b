"""Every family against its own class, and what families do that a plain one does not, by hand."""

import json
from pathlib import Path

import pytest
from huggingface_configs import DEEPSEEK, LLAMA, MIXTRAL, RELEASED, ffn, total

from qsopt.catalog.huggingface import read_config
from qsopt.cli.options import Question
from qsopt.errors import InputError
from qsopt.physics.kv_cache import kv_bytes_per_token
from qsopt.physics.parameters import parameter_count
from qsopt.spec.layers import DenseFfn, Gqa, LinearAttention, Mla, MoeFfn
from qsopt.spec.model import Model

TOWERS = ("vision_config", "audio_config")


@pytest.mark.parametrize("family", RELEASED)
def test_parameters_of_the_familys_class(family: str) -> None:
    """Exact but for routing biases, which transformers keeps as buffers; towers to 0.7 % of all."""
    config, expected = RELEASED[family]["config"], RELEASED[family]["total"]
    towers = any(key in config for key in TOWERS)
    assert total(config) == pytest.approx(expected, rel=7e-3 if towers else 1e-6)


def only(model: Model, kind: type) -> list:
    """Kinds of attention or feed-forward layers of one type."""
    groups = (*model.decoder.attention, *model.decoder.ffn)
    return [layers.kind for layers in groups if isinstance(layers.kind, kind)]


def test_gemma3n_by_hand() -> None:
    """Published as 8B with 4B in fast memory: 2.35B of embeddings for each layer are looked up."""
    model = read_config(RELEASED["gemma3n_text"]["config"])
    assert float(model.resident) == 262_144 * 35 * 256
    # 15 of 35 layers read the keys and values of another layer: 2 heads of 256 in the 20 others.
    assert float(kv_bytes_per_token(model)) == 20 * 2 * 2 * 256 * 2
    sharing = [kind for kind in only(model, Gqa) if float(kind.cached) == 0]
    assert {float(kind.projected) for kind in sharing} == {0.0}


def test_gemma4_by_hand() -> None:
    """26B-A4B: five of 30 layers see everything, with 2 KV heads of 512 whose values are keys."""
    text = {
        "model_type": "gemma4_text",
        "attention_k_eq_v": True,
        "enable_moe_block": True,
        "global_head_dim": 512,
        "head_dim": 256,
        "hidden_size": 2816,
        "hidden_size_per_layer_input": 0,
        "intermediate_size": 2112,
        "moe_intermediate_size": 704,
        "num_attention_heads": 16,
        "num_experts": 128,
        "num_global_key_value_heads": 2,
        "num_hidden_layers": 30,
        "num_key_value_heads": 8,
        "sliding_window": 1024,
        "top_k_experts": 8,
        "vocab_size": 262144,
    }
    model = read_config(text)
    sliding = 2816 * 256 * (2 * 16 + 2 * 8)
    full = 2816 * 512 * (2 * 16 + 2)  # no projection of values
    experts = 128 * 3 * 2816 * 704 + 128 * 2816
    matrices = 25 * sliding + 5 * full + 30 * (experts + 3 * 2816 * 2112) + 262144 * 2816
    assert total(text) - float(parameter_count(model).small) == matrices
    assert total(text) == pytest.approx(25.2e9, rel=2e-3)  # published
    assert float(parameter_count(model).active) == pytest.approx(3.8e9, rel=1e-2)  # published


def test_longcat_by_hand() -> None:
    """Two latent attentions, two dense feed-forwards and experts in each layer; of three choices
    among twelve, two are real.
    """
    model = read_config(
        {
            **DEEPSEEK,
            "model_type": "longcat_flash",
            "num_layers": 4,
            "num_hidden_layers": 4,
            "ffn_hidden_size": 96,
            "expert_ffn_hidden_size": 32,
            "moe_topk": 3,
            "zero_expert_num": 4,
            "first_k_dense_replace": None,
            "n_shared_experts": None,
            "moe_intermediate_size": None,
            "intermediate_size": None,
            "num_experts_per_tok": None,
        }
    )
    assert [int(layers.count) for layers in model.decoder.attention] == [8]
    assert ffn(model) == [(8, DenseFfn, 96), (4, MoeFfn, 32)]
    assert float(only(model, MoeFfn)[0].top_k) == 3 * 8 / 12
    assert int(model.layers) == 4


def test_nemotron_by_hand() -> None:
    """A layer is one block; experts in a space of 16 of 64, and the way into it and back."""
    config = {
        "model_type": "nemotron_h",
        "hybrid_override_pattern": "ME*-",
        "num_hidden_layers": 4,
        "hidden_size": 64,
        "vocab_size": 100,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 96,
        "mamba_num_heads": 4,
        "mamba_head_dim": 32,
        "ssm_state_size": 16,
        "n_groups": 2,
        "conv_kernel": 4,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "n_shared_experts": 1,
        "moe_shared_expert_intermediate_size": 48,
        "moe_latent_size": 16,
    }
    channels = 4 * 32 + 2 * 2 * 16
    mixer = 64 * (4 * 32 + channels + 4) + 4 * 32 * 64
    odd = channels * 5 + 3 * 4 + 4 * 32
    experts = 8 * 2 * 16 * 32 + 8 * 64 + 8 + 2 * 64 * (48 + 16)
    attention = 64 * 8 * (2 * 8 + 2 * 2)
    norms = 5 * 64
    tables = 2 * 100 * 64
    assert total(config) == mixer + odd + experts + attention + 2 * 64 * 96 + norms + tables
    state = only(read_config(config), LinearAttention)[0].state_bytes
    assert float(state) == 4 * 32 * 16 * 4 + channels * 3 * 2
    listed = {**config, "layers_block_type": ["mamba", "moe", "attention", "mlp"]}
    del listed["hybrid_override_pattern"]
    assert total(listed) == total(config)


def test_hunyuan_shares_keys_between_layers() -> None:
    config = {
        **LLAMA,
        "model_type": "hunyuan_v1_moe",
        "num_experts": [8] * 4,
        "moe_topk": [2] * 4,
        "num_shared_expert": [1] * 4,
        "moe_intermediate_size": [32] * 4,
        "use_mixed_mlp_moe": True,
    }
    shared = {**config, "use_cla": True, "cla_share_factor": 2}
    assert total(config) - total(shared) == 2 * 2 * 64 * 16
    assert float(kv_bytes_per_token(read_config(shared))) == 2 * 2 * 2 * 8 * 2
    assert float(kv_bytes_per_token(read_config(config))) == 4 * 2 * 2 * 8 * 2


def test_mimo_values_are_narrower_than_keys() -> None:
    config = {
        **LLAMA,
        "model_type": "mimo_v2_flash",
        "head_dim": 24,
        "v_head_dim": 8,
        "sliding_window": 16,
        "hybrid_layer_pattern": [0, 1, 1, 0],
        "moe_layer_freq": [0, 1, 1, 1],
        "moe_intermediate_size": 32,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_shared_experts": None,
        "swa_num_key_value_heads": 4,
    }
    full, sliding = (64 * ((8 + kv) * 24 + (8 + kv) * 8) for kv in (2, 4))
    experts = 3 * (8 * 3 * 64 * 32 + 8 * 64 + 8)
    odd = 2 * 8 + 9 * 64  # sinks and norms
    assert total(config) == 2 * (full + sliding) + experts + 3 * 64 * 96 + odd + 2 * 100 * 64
    assert float(kv_bytes_per_token(read_config(config))) == (2 * 2 + 2 * 4) * (24 + 8) * 2


def test_lfm2_by_hand() -> None:
    """1.2B of LFM2 1.2B: ten convolutions and six layers that attend, feed-forward cut to 2/3."""
    config = {
        "model_type": "lfm2",
        "hidden_size": 2048,
        "intermediate_size": 12288,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "conv_L_cache": 3,
        "full_attn_idxs": [2, 5, 8, 10, 12, 14],
        "vocab_size": 65536,
    }
    assert total(config) == pytest.approx(1.17e9, rel=2e-3)  # published
    assert ffn(read_config(config)) == [(16, DenseFfn, 8192)]
    assert float(kv_bytes_per_token(read_config(config))) == 6 * 2 * 8 * 64 * 2


def test_deepseek_v4_by_hand() -> None:
    """Entries of 4 and 128 tokens, of 512 numbers; 1.6T published, 1573B by transformers' class."""
    model = read_config(RELEASED["deepseek_v4"]["config"])
    latents = only(model, Mla)
    assert sorted({float(kind.entry_tokens) for kind in latents}) == [4, 128]
    # 20 layers with 512 numbers and a key of 132 bytes in 4 tokens, 23 with 512 in 128.
    expected = 20 * (2 * 512 + 132) / 4 + 23 * 2 * 512 / 128
    assert float(kv_bytes_per_token(model)) == pytest.approx(expected)


def test_llama_vision_by_hand() -> None:
    """Llama 3.2 11B Vision: 10.67B published, of which text needs 8.03B."""
    text = {
        **LLAMA,
        "model_type": "mllama_text_model",
        "hidden_size": 4096,
        "num_hidden_layers": 40,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 128256,
        "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38],
    }
    vision = {
        "model_type": "mllama_vision_model",
        "hidden_size": 1280,
        "num_hidden_layers": 32,
        "num_global_layers": 8,
        "intermediate_size": 5120,
        "vision_output_dim": 7680,
        "image_size": 560,
        "patch_size": 14,
        "max_num_tiles": 4,
    }
    wrapped = {"model_type": "mllama", "text_config": text, "vision_config": vision}
    assert total(wrapped) == pytest.approx(10.67e9, rel=1e-3)
    assert int(parameter_count(read_config(wrapped)).active) == 8_030_261_248


# ---- wrappers ------------------------------------------------------------------------------------


def test_towers_are_resident_and_idle() -> None:
    config = RELEASED["mistral3"]["config"]
    model = read_config(config)
    bare = read_config(config["text_config"])
    assert float(model.resident) == pytest.approx(438_958_080, rel=1e-3)
    # The wrapper ties its tables, its language model by itself would not.
    assert parameter_count(model).active == parameter_count(bare).active - 131072 * 5120
    assert total({**config, "vision_config": None}) == total(config) - int(model.resident)


@pytest.mark.parametrize("key", ["text_config", "language_config", "llm_config"])
def test_names_of_the_inner_config(key: str) -> None:
    assert total({"model_type": "some_vl", key: LLAMA}) == total(LLAMA)


def test_sizes_that_an_inner_config_leaves_out() -> None:
    """LLaVA-1.5-7B and Gemma-3-4B, as released: 7.06B and 4.30B."""
    vicuna = {"model_type": "llama", "max_position_embeddings": 4096, "vocab_size": 32064}
    clip = {
        "model_type": "clip_vision_model",
        "hidden_size": 1024,
        "image_size": 336,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "patch_size": 14,
    }
    llava = {"model_type": "llava", "text_config": vicuna, "vision_config": clip}
    assert total(llava) == pytest.approx(7.06e9, rel=1e-3)
    text = {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240}
    text |= {"num_hidden_layers": 34, "sliding_window": 1024}
    siglip = {**clip, "model_type": "siglip_vision_model", "hidden_size": 1152, "image_size": 896}
    siglip |= {"intermediate_size": 4304, "num_hidden_layers": 27}
    gemma = {"model_type": "gemma3", "text_config": text, "vision_config": siglip}
    assert total(gemma) == pytest.approx(4.30e9, rel=1e-3)


def test_wrapper_in_a_wrapper() -> None:
    thinker = {"model_type": "thinker", "text_config": LLAMA}
    assert total({"model_type": "omni", "thinker_config": thinker}) == total(LLAMA)


def test_wrapper_decides_whether_tables_are_tied() -> None:
    tied = {"model_type": "some_vl", "text_config": LLAMA, "tie_word_embeddings": True}
    assert total(tied) == total(LLAMA) - 100 * 64


def test_inner_type_of_a_known_wrapper() -> None:
    inner = {key: value for key, value in LLAMA.items() if key != "model_type"}
    assert total({"model_type": "llava", "text_config": inner}) == total(LLAMA)


# ---- two ways through a refusal ------------------------------------------------------------------


def test_read_as_another_family() -> None:
    config = {**MIXTRAL, "model_type": "brand_new"}
    assert int(parameter_count(read_config(config, family="mixtral")).total) == total(MIXTRAL)


def test_both_ways_on_the_command_line(tmp_path: Path) -> None:
    config = {**MIXTRAL, "model_type": "brand_new", "foo": 1, "bar": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    question = Question(str(tmp_path), "1xh100", 1024.0, family="mixtral", ignore=("foo", "bar"))
    assert int(parameter_count(question.load()[0]).total) == total(MIXTRAL)


def test_ignored_fields() -> None:
    config = {**LLAMA, "foo": 1, "bar": {"baz": 2}}
    assert int(parameter_count(read_config(config, ignore=["foo", "bar"])).total) == total(LLAMA)
    wrapped = {"model_type": "some_vl", "text_config": LLAMA, "vision_config": {"odd": 1}, "x": 1}
    found = read_config(wrapped, ignore=("vision_config", "x"))
    assert int(parameter_count(found).total) == total(LLAMA)


ZAMBA2 = {
    "model_type": "zamba2",
    "hidden_size": 2560,
    "num_hidden_layers": 54,
    "hybrid_layer_ids": [6, 12, 18, 24, 30, 36, 42, 47, 51],
    "num_attention_heads": 32,
    "n_mamba_heads": 80,
    "mamba_headdim": 64,
    "num_mem_blocks": 2,
    "vocab_size": 32000,
}
"""Zyphra/Zamba2-2.7B as released."""

ZAMBA2_SMALL = {
    **ZAMBA2,
    "hidden_size": 2048,
    "num_hidden_layers": 38,
    "hybrid_layer_ids": [5, 11, 17, 23, 29, 35],
    "n_mamba_heads": 64,
    "mamba_d_state": 128,
    "num_mem_blocks": 1,
    "use_shared_attention_adapter": True,
}
"""Zyphra/Zamba2-1.2B."""


@pytest.mark.parametrize(
    ("config", "exact", "published"),
    [(ZAMBA2, 2_662_214_560, 2.7e9), (ZAMBA2_SMALL, 1_215_064_704, 1.2e9)],
)
def test_zamba_counts_shared_weights_once(config: dict, exact: int, published: float) -> None:
    """As transformers builds it, and as published."""
    assert total(config) == exact == pytest.approx(published, rel=0.015)


def test_zamba_by_hand() -> None:
    model, hidden, wide = read_config(ZAMBA2), 2560, 5120
    (attention,) = [each for each in model.decoder.attention if isinstance(each.kind, Gqa)]
    (ffn,) = model.decoder.ffn
    assert (attention.count, attention.sets) == (9, 2)
    assert (ffn.count, ffn.sets) == (9, 2)
    assert float(kv_bytes_per_token(model)) == 9 * 2 * 32 * 160 * 2
    plain, behind = only(model, LinearAttention)
    own = hidden**2 + 128 * (hidden + 2 * 4 * hidden)
    assert float(behind.inner) - float(plain.inner) == own
    counted = parameter_count(model)
    mamba = 54 * hidden * (wide + (wide + 2 * 64) + 80 + wide)
    assert float(counted.attention) == 2 * (3 * wide * wide + wide * hidden) + mamba + 9 * own
    assert float(counted.dense) == 2 * 3 * hidden * 4 * hidden


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"layers_block_type": ["mamba"] * 54}, "some as hybrid"),
        ({"layers_block_type": ["mamba", "hybrid"] * 27}, "contradicts 'hybrid_layer_ids'"),
        ({"attention_hidden_size": 2560}, r"contradicts 2 \* hidden_size"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings"),
        ({"add_bias_linear": True}, "add_bias_linear"),
        ({"hybrid_layer_ids": [54]}, "names layer 54"),
    ],
)
def test_zamba_refuses(fields: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_config({**ZAMBA2, **fields})
