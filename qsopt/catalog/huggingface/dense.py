"""Dense families like Llama: one row each (see `family`)."""

from collections.abc import Callable
from dataclasses import replace

from qsopt.catalog.huggingface import patterns
from qsopt.catalog.huggingface.family import (
    Family,
    dense_family,
)
from qsopt.catalog.huggingface.harmless import words
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.model import Model

LLAMA = Family()
"""Llama 2 and 3, and the many that share its class: biases on request, RMS norms, gated."""

PLAIN = replace(
    LLAMA,
    qkv_bias=False,
    out_bias=False,
    ffn_bias=False,
    expect=(("attention_bias", (False,)), ("mlp_bias", (False,))),
)
"""The same without any bias."""

MISTRAL = replace(PLAIN, kv_default=False, one_window=True, window_stated=True)
"""One window for all layers, or null."""

QWEN2 = replace(
    PLAIN,
    kv_default=False,
    qkv_bias=True,
    expect=(),
    switch="use_sliding_window",
    windows=patterns.from_layer,
)
"""Qwen 2 and 2.5: query, key and value have a bias; layers slide only where a switch says so."""

QWEN3 = replace(
    QWEN2,
    qkv_bias=("attention_bias", False),
    out_bias=("attention_bias", False),
    qk_norm="head",
    dim_default=False,
    expect=(("use_qk_norm", (True,)),),
)
"""Qwen 3: a norm on each head of query and key."""

GEMMA = replace(
    PLAIN,
    dim_default=False,
    kv_default=False,
    tied=True,
    expect=(("attention_bias", (False,)), ("use_bidirectional_attention", (False, None, True))),
)
"""Gemma: tied tables and a head size of its own."""

GEMMA2 = replace(GEMMA, attention_norms=2, ffn_norms=2, windows=patterns.periodic(2))
"""Norms before and after both blocks; every second layer slides, beginning with the first."""

COHERE = replace(
    LLAMA, ffn_norms=0, tied=True, qk_norm="full", qk_switch=("use_qk_norm", False), ffn_bias=False
)
"""Command: attention and feed-forward side by side, layer norms without bias, tied."""

OLMO2 = replace(LLAMA, qk_norm="full", ffn_bias=False)
"""OLMo 2: norms as wide as the whole query and key, and after the blocks instead of before."""

ROWS: dict[str, Family] = {
    "apertus": replace(LLAMA, gated=False, qk_norm="head", ffn_bias=False),
    "arcee": replace(LLAMA, gated=False),
    "baichuan": replace(PLAIN, kv_heads="", unused=("z_loss_weight", "model_max_length")),
    "chatglm": replace(
        PLAIN,
        layers="num_layers",
        vocabulary="padded_vocab_size",
        kv_heads="multi_query_group_num",
        head_dim="kv_channels",
        width="ffn_hidden_size",
        qkv_bias=("add_qkv_bias", False),
        expect=(
            ("add_bias_linear", (False,)),
            ("rmsnorm", (True,)),
            ("multi_query_attention", (True,)),
            ("post_layer_norm", (True,)),
        ),
        unused=words(
            """vocab_size seq_length original_rope bias_dropout_fusion attention_softmax_in_fp32
            apply_query_key_layer_scaling quantization_bit fp32_residual_connection pre_seq_len
            prefix_projection"""
        ),
    ),
    "cohere": COHERE,
    "cohere2": replace(
        COHERE,
        windows=patterns.periodic(4, "sliding_window_pattern", "layer_switch"),
        expect=(
            ("use_parallel_block", (True,)),
            ("use_gated_activation", (True,)),
            ("order_of_interleaved_layers", ("local_attn_first",)),
        ),
        unused=("use_embedding_sharing", "use_parallel_embedding", "position_embedding_type"),
    ),
    "cwm": replace(PLAIN, windows=patterns.first_of(4)),
    "ernie4_5": replace(PLAIN, dim_default=False, tied=True, expect=(("use_bias", (False,)),)),
    "exaone": replace(LLAMA, layers="num_hidden_layers|num_layers"),
    "exaone4": replace(PLAIN, qk_norm="head", windows=patterns.lettered),
    "gemma": GEMMA,
    "gemma2": GEMMA2,
    "gemma3_text": replace(
        GEMMA2,
        qk_norm="head",
        windows=patterns.periodic(6, "_sliding_window_pattern", "sliding_window_pattern"),
    ),
    "glm": replace(LLAMA, out_bias=False, ffn_bias=False),
    "glm4": replace(LLAMA, out_bias=False, ffn_bias=False, attention_norms=2, ffn_norms=2),
    "granite": LLAMA,
    "granite_swa": replace(
        LLAMA, tied=True, sinks=True, windows=patterns.first_of(4), unused=("layer_rope_theta",)
    ),
    "helium": LLAMA,
    "hunyuan_v1_dense": replace(
        LLAMA,
        ffn_bias=False,
        qk_norm="head",
        qk_switch=("use_qk_norm", True),
        head_dim="head_dim|attention_head_dim",
        expect=(("use_cla", (False,)), ("num_experts", (1,)), ("moe_topk", (1, [1]))),
        unused=("use_rotary_pos_emb", "norm_type", "org_vocab_size", "mlp_hidden_size"),
    ),
    "hyperclovax": replace(
        LLAMA,
        attention_norms=2,
        ffn_norms=2,
        expect=(("use_post_norm", (True,)),),
    ),
    "internlm2": replace(PLAIN, qkv_bias=False, expect=(("bias", (False,)),)),
    "internlm3": replace(
        PLAIN,
        qkv_bias=("qkv_bias", False),
        expect=(("bias", (False,)), ("attention_bias", (False,)), ("mlp_bias", (False,))),
    ),
    "iquestcoder": LLAMA,
    "jais2": replace(
        LLAMA,
        gated=False,
        norm=2,
        qkv_bias=("attention_bias", True),
        out_bias=("attention_bias", True),
        ffn_bias=("mlp_bias", True),
    ),
    "llama": LLAMA,
    "mimo": replace(QWEN2, qkv_bias=("attention_bias", True)),
    "minicpm": replace(PLAIN, tied=True, unused=("scale_emb", "scale_depth", "dim_model_base")),
    "ministral": MISTRAL,
    "ministral3": replace(MISTRAL, window_stated=False),
    "mistral": MISTRAL,
    "nanochat": replace(LLAMA, gated=False, norm=0, ffn_bias=False),
    "nemotron": replace(PLAIN, gated=False, norm=2),
    "olmo": replace(LLAMA, norm=0, ffn_bias=False, expect=(("weight_tying", (False,)),)),
    "olmo2": OLMO2,
    "olmo3": replace(OLMO2, windows=patterns.periodic(4)),
    "phi3": replace(PLAIN, one_window=True),
    "qwen2": QWEN2,
    "qwen3": QWEN3,
    "seed_oss": replace(
        LLAMA,
        qkv_bias=("attention_bias", True),
        out_bias=("attention_out_bias", False),
    ),
    "smollm3": replace(
        LLAMA,
        tied=True,
        switch="use_sliding_window",
        windows=patterns.periodic(4, "no_rope_layer_interval"),
        unused=("no_rope_layers", "no_rope_layer_interval"),
    ),
    "stablelm": replace(
        PLAIN,
        norm=2,
        qkv_bias=("use_qkv_bias", False),
        qk_norm="full",
        qk_switch=("qk_layernorm", False),
        shared_norm=("use_parallel_residual", False),
        expect=(),
    ),
    "vaultgemma": replace(GEMMA, windows=patterns.periodic(2)),
}
"""The row of each `model_type`."""


FAMILIES: dict[str, Callable[[Reader], Model]] = {
    **{name: dense_family(row) for name, row in ROWS.items()},
    "gemma3": dense_family(ROWS["gemma3_text"]),
    "qwen2_5_vl": dense_family(QWEN2),
    "qwen2_5_vl_text": dense_family(QWEN2),
    "qwen2_vl": dense_family(QWEN2),
    "qwen2_vl_text": dense_family(QWEN2),
    "qwen3_vl_text": dense_family(QWEN3),
    "exaone4_5_text": dense_family(ROWS["exaone4"]),
    "glm4v_text": dense_family(ROWS["glm4"]),
}
"""The reader of each dense `model_type`."""
