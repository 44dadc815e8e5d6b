"""Families with multi-head latent attention: DeepSeek-V2 and V3, V3.2 with its indexer, and those
who followed: Kimi-K2, GLM-4.7-Flash and 5, Mistral 4, LongCat-Flash.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import replace

from qsopt.catalog.huggingface.attention import indexed_mla, mla
from qsopt.catalog.huggingface.dense import LLAMA, PLAIN
from qsopt.catalog.huggingface.experts import Experts, expert_ffn
from qsopt.catalog.huggingface.family import Family, dense_ffn, family_sizes, finished
from qsopt.catalog.huggingface.ffn import dense, routed, with_router_bias
from qsopt.catalog.huggingface.layers import block_model, one_per_layer, sizes, with_small
from qsopt.catalog.huggingface.reader import Reader
from qsopt.catalog.huggingface.routed import DEEPSEEK
from qsopt.spec.layers import Mla
from qsopt.spec.model import Model

V2 = replace(PLAIN, expect=(("topk_method", ("greedy", "group_limited_greedy")),))
V3 = replace(PLAIN, expect=(("topk_method", ("noaux_tc",)),))


def latent(
    row: Family, experts: Experts, kind: Callable[[Reader, int], Mla] = mla
) -> Callable[[Reader], Model]:
    """Latent attention in every layer, and DeepSeek's pattern of experts."""

    def read(reader: Reader) -> Model:
        size = family_sizes(reader, row)
        attention = kind(reader, size.hidden)
        ffn = expert_ffn(reader, size, row, experts)
        return finished(reader, size, row, [(attention, each) for each in ffn])

    return read


def latent_dense(row: Family) -> Callable[[Reader], Model]:
    """Latent attention and dense feed-forward layers (MiniCPM3, Youtu)."""

    def read(reader: Reader) -> Model:
        size = family_sizes(reader, row)
        attention, ffn = mla(reader, size.hidden), dense_ffn(reader, size, row)
        return finished(reader, size, row, [(attention, ffn)] * size.layers)

    return read


def deepseek_v32(reader: Reader) -> Model:
    """DeepSeek-V3.2 and GLM-5: V3 with the sparse-attention indexer, in every layer or in those
    that `indexer_types` calls full (GLM-5.2); the others take the tokens that the last of these
    chose.

    A layer that shares its tokens is counted without indexer keys and weights.
    """
    reader.skip(
        "index_share_for_mtp_iteration",
        "index_skip_topk_offset",
        "index_topk_freq",
        "index_topk_pattern",
    )
    size = family_sizes(reader, V3)
    if reader.has("layer_types"):
        for name in one_per_layer(reader, "layer_types", reader.words("layer_types"), size.layers):
            if name not in _INDEXED:
                raise reader.error(
                    f"field 'layer_types' holds '{name}'; only {_INDEXED[0]} is known"
                )
    if reader.has("num_experts"):
        reader.agree("num_experts", reader.count("n_routed_experts"), "n_routed_experts")
    full = indexed_mla(reader, size.hidden)
    shared = dataclasses.replace(
        full, index_heads=0, index_dim=0, small=full.small - 2 * full.index_dim
    )
    kinds = {"full": full, "shared": shared}
    names = ["full"] * size.layers
    if reader.has("indexer_types"):
        listed = reader.words("indexer_types")
        names = one_per_layer(reader, "indexer_types", listed, size.layers)
    for name in names:
        if name not in kinds:
            raise reader.error(f"field 'indexer_types' holds '{name}'; full and shared are known")
    ffn = expert_ffn(reader, size, V3, DEEPSEEK)
    blocks = [(kinds[name], each) for name, each in zip(names, ffn, strict=True)]
    return finished(reader, size, V3, blocks)


_INDEXED = ("indexed_attention", "deepseek_sparse_attention")
"""Names of attention with the indexer."""


def longcat_flash(reader: Reader) -> Model:
    """LongCat-Flash: each layer holds two blocks of latent attention, two dense feed-forwards and
    one of experts.

    Of the `moe_topk` choices of a token, those that fall on experts that compute nothing cost
    nothing: top_k is the mean number of real experts under even choice.
    """
    reader.expect("router_bias", False)
    reader.expect("zero_expert_type", "identity")
    size = sizes(reader, layers=reader.either("num_layers", "num_hidden_layers"))
    reader.agree("num_hidden_layers", size.layers, "num_layers")
    attention = mla(reader, size.hidden)
    reader.skip("mla_scale_q_lora", "mla_scale_kv_lora", "attention_method")
    ffn = dense(reader.count("ffn_hidden_size"), size.hidden)
    width = reader.count("expert_ffn_hidden_size")
    moe = routed(reader, 0, width, "n_routed_experts", "moe_topk")
    idle = reader.whole("zero_expert_num", 0)
    real = float(moe.experts) / (float(moe.experts) + idle)
    moe = dataclasses.replace(moe, top_k=float(moe.top_k) * real)
    moe = with_small(with_router_bias(moe), idle * (size.hidden + 1))
    return block_model(reader, size, [(attention, ffn, attention, ffn, moe)] * size.layers)


LITE = replace(DEEPSEEK, first_default=1)

FAMILIES: dict[str, Callable[[Reader], Model]] = {
    "axk1": latent(replace(V3, ffn_norms=2), LITE),
    "deepseek_v2": latent(V2, replace(DEEPSEEK, router_bias=False)),
    "deepseek_v3": latent(V3, DEEPSEEK),
    "deepseek_v32": deepseek_v32,
    "glm4_moe_lite": latent(V3, LITE),
    "glm_moe_dsa": deepseek_v32,
    "kimi_k2": latent(V3, DEEPSEEK),
    "longcat_flash": longcat_flash,
    "minicpm3": latent_dense(
        replace(PLAIN, tied=True, unused=("scale_emb", "scale_depth", "dim_model_base"))
    ),
    "mistral4": latent(V3, replace(DEEPSEEK, router_bias=False, first_default=0)),
    "sarvam_mla": latent(V3, LITE),
    "youtu": latent_dense(
        replace(LLAMA, tied=True, ffn_bias=False, unused=("embedding_initializer_range",))
    ),
}
"""The reader of each `model_type`."""
