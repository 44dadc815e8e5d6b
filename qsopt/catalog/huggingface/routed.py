"""Families with softmax attention and routed experts: one row each, and those whose classes need a
few lines more.
"""

from collections.abc import Callable
from dataclasses import replace

from qsopt.catalog.huggingface import patterns
from qsopt.catalog.huggingface.attention import (
    FULL,
)
from qsopt.catalog.huggingface.dense import COHERE, LLAMA, MISTRAL, OLMO2, PLAIN, ROWS
from qsopt.catalog.huggingface.experts import Experts, moe_family
from qsopt.catalog.huggingface.family import (
    Family,
)
from qsopt.catalog.huggingface.harmless import words
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.model import Model

OWN_DIM = replace(PLAIN, dim_default=False, kv_default=False)
"""Attention with a head size of its own."""

GLM4_MOE = replace(
    PLAIN,
    qkv_bias=("attention_bias", False),
    qk_norm="head",
    qk_switch=("use_qk_norm", False),
    expect=(),
)
"""GLM-4.5: bias on query, key and value and norms on heads where asked."""

DEEPSEEK = Experts(
    count="n_routed_experts",
    shared="n_shared_experts",
    shared_default=None,
    router_bias=True,
    first="first_k_dense_replace",
    first_default=None,
    period="moe_layer_freq",
)
"""DeepSeek's pattern: leading dense layers, then experts beside shared ones of the same width."""

WIDE = Experts(width="intermediate_size")
"""Experts in every layer, as wide as `intermediate_size`."""

BAILING = Experts(
    count="num_experts",
    shared="num_shared_experts",
    shared_width="moe_shared_expert_intermediate_size",
    first="first_k_dense_replace",
    router_bias=("moe_router_enable_expert_bias", False),
)
"""Ling's names."""

ROWS_MOE: dict[str, tuple[Family, Experts]] = {
    "afmoe": (
        replace(
            OWN_DIM,
            attention_norms=2,
            ffn_norms=2,
            qk_norm="head",
            output_gate=True,
            windows=patterns.periodic(4, "global_attn_every_n_layers"),
            unused=("score_func", "route_norm", "route_scale", "mup_enabled"),
        ),
        Experts(
            count="num_experts",
            shared="num_shared_experts",
            first="num_dense_layers",
            first_default=1,
            router_bias=True,
        ),
    ),
    "aria_text": (
        replace(LLAMA, ffn_bias=("mlp_bias", False)),
        Experts(
            count="moe_num_experts",
            top_k="moe_topk",
            width="intermediate_size",
            shared="moe_num_shared_experts",
        ),
    ),
    "bailing_moe": (
        replace(
            PLAIN,
            qkv_bias=("use_qkv_bias", False),
            out_bias=("use_bias", False),
            ffn_bias=False,
            qk_norm="head",
            qk_switch=("use_qk_norm", False),
            switch="use_sliding_window",
            windows=patterns.from_layer,
            expect=(("embedding_norm", (False, None)), ("norm_head", (False, None))),
            unused=words("norm_softmax multi_gate use_rmsnorm using_split_qkv_in_self_attention"),
        ),
        BAILING,
    ),
    "cohere2_moe": (
        replace(
            COHERE,
            qk_switch=False,
            windows=patterns.periodic(4, "sliding_window_pattern"),
            unused=("prefix_dense_sliding_window_pattern",),
        ),
        Experts(
            count="num_experts",
            width="intermediate_size",
            shared="num_shared_experts",
            first="first_k_dense_replace",
            dense_width="prefix_dense_intermediate_size",
        ),
    ),
    "deepseek": (LLAMA, replace(DEEPSEEK, router_bias=False)),
    "dots1": (
        replace(
            LLAMA,
            out_bias=("attention_bias", False),
            ffn_bias=False,
            qk_norm="head",
            switch="use_sliding_window",
            windows=patterns.from_layer,
        ),
        DEEPSEEK,
    ),
    "exaone_moe": (
        replace(ROWS["exaone4"]),
        Experts(
            count="num_experts",
            shared="num_shared_experts",
            first="first_k_dense_replace",
            router_bias=True,
        ),
    ),
    "flex_olmo": (OLMO2, WIDE),
    "glm4_moe": (GLM4_MOE, DEEPSEEK),
    "glm4v_moe_text": (replace(GLM4_MOE, qk_norm="none"), DEEPSEEK),
    "granitemoe": (replace(LLAMA, ffn_bias=False), WIDE),
    "granitemoeshared": (
        replace(LLAMA, ffn_bias=False),
        replace(WIDE, shared_width="shared_intermediate_size"),
    ),
    "granitemoe_swa": (
        replace(
            LLAMA,
            ffn_bias=False,
            sinks=True,
            windows=patterns.first_of(4),
            unused=("layer_rope_theta",),
        ),
        replace(WIDE, shared_width="shared_intermediate_size"),
    ),
    "grok-1": (
        replace(PLAIN, kv_default=False, attention_norms=2, ffn_norms=2, tied=True),
        replace(WIDE, count="num_experts"),
    ),
    "hy_v3": (
        replace(
            OWN_DIM,
            qk_norm="head",
            unused=("qk_norm",),
        ),
        Experts(
            count="num_experts",
            shared="num_shared_experts",
            first="first_k_dense_replace",
            first_default=1,
            router_bias=("moe_router_enable_expert_bias", True),
        ),
    ),
    "kolibri1": (
        replace(OWN_DIM, attention_norms=2, ffn_norms=2, qk_norm="head",
                windows=patterns.periodic(5)),
        Experts(shared_width="shared_expert_intermediate_size"),
    ),
    "mellum": (
        replace(OWN_DIM, qk_norm="head", windows=lambda reader, layers: [FULL] * layers,
                unused=("mtp_layer_types", "mtp_mlp_layer_types")),
        Experts(only="mlp_only_layers"),
    ),
    "mixtral": (replace(MISTRAL, window_stated=False), replace(WIDE, count="num_local_experts")),
    "olmoe": (OLMO2, replace(WIDE, count="num_experts")),
    "phimoe": (
        replace(
            MISTRAL,
            window_stated=False,
            norm=2,
            qkv_bias=("attention_bias", False),
            out_bias=("attention_bias", False),
            head_bias=("lm_head_bias", False),
            expect=(),
        ),
        replace(WIDE, count="num_local_experts"),
    ),
    "sarvam_moe": (GLM4_MOE, replace(DEEPSEEK, first_default=1)),
    "solar_open": (
        replace(OWN_DIM, unused=("use_qk_norm",), expect=(("attention_bias", (False,)),)),
        replace(DEEPSEEK, first_default=0),
    ),
}  # fmt: skip
"""The rows of each `model_type`."""


FAMILIES: dict[str, Callable[[Reader], Model]] = {
    **{name: moe_family(row, experts) for name, (row, experts) in ROWS_MOE.items()},
    "bailing_moe_v2": moe_family(*ROWS_MOE["bailing_moe"]),
}
"""The reader of each `model_type`."""
