"""Small made-up configs, and readers of what a model has, for the tests of the importer."""

import json
from pathlib import Path

from qsopt.catalog.huggingface import read_config
from qsopt.physics.parameters import parameter_count
from qsopt.spec.formats import format_name
from qsopt.spec.layers import NO_WINDOW
from qsopt.spec.model import Model

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
LLAMA4 = {
    **MIXTRAL,
    "model_type": "llama4_text",
    "head_dim": 8,
    "intermediate_size_mlp": 128,
    "interleave_moe_layer_step": 2,
    "attention_chunk_size": 32,
}
JAMBA = {
    **MIXTRAL,
    "model_type": "jamba",
    "num_experts": 8,
    "expert_layer_period": 2,
    "expert_layer_offset": 1,
    "attn_layer_period": 4,
    "attn_layer_offset": 3,
    "mamba_expand": 2,
    "mamba_d_state": 4,
    "mamba_d_conv": 4,
    "mamba_dt_rank": 8,
    "mamba_conv_bias": True,
}
del JAMBA["num_local_experts"]

FAMILIES_FILE = Path(__file__).with_name("huggingface_families.json")
RELEASED = json.loads(FAMILIES_FILE.read_text())
"""The config that each family's class in transformers 5.24 documents, and the parameters of that
class built without weights: configs without fields that change nothing.
"""


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
