"""Families with softmax attention and routed experts whose classes need a few lines more than a
row: Arctic, DBRX, gpt-oss, ERNIE 4.5, MiniMax-M2, Llama 4.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import replace

from qsopt.catalog.huggingface import patterns
from qsopt.catalog.huggingface.attention import (
    CHUNKED,
    FULL,
    Heads,
    checked,
    divided,
    every,
    gqa,
    with_window,
)
from qsopt.catalog.huggingface.dense import MISTRAL, PLAIN
from qsopt.catalog.huggingface.experts import Experts, expert_ffn, moe_layer, placed
from qsopt.catalog.huggingface.family import (
    family_sizes,
    finished,
    softmax,
    softmax_layers,
)
from qsopt.catalog.huggingface.ffn import biases, routed, with_router_bias, with_shared
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
from qsopt.catalog.huggingface.routed import OWN_DIM, WIDE
from qsopt.spec.layers import Attention, Gqa
from qsopt.spec.model import Model


def arctic(reader: Reader) -> Model:
    """Arctic: beside the experts a dense branch as wide as hidden, with a norm of its own."""
    reader.require("moe_layer_frequency", 1)
    reader.require("use_residual", True)
    reader.require("parallel_attn_mlp_res", True)
    row = replace(MISTRAL, window_stated=False)
    size = family_sizes(reader, row)
    attention = softmax_layers(reader, size, row)
    plain = moe_layer(reader, size, row, replace(WIDE, count="num_local_experts"))
    moe = with_small(with_shared(plain, 1, size.hidden), size.hidden)
    return finished(reader, size, row, [(layer, moe) for layer in attention])


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


GPT_OSS = replace(
    OWN_DIM,
    qkv_bias=("attention_bias", True),
    out_bias=("attention_bias", True),
    expect=(),
    sinks=True,
    windows=patterns.periodic(2),
)


def gpt_oss(reader: Reader) -> Model:
    """gpt-oss: biases everywhere, a sink for each head, every second layer slides, beginning with
    the first.
    """
    size = family_sizes(reader, GPT_OSS)
    attention = softmax_layers(reader, size, GPT_OSS)
    width = reader.count("intermediate_size")
    moe = with_router_bias(moe_layer(reader, size, GPT_OSS, WIDE))
    moe = dataclasses.replace(moe, expert_small=biases(width, size.hidden, 3))
    reader.agree("experts_per_token", reader.count("num_experts_per_tok"), "num_experts_per_tok")
    return finished(reader, size, GPT_OSS, [(layer, moe) for layer in attention])


ERNIE = Experts(
    count="moe_num_experts",
    top_k="moe_k",
    shared="moe_num_shared_experts",
    router_bias=True,
)


def ernie_moe(reader: Reader) -> Model:
    """ERNIE 4.5 with experts from `moe_layer_start_index` to `moe_layer_end_index`, both included;
    tied by default.
    """
    row = replace(PLAIN, kv_default=False, tied=True, expect=(("use_bias", (False,)),))
    reader.skip("moe_use_aux_free")
    size = family_sizes(reader, row)
    attention = softmax_layers(reader, size, row)
    period = reader.count("moe_layer_interval", 1)
    if reader.has("mlp_layer_types") and not reader.has("moe_layer_start_index"):
        ffn = expert_ffn(reader, size, row, ERNIE)
    else:
        start, end = reader.whole("moe_layer_start_index"), _last_routed(reader, size)
        chosen = [
            start <= index <= end and (index + 1) % period == 0 for index in range(size.layers)
        ]
        ffn = placed(reader, size, row, ERNIE, moe_layer(reader, size, row, ERNIE), chosen)
    return finished(reader, size, row, list(zip(attention, ffn, strict=True)))


def _last_routed(reader: Reader, size: Sizes) -> int:
    """Ernie4_5_MoeConfig writes the last layer as -1."""
    if reader.holds("moe_layer_end_index", -1):
        return size.layers - 1
    last = reader.whole("moe_layer_end_index")
    if last >= size.layers:
        raise reader.error(
            f"field 'moe_layer_end_index' = {last} lies beyond the last of {size.layers} layers; "
            f"correct it, or write -1 for the last"
        )
    return last


def minimax_m2(reader: Reader) -> Model:
    """MiniMax-M2: norms as wide as the whole query and key, a routing bias, no shared expert."""
    row = replace(OWN_DIM, qk_norm="full", one_window=True)
    reader.skip("mlp_intermediate_size", "shared_moe_mode")
    reader.expect("shared_intermediate_size", 0)
    reader.expect("qk_norm_type", "per_layer")
    reader.expect("use_qk_norm", True)
    size = family_sizes(reader, row)
    if reader.has("attn_type_list"):
        reader.agree("attn_type_list", [1] * size.layers, "softmax attention in every layer")
    experts = replace(WIDE, count="num_local_experts", router_bias=("use_routing_bias", True))
    moe = moe_layer(reader, size, row, experts)
    attention = softmax_layers(reader, size, row)
    return finished(reader, size, row, [(layer, moe) for layer in attention])


def llama4(reader: Reader) -> Model:
    """Llama 4, text model. Layers with rotary positions see a chunk, the others everything; norms
    of heads have no weight.
    """
    reader.skip("use_qk_norm")
    row = replace(OWN_DIM, expect=(("attention_bias", (False,)),))
    size = family_sizes(reader, row)
    kind = softmax(reader, size.hidden, row)
    width = reader.count("intermediate_size")
    experts = replace(WIDE, count="num_local_experts", dense_width="intermediate_size_mlp")
    moe = with_shared(moe_layer(reader, size, row, experts), 1, width)
    step = reader.count("interleave_moe_layer_step")
    layers = (
        indices(reader, "moe_layers", size.layers)
        if reader.has("moe_layers")
        else range(step - 1, size.layers, step)
    )
    ffn = placed(reader, size, row, experts, moe, [i in layers for i in range(size.layers)])
    return decoder_model(reader, size, _chunks(reader, size, kind), ffn)


def _chunks(reader: Reader, size: Sizes, kind: Gqa) -> list[Attention]:
    rotary = [
        layer == CHUNKED
        for layer in every(reader.count("no_rope_layer_interval", 4), size.layers, CHUNKED)
    ]
    if reader.has("no_rope_layers") and (listed := reader.marks("no_rope_layers")):
        rotary = one_per_layer(reader, "no_rope_layers", listed, size.layers)
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


FAMILIES: dict[str, Callable[[Reader], Model]] = {
    "arctic": arctic,
    "dbrx": dbrx,
    "ernie4_5_moe": ernie_moe,
    "gpt_oss": gpt_oss,
    "llama4": llama4,
    "llama4_text": llama4,
    "minimax_m2": minimax_m2,
}
"""The reader of each `model_type`."""
