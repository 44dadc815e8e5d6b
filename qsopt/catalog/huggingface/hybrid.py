"""Hybrid families beside Qwen's: lightning attention (MiniMax-M1 and 01) and Mamba (Jamba)."""

from qsopt.catalog.huggingface.attention import FULL, LINEAR, every, gqa, heads
from qsopt.catalog.huggingface.ffn import alternating, routed
from qsopt.catalog.huggingface.layers import (
    Sizes,
    decoder_model,
    layer_types,
    one_per_layer,
    pick,
    sizes,
)
from qsopt.catalog.huggingface.linear import lightning, mamba
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.model import Model


def minimax(reader: Reader) -> Model:
    """MiniMax-M1 and Text-01 as ported to transformers, where every second layer is linear unless
    `layer_types` says more.
    """
    size = sizes(reader)
    return _minimax(
        reader, size, layer_types(reader, size.layers, every(2, size.layers, FULL, LINEAR))
    )


def minimax_m1(reader: Reader) -> Model:
    """MiniMax-M1 and Text-01 as released: `attn_type_list` has 0 for a linear layer and 1 for
    softmax attention.
    """
    size = sizes(reader)
    listed = one_per_layer(reader, "attn_type_list", reader.wholes("attn_type_list"), size.layers)
    return _minimax(reader, size, [FULL if kind else LINEAR for kind in listed])


def _minimax(reader: Reader, size: Sizes, types: list[str]) -> Model:
    """Lightning attention and softmax attention, experts everywhere."""
    reader.skip("shared_moe_mode")
    reader.expect("shared_intermediate_size", 0)
    reader.expect("sliding_window", None)
    head = heads(reader, size.hidden)
    kinds = {LINEAR: lightning(head.query, head.dim, size.hidden), FULL: gqa(head, size.hidden)}
    attention = pick(reader, types, kinds)
    moe = routed(reader, size.hidden, reader.count("intermediate_size"))
    return decoder_model(reader, size, attention, [moe] * size.layers)


def jamba(reader: Reader) -> Model:
    """Jamba: Mamba layers, one in `attn_layer_period` softmax attention; experts in one of
    `expert_layer_period`.
    """
    size = sizes(reader)
    period, offset = reader.count("attn_layer_period"), reader.whole("attn_layer_offset")
    types = [FULL if index % period == offset else LINEAR for index in range(size.layers)]
    kinds = {LINEAR: mamba(reader, size.hidden), FULL: gqa(heads(reader, size.hidden), size.hidden)}
    step, first = reader.count("expert_layer_period"), reader.whole("expert_layer_offset")
    moe = routed(reader, size.hidden, reader.count("intermediate_size"), "num_experts")
    ffn = alternating(reader, size, moe, lambda index: index % step == first)
    return decoder_model(reader, size, pick(reader, types, kinds), ffn)
