"""Qwen's families with routed experts: Qwen 1.5/2 and 3 MoE, and Qwen3-Next and 3.5 with gated
DeltaNet.
"""

import dataclasses

from qsopt.catalog.huggingface.attention import FULL, LINEAR, Bias, every, gqa, heads
from qsopt.catalog.huggingface.dense import qwen_windows
from qsopt.catalog.huggingface.ffn import alternating, routed, with_shared
from qsopt.catalog.huggingface.layers import (
    Sizes,
    decoder_model,
    indices,
    layer_types,
    pick,
    sizes,
    with_small,
)
from qsopt.catalog.huggingface.linear import delta_net
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.model import Ffn, Model


def qwen2_moe(reader: Reader) -> Model:
    """Qwen 1.5 and 2 MoE: bias on query, key and value, and a gated shared expert."""
    size = sizes(reader)
    bias: Bias = "qkv" if reader.flag("qkv_bias", True) else "none"
    kind = gqa(heads(reader, size.hidden), size.hidden, bias=bias)
    reader.expect("use_sliding_window", False)
    return decoder_model(
        reader, size, qwen_windows(reader, size, kind), _experts(reader, size, shared=True)
    )


def qwen3_moe(reader: Reader) -> Model:
    """Qwen 3 MoE: a norm on each head of query and key, no shared expert."""
    size = sizes(reader)
    bias: Bias = "all" if reader.flag("attention_bias", False) else "none"
    kind = gqa(
        heads(reader, size.hidden, dim_default=False), size.hidden, bias=bias, qk_norm="head"
    )
    reader.expect("use_sliding_window", False)
    return decoder_model(
        reader, size, qwen_windows(reader, size, kind), _experts(reader, size, shared=False)
    )


def qwen3_next(reader: Reader) -> Model:
    """Qwen3-Next and Qwen 3.5 (text model): gated DeltaNet, and every fourth layer softmax
    attention with an output gate.
    """
    reader.expect("attention_bias", False)
    reader.expect("attn_output_gate", True)
    reader.expect("use_sliding_window", False)
    size = sizes(reader)
    softmax = gqa(heads(reader, size.hidden, dim_default=False), size.hidden, qk_norm="head")
    softmax = dataclasses.replace(softmax, output_gate=1.0)
    period = reader.count("full_attention_interval", 4)
    types = layer_types(reader, size.layers, every(period, size.layers, LINEAR))
    attention = pick(reader, types, {FULL: softmax, LINEAR: delta_net(reader, size.hidden)})
    return decoder_model(reader, size, attention, _experts(reader, size, shared=True))


def _experts(reader: Reader, size: Sizes, *, shared: bool) -> list[Ffn]:
    """Experts in every `decoder_sparse_step`-th layer but `mlp_only_layers`; the shared one has a
    gate as wide as hidden.
    """
    step = reader.count("decoder_sparse_step", 1)
    plain = indices(reader, "mlp_only_layers", size.layers) if reader.has("mlp_only_layers") else []
    moe = routed(reader, size.hidden, reader.count("moe_intermediate_size"), "num_experts")
    if shared:
        moe = with_small(
            with_shared(moe, 1, reader.count("shared_expert_intermediate_size")), size.hidden
        )
    return alternating(
        reader, size, moe, lambda index: index not in plain and (index + 1) % step == 0
    )
