"""Hybrid families beside Qwen's and those of Mamba-2: lightning attention (MiniMax-M1), Mamba-1
(Jamba), short convolutions (LFM2), Kimi Delta Attention, gated DeltaNet with plain names (OLMo
Hybrid).
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import replace

from qsopt.catalog.huggingface.attention import FULL, LINEAR, every, mla
from qsopt.catalog.huggingface.dense import OLMO2, PLAIN
from qsopt.catalog.huggingface.experts import Experts, expert_ffn, moe_layer, placed
from qsopt.catalog.huggingface.family import (
    Family,
    dense_ffn,
    family_heads,
    family_sizes,
    finished,
    softmax,
)
from qsopt.catalog.huggingface.harmless import words
from qsopt.catalog.huggingface.layers import (
    Sizes,
    decoder_model,
    indices,
    layer_types,
    one_per_layer,
    pick,
    with_small,
)
from qsopt.catalog.huggingface.linear import (
    delta_net_apart,
    kimi_delta,
    lightning,
    mamba1_normed,
    short_convolution,
)
from qsopt.catalog.huggingface.reader import Reader
from qsopt.catalog.huggingface.routed import WIDE
from qsopt.spec.layers import Attention, Ffn, LinearAttention, MoeFfn
from qsopt.spec.model import Model

MINIMAX = replace(PLAIN, kv_default=False)


def minimax(reader: Reader) -> Model:
    """MiniMax-M1 and Text-01 as ported to transformers, where every second layer is linear unless
    `layer_types` says more.
    """
    size = family_sizes(reader, MINIMAX)
    return _minimax(
        reader, size, layer_types(reader, size.layers, every(2, size.layers, FULL, LINEAR))
    )


def minimax_m1(reader: Reader) -> Model:
    """MiniMax-M1 and Text-01 as released: `attn_type_list` has 0 for a linear layer and 1 for
    softmax attention.
    """
    size = family_sizes(reader, MINIMAX)
    listed = one_per_layer(reader, "attn_type_list", reader.marks("attn_type_list"), size.layers)
    return _minimax(reader, size, [FULL if kind else LINEAR for kind in listed])


def _minimax(reader: Reader, size: Sizes, types: list[str]) -> Model:
    """Lightning attention and softmax attention, experts everywhere."""
    reader.skip("shared_moe_mode", "block_size")
    reader.expect("shared_intermediate_size", 0)
    reader.expect("sliding_window", None)
    head = family_heads(reader, size.hidden, MINIMAX)
    kinds = {
        LINEAR: lightning(head.query, head.dim, size.hidden),
        FULL: softmax(reader, size.hidden, MINIMAX),
    }
    attention = pick(reader, types, kinds)
    moe = moe_layer(reader, size, MINIMAX, replace(WIDE, count="num_local_experts"))
    return decoder_model(reader, size, attention, [moe] * size.layers)


def jamba(reader: Reader) -> Model:
    """Jamba: Mamba layers, one in `attn_layer_period` softmax attention; experts in one of
    `expert_layer_period`.
    """
    row = replace(PLAIN, kv_default=False)
    reader.skip("num_logits_to_keep")
    size = family_sizes(reader, row)
    types = [FULL if here else LINEAR for here in _period(reader, size, "attn_layer")]
    kinds = {LINEAR: mamba1_normed(reader, size.hidden), FULL: softmax(reader, size.hidden, row)}
    attention = pick(reader, types, kinds)
    if reader.holds("num_experts", 1):
        reader.skip("num_experts_per_tok", "expert_layer_period", "expert_layer_offset")
        ffn: Sequence[Ffn] = [dense_ffn(reader, size, row)] * size.layers
    else:
        experts = replace(WIDE, count="num_experts")
        moe = moe_layer(reader, size, row, experts)
        ffn = placed(reader, size, row, experts, moe, _period(reader, size, "expert_layer"))
    return finished(reader, size, row, list(zip(attention, ffn, strict=True)))


def _period(reader: Reader, size: Sizes, name: str) -> list[bool]:
    """The layers at an offset in each period.

    Raises:
        InputError: if the offset lies beyond the period, so that no layer would be meant.
    """
    period, offset = reader.count(f"{name}_period"), reader.whole(f"{name}_offset")
    if offset >= period:
        raise reader.error(
            f"field '{name}_offset' = {offset} lies beyond '{name}_period' = {period}; an offset "
            f"is at most the period less one"
        )
    return [index % period == offset for index in range(size.layers)]


# ---- LFM2 ----------------------------------------------------------------------------------------

LFM2 = replace(PLAIN, qk_norm="head", tied=True, width="intermediate_size|block_ff_dim")
_LFM2_NAMES = words(
    "block_dim conv_dim conv_dim_out block_use_swiglu block_use_xavier_init block_mlp_init_scale "
    "block_norm_eps block_out_init_scale num_heads use_pos_enc conv_use_xavier_init theta "
    "block_ff_dim tie_embedding norm_topk_prob"
)


def lfm2(reader: Reader) -> Model:
    """LFM2: short convolutions with some softmax attention, gated feed-forward."""
    size = family_sizes(reader, LFM2)
    attention = _lfm2_attention(reader, size)
    ffn = dense_ffn(reader, size, LFM2, _lfm2_width(reader))
    return finished(reader, size, LFM2, [(layer, ffn) for layer in attention])


def lfm2_moe(reader: Reader) -> Model:
    """LFM2 with experts after the leading dense layers."""
    size = family_sizes(reader, LFM2)
    attention = _lfm2_attention(reader, size)
    experts = Experts(
        count="num_experts",
        first="num_dense_layers",
        first_default=2,
        router_bias=("use_expert_bias", True),
    )
    ffn = expert_ffn(reader, size, LFM2, experts)
    return finished(reader, size, LFM2, list(zip(attention, ffn, strict=True)))


def _lfm2_attention(reader: Reader, size: Sizes) -> list[Attention]:
    reader.skip(*_LFM2_NAMES)
    placed_at: list[int] = []
    if reader.has("full_attn_idxs"):
        placed_at = indices(reader, "full_attn_idxs", size.layers)
    pattern = [FULL if index in placed_at else "conv" for index in range(size.layers)]
    types = layer_types(reader, size.layers, pattern)
    if placed_at and types != pattern:
        raise reader.error("'layer_types' contradicts 'full_attn_idxs'; correct one of them")
    kernel, bias = reader.count("conv_L_cache"), reader.flag("conv_bias", False)
    kinds = {
        "conv": short_convolution(kernel, bias, size.hidden),
        FULL: softmax(reader, size.hidden, LFM2),
    }
    return pick(reader, types, kinds)


def _lfm2_width(reader: Reader) -> int:
    """Two thirds of the width as stated, times a factor, rounded up, where the class adjusts it."""
    width = reader.count(reader.either("intermediate_size", "block_ff_dim"))
    multiple = reader.count("block_multiple_of", 256)
    factor = reader.real("block_ffn_dim_multiplier", 1.0)
    if not reader.flag("block_auto_adjust_ff_dim", True):
        return width
    return -(-int(factor * int(2 * width / 3)) // multiple) * multiple


# ---- Kimi ----------------------------------------------------------------------------------------

KIMI = replace(PLAIN, expect=(("mla_use_nope", (True,)), ("topk_method", ("noaux_tc",))))
KIMI_EXPERTS = Experts(
    count="num_experts",
    top_k="num_experts_per_token|num_experts_per_tok",
    shared="num_shared_experts",
    router_bias=True,
    first="first_k_dense_replace",
    first_default=1,
    period="moe_layer_freq",
)
_KIMI_NAMES = words("latent_moe_use_norm attn_res_block_size")


def kimi_linear(reader: Reader) -> Model:
    """Kimi-Linear and the text model of Kimi-K3: Kimi Delta Attention, some latent attention.

    Kimi-K3's experts work in a narrower space (`routed_expert_hidden_size`): they are counted as
    narrower in the same proportion, and the projections into it and back as shared experts (of 2/3
    the latent size, since those here have three matrices). The output gate of its latent attention
    counts as small, and its residual attention over blocks of layers is left out.
    """
    reader.skip(*_KIMI_NAMES)
    size = family_sizes(reader, KIMI)
    ffn = expert_ffn(reader, size, KIMI, KIMI_EXPERTS)
    latent = mla(reader, size.hidden)
    if reader.flag("mla_use_output_gate", False):
        latent = with_small(latent, size.hidden * float(latent.heads * latent.v_dim))
    kinds = {LINEAR: _kda(reader, size), FULL: latent}
    attention = pick(reader, _kimi_types(reader, size), kinds)
    ffn = [_in_latent_space(reader, size, layer) for layer in ffn]
    return finished(reader, size, KIMI, list(zip(attention, ffn, strict=True)))


def _kda(reader: Reader, size: Sizes) -> LinearAttention:
    if not reader.has("linear_attn_config"):
        return kimi_delta(
            reader.count("linear_num_heads"),
            reader.count("linear_head_dim"),
            reader.count("linear_conv_kernel_dim"),
            size.hidden,
            low_rank=True,
        )
    inner = reader.section("linear_attn_config")
    inner.skip("full_attn_layers", "kda_layers", "gate_lower_bound")
    heads, dim = inner.count("num_heads"), inner.count("head_dim")
    gate_rank = heads * dim if inner.flag("use_full_rank_gate", False) else dim
    kernel = inner.count("short_conv_kernel_size")
    return kimi_delta(heads, dim, kernel, size.hidden, low_rank=True, gate_rank=gate_rank)


def _kimi_types(reader: Reader, size: Sizes) -> list[str]:
    if not reader.has("linear_attn_config"):
        return layer_types(reader, size.layers, [])
    inner = reader.section("linear_attn_config")
    full, linear = inner.wholes("full_attn_layers"), inner.wholes("kda_layers")
    if sorted(full + linear) != list(range(1, size.layers + 1)):
        raise inner.error(
            f"'full_attn_layers' and 'kda_layers' must together name layers 1 to {size.layers} "
            f"once each"
        )
    return [FULL if index + 1 in full else LINEAR for index in range(size.layers)]


def _in_latent_space(reader: Reader, size: Sizes, ffn: Ffn) -> Ffn:
    if not reader.has("routed_expert_hidden_size") or not isinstance(ffn, MoeFfn):
        return ffn
    latent = reader.count("routed_expert_hidden_size")
    shared = float(ffn.shared_experts * ffn.shared_width) + latent * 2 / 3
    return dataclasses.replace(
        ffn, width=ffn.width * latent / size.hidden, shared_experts=1, shared_width=shared
    )


def bailing_hybrid(reader: Reader) -> Model:
    """Ling 2.5 as ported to transformers: Kimi Delta Attention with direct gates, and latent
    attention with a gate for each head.
    """
    reader.skip("layer_group_size", "kda_safe_gate", "kda_lower_bound", "short_conv_kernel_size")
    reader.skip(*_KIMI_NAMES)
    row = replace(PLAIN, expect=())
    size = family_sizes(reader, row)
    latent = mla(reader, size.hidden)
    kinds = {
        LINEAR: kimi_delta(
            reader.count("linear_num_heads"),
            reader.count("linear_head_dim"),
            reader.count("linear_conv_kernel_dim"),
            size.hidden,
            low_rank=False,
        ),
        FULL: with_small(latent, size.hidden * float(latent.heads)),
    }
    ffn = expert_ffn(reader, size, row, KIMI_EXPERTS)
    attention = pick(reader, layer_types(reader, size.layers, []), kinds)
    return finished(reader, size, row, list(zip(attention, ffn, strict=True)))


def olmo_hybrid(reader: Reader) -> Model:
    """OLMo Hybrid: gated DeltaNet with every fourth layer softmax attention."""
    row: Family = replace(OLMO2, ffn_bias=False)
    size = family_sizes(reader, row)
    kinds = {LINEAR: delta_net_apart(reader, size.hidden), FULL: softmax(reader, size.hidden, row)}
    types = layer_types(reader, size.layers, every(4, size.layers, LINEAR))
    attention, ffn = pick(reader, types, kinds), dense_ffn(reader, size, row)
    return finished(reader, size, row, [(layer, ffn) for layer in attention])


FAMILIES: dict[str, Callable[[Reader], Model]] = {
    "bailing_hybrid": bailing_hybrid,
    "jamba": jamba,
    "kimi_linear": kimi_linear,
    "lfm2": lfm2,
    "lfm2_moe": lfm2_moe,
    "minimax": minimax,
    "minimax_m1": minimax_m1,
    "minimax_text_01": minimax_m1,
    "olmo_hybrid": olmo_hybrid,
}
"""The reader of each `model_type`."""
