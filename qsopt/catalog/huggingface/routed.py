"""Families with softmax attention and routed experts: Mixtral and those who followed."""

import dataclasses

from qsopt.catalog.huggingface.attention import (
    CHUNKED,
    FULL,
    SLIDING,
    Bias,
    Heads,
    checked,
    divided,
    every,
    gqa,
    heads,
    mixed_windows,
    one_window,
    with_window,
)
from qsopt.catalog.huggingface.ffn import (
    alternating,
    biases,
    leading_dense,
    routed,
    with_router_bias,
    with_shared,
)
from qsopt.catalog.huggingface.layers import (
    Sizes,
    decoder_model,
    indices,
    layer_types,
    one_per_layer,
    pick,
    sizes,
    with_small,
)
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.model import Attention, Gqa, Model


def mixtral(reader: Reader) -> Model:
    """Mixtral: every layer has experts."""
    size = sizes(reader)
    attention = one_window(reader, size, gqa(heads(reader, size.hidden), size.hidden))
    moe = routed(reader, size.hidden, reader.count("intermediate_size"))
    return decoder_model(reader, size, attention, [moe] * size.layers)


def grok1(reader: Reader) -> Model:
    """Grok-1: norms before and after both blocks, tied tables."""
    size = sizes(reader)
    attention = gqa(heads(reader, size.hidden), size.hidden, norms=2)
    moe = with_small(
        routed(reader, size.hidden, reader.count("intermediate_size"), "num_experts"), size.hidden
    )
    return decoder_model(reader, size, [attention] * size.layers, [moe] * size.layers, tied=True)


def olmoe(reader: Reader) -> Model:
    """OLMoE: norms as wide as the whole query and key."""
    reader.expect("attention_bias", False)
    size = sizes(reader)
    attention = gqa(heads(reader, size.hidden, kv_default=True), size.hidden, qk_norm="full")
    moe = routed(reader, size.hidden, reader.count("intermediate_size"), "num_experts")
    return decoder_model(reader, size, [attention] * size.layers, [moe] * size.layers)


def phimoe(reader: Reader) -> Model:
    """Phi-3.5-MoE: layer norms with a bias, and the head may have one."""
    size = sizes(reader)
    bias: Bias = "all" if reader.flag("attention_bias", False) else "none"
    attention = one_window(
        reader, size, gqa(heads(reader, size.hidden), size.hidden, bias=bias, norms=2)
    )
    moe = with_small(routed(reader, size.hidden, reader.count("intermediate_size")), size.hidden)
    head_bias = size.vocabulary if reader.flag("lm_head_bias", False) else 0
    return with_small(
        decoder_model(reader, size, attention, [moe] * size.layers), size.hidden + head_bias
    )


def arctic(reader: Reader) -> Model:
    """Arctic: beside the experts a dense branch as wide as hidden, with a norm of its own."""
    reader.require("moe_layer_frequency", 1)
    reader.require("use_residual", True)
    reader.require("parallel_attn_mlp_res", True)
    size = sizes(reader)
    attention = one_window(reader, size, gqa(heads(reader, size.hidden), size.hidden))
    plain = routed(reader, size.hidden, reader.count("intermediate_size"))
    moe = with_small(with_shared(plain, 1, size.hidden), size.hidden)
    return decoder_model(reader, size, attention, [moe] * size.layers)


def dbrx(reader: Reader) -> Model:
    """DBRX: its own names, in a table for attention and one for the experts."""
    size = sizes(reader, "d_model", "n_layers")
    inner, ffn = reader.section("attn_config"), reader.section("ffn_config")
    query = reader.count("n_heads")
    head = checked(
        reader, Heads(query, inner.count("kv_n_heads"), divided(reader, size.hidden, query))
    )
    ffn.agree("hidden_size", size.hidden, "d_model")
    moe = routed(ffn, size.hidden, ffn.count("ffn_hidden_size"), "moe_num_experts", "moe_top_k")
    return decoder_model(reader, size, [gqa(head, size.hidden)] * size.layers, [moe] * size.layers)


def gpt_oss(reader: Reader) -> Model:
    """gpt-oss: biases everywhere, a sink for each head, every second layer slides, beginning with
    the first.
    """
    size = sizes(reader)
    head = heads(reader, size.hidden, dim_default=False)
    bias: Bias = "all" if reader.flag("attention_bias", True) else "none"
    attention = with_small(gqa(head, size.hidden, bias), head.query)
    width = reader.count("intermediate_size")
    moe = with_router_bias(routed(reader, size.hidden, width))
    moe = dataclasses.replace(moe, expert_small=biases(width, size.hidden, 3))
    reader.agree("experts_per_token", reader.count("num_experts_per_tok"), "num_experts_per_tok")
    windows = mixed_windows(reader, size, attention, every(2, size.layers, SLIDING))
    return decoder_model(reader, size, windows, [moe] * size.layers)


def glm4_moe(reader: Reader) -> Model:
    """GLM-4.5: bias on query, key and value, norms on heads where asked, leading dense layers."""
    size = sizes(reader)
    bias: Bias = "qkv" if reader.flag("attention_bias") else "none"
    normed = "head" if reader.flag("use_qk_norm") else "none"
    attention = gqa(
        heads(reader, size.hidden, dim_default=False), size.hidden, bias=bias, qk_norm=normed
    )
    return decoder_model(reader, size, [attention] * size.layers, leading_dense(reader, size, True))


def ernie_moe(reader: Reader) -> Model:
    """ERNIE 4.5 with experts from `moe_layer_start_index` to `moe_layer_end_index`, both included;
    tied by default.
    """
    reader.expect("use_bias", False)
    reader.skip("moe_use_aux_free")
    size = sizes(reader)
    attention = gqa(heads(reader, size.hidden), size.hidden)
    width, period = reader.count("moe_intermediate_size"), reader.count("moe_layer_interval", 1)
    start, end = reader.whole("moe_layer_start_index"), _last_routed(reader, size)
    plain = routed(reader, size.hidden, width, "moe_num_experts", "moe_k")
    moe = with_router_bias(with_shared(plain, reader.whole("moe_num_shared_experts"), width))
    ffn = alternating(
        reader, size, moe, lambda index: start <= index <= end and (index + 1) % period == 0
    )
    return decoder_model(reader, size, [attention] * size.layers, ffn, tied=True)


def _last_routed(reader: Reader, size: Sizes) -> int:
    """Ernie4_5_MoeConfig writes the last layer as -1."""
    if reader.holds("moe_layer_end_index", -1):
        return size.layers - 1
    return reader.whole("moe_layer_end_index")


def minimax_m2(reader: Reader) -> Model:
    """MiniMax-M2: norms as wide as the whole query and key, a routing bias, no shared expert."""
    reader.skip("mlp_intermediate_size", "shared_moe_mode")
    reader.expect("shared_intermediate_size", 0)
    reader.expect("qk_norm_type", "per_layer")
    reader.expect("use_qk_norm", True)
    size = sizes(reader)
    if reader.has("attn_type_list"):
        reader.agree("attn_type_list", [1] * size.layers, "softmax attention in every layer")
    attention = one_window(
        reader,
        size,
        gqa(heads(reader, size.hidden, dim_default=False), size.hidden, qk_norm="full"),
    )
    moe = routed(reader, size.hidden, reader.count("intermediate_size"))
    moe = with_router_bias(moe) if reader.flag("use_routing_bias", True) else moe
    return decoder_model(reader, size, attention, [moe] * size.layers)


def llama4(reader: Reader) -> Model:
    """Llama 4, text model. Layers with rotary positions see a chunk, the others everything; norms
    of heads have no weight.
    """
    reader.expect("attention_bias", False)
    reader.skip("use_qk_norm")
    size = sizes(reader)
    kind = gqa(heads(reader, size.hidden, dim_default=False), size.hidden)
    width = reader.count("intermediate_size")
    moe = with_shared(routed(reader, size.hidden, width), 1, width)
    step = reader.count("interleave_moe_layer_step")
    chosen = (
        indices(reader, "moe_layers", size.layers)
        if reader.has("moe_layers")
        else range(step - 1, size.layers, step)
    )
    ffn = alternating(reader, size, moe, lambda index: index in chosen, "intermediate_size_mlp")
    return decoder_model(reader, size, _chunks(reader, size, kind), ffn)


def _chunks(reader: Reader, size: Sizes, kind: Gqa) -> list[Attention]:
    rotary = [
        layer == CHUNKED
        for layer in every(reader.count("no_rope_layer_interval", 4), size.layers, CHUNKED)
    ]
    if reader.has("no_rope_layers") and (listed := reader.wholes("no_rope_layers")):
        rotary = [
            flag == 1 for flag in one_per_layer(reader, "no_rope_layers", listed, size.layers)
        ]
    types = layer_types(reader, size.layers, [CHUNKED if rotates else FULL for rotates in rotary])
    if not reader.states("attention_chunk_size"):
        raise reader.error(
            "field 'attention_chunk_size' is missing; add the chunk, or null if attention sees "
            "everything"
        )
    if not reader.has("attention_chunk_size"):
        return [kind] * size.layers
    return pick(
        reader,
        types,
        {CHUNKED: with_window(kind, reader.count("attention_chunk_size")), FULL: kind},
    )
