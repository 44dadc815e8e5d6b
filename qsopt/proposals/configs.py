"""An architecture as the `config.json` of an existing Hugging Face class.

Grouped heads: Llama or, with norms on heads, Qwen3 for dense models; Mixtral or Qwen3-MoE without
shared experts, GLM-4-MoE with them. Latents: DeepSeek-V3, and Youtu for dense models. Fields are
those of the classes of transformers; what no count depends on is left at the class's own value.
"""

from typing import Any

import numpy as np

from qsopt.catalog.huggingface import read_config
from qsopt.proposals.architecture import (
    Architecture,
    from_rows,
    has_limited_routing,
    has_norms,
    is_dense,
    query_heads,
)
from qsopt.proposals.bodies import GROUPED, Body
from qsopt.spec.model import Model

_CLASSES = {
    "llama": "LlamaForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "glm4_moe": "Glm4MoeForCausalLM",
    "deepseek_v3": "DeepseekV3ForCausalLM",
    "youtu": "YoutuForCausalLM",
}
"""Classes of transformers by `model_type`."""

_FP8 = {
    "activation_scheme": "dynamic",
    "fmt": "e4m3",
    "quant_method": "fp8",
    "weight_block_size": [128, 128],
}
"""Block-wise fp8 as DeepSeek-V3 has it."""

_MXFP4 = {
    "quant_method": "mxfp4",
    "modules_to_not_convert": [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.gate",
        "model.embed_tokens",
        "lm_head",
    ],
}
"""mxfp4 of routed experts alone, as gpt-oss has it."""


def config_of(row: np.ndarray, body: Body, context: int) -> dict[str, Any]:
    """The config of an architecture.

    Args:
        row: of a table (see `architecture.COLUMNS`).
        body: what it keeps of its reference.
        context: longest sequence that it must take [tokens].
    """
    one, dense = from_rows(row), bool(is_dense(row))
    kind = _model_type(one, body, dense)
    fields: dict[str, Any] = {
        "architectures": [_CLASSES[kind]],
        "model_type": kind,
        "hidden_act": "silu",
        "hidden_size": _whole(one.hidden),
        "max_position_embeddings": context,
        "num_attention_heads": _whole(query_heads(one.hidden, body, one.kv)),
        "num_hidden_layers": _whole(one.layers),
        "tie_word_embeddings": body.tied,
        "torch_dtype": "bfloat16",
        "vocab_size": body.vocabulary,
        **(_grouped(one, body) if body.attention == GROUPED else _latent(one, body)),
        **_FIELDS[kind](one, body),
    }
    if body.precision != "bf16":
        chosen = _MXFP4 if body.precision == "mxfp4" and not dense else _FP8
        fields["quantization_config"] = chosen
    return dict(sorted(fields.items()))


def model_of(row: np.ndarray, body: Body) -> Model:
    """The model of an architecture, as it is read from its config."""
    return read_config(config_of(row, body, context=1))


def _model_type(one: Architecture, body: Body, dense: bool) -> str:
    if body.attention != GROUPED:
        return "youtu" if dense else "deepseek_v3"
    if dense:
        return "qwen3" if body.normed else "llama"
    if float(one.shared) > 0:
        return "glm4_moe"
    return "qwen3_moe" if bool(has_norms(one, body, np.float64(1.0))) else "mixtral"


def _whole(value: Any) -> int:
    return round(float(value))


def _grouped(one: Architecture, body: Body) -> dict[str, Any]:
    return {"num_key_value_heads": _whole(one.kv), "head_dim": body.head_dim}


def _latent(one: Architecture, body: Body) -> dict[str, Any]:
    return {
        "num_key_value_heads": _whole(query_heads(one.hidden, body, one.kv)),
        "kv_lora_rank": _whole(one.kv),
        "q_lora_rank": body.q_rank or None,
        "qk_nope_head_dim": body.head_dim,
        "qk_rope_head_dim": body.rope_dim,
        "v_head_dim": body.v_dim,
        "attention_bias": False,
    }


def _plain(one: Architecture, body: Body) -> dict[str, Any]:
    return {"intermediate_size": _whole(one.width), "attention_bias": False}


def _llama(one: Architecture, body: Body) -> dict[str, Any]:
    return {**_plain(one, body), "mlp_bias": False}


def _mixtral(one: Architecture, body: Body) -> dict[str, Any]:
    return {
        "intermediate_size": _whole(one.width),
        "num_local_experts": _whole(one.experts),
        "num_experts_per_tok": _whole(one.top_k),
        "sliding_window": None,
    }


def _token_width(one: Architecture) -> int:
    """Width of what a token uses of a routed layer, which leading dense layers have."""
    return _whole((one.top_k + one.shared) * one.width)


def _qwen3_moe(one: Architecture, body: Body) -> dict[str, Any]:
    return {
        "attention_bias": False,
        "decoder_sparse_step": 1,
        "intermediate_size": _token_width(one),
        "mlp_only_layers": list(range(_whole(one.leading))),
        "moe_intermediate_size": _whole(one.width),
        "num_experts": _whole(one.experts),
        "num_experts_per_tok": _whole(one.top_k),
        "use_sliding_window": False,
    }


def _shared(one: Architecture, groups: int, top_groups: int) -> dict[str, Any]:
    return {
        "first_k_dense_replace": _whole(one.leading),
        "intermediate_size": _token_width(one),
        "moe_intermediate_size": _whole(one.width),
        "n_group": groups,
        "n_routed_experts": _whole(one.experts),
        "n_shared_experts": _whole(one.shared),
        "num_experts_per_tok": _whole(one.top_k),
        "topk_group": top_groups,
    }


def _glm4_moe(one: Architecture, body: Body) -> dict[str, Any]:
    return {**_shared(one, 1, 1), "attention_bias": False, "use_qk_norm": body.normed}


def _deepseek_v3(one: Architecture, body: Body) -> dict[str, Any]:
    limited = bool(has_limited_routing(one, body))
    groups = (body.groups, body.top_groups) if limited else (1, 1)
    own = {"moe_layer_freq": 1, "scoring_func": "sigmoid", "topk_method": "noaux_tc"}
    return {**_shared(one, *groups), **own}


def _youtu(one: Architecture, body: Body) -> dict[str, Any]:
    return {"intermediate_size": _whole(one.width), "mlp_bias": False}


_FIELDS = {
    "llama": _llama,
    "qwen3": _plain,
    "mixtral": _mixtral,
    "qwen3_moe": _qwen3_moe,
    "glm4_moe": _glm4_moe,
    "deepseek_v3": _deepseek_v3,
    "youtu": _youtu,
}
"""What each class has of its own."""
