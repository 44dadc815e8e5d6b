"""Families whose attention reads few or compressed tokens: MiniMax-M3, DeepSeek-V4."""

import dataclasses
from collections.abc import Callable
from dataclasses import replace

from qsopt.catalog.huggingface.attention import FULL
from qsopt.catalog.huggingface.dense import PLAIN
from qsopt.catalog.huggingface.experts import Experts, expert_ffn, moe_layer
from qsopt.catalog.huggingface.family import family_sizes, finished, softmax
from qsopt.catalog.huggingface.ffn import with_router_bias
from qsopt.catalog.huggingface.layers import Sizes, layer_types, one_per_layer, with_small
from qsopt.catalog.huggingface.reader import Reader
from qsopt.catalog.huggingface.routed import DEEPSEEK
from qsopt.spec.layers import NO_WINDOW, Gqa, Mla
from qsopt.spec.model import Model

# ---- MiniMax-M3 ----------------------------------------------------------------------------------

M3 = replace(
    PLAIN,
    dim_default=False,
    kv_default=False,
    qk_norm="head",
    expect=(
        ("attention_output_gate", (False,)),
        ("qk_norm_type", ("per_head",)),
        ("use_qk_norm", (True,)),
    ),
)
M3_EXPERTS = Experts(
    count="num_local_experts",
    width="moe_intermediate_size|intermediate_size",
    shared_width="shared_intermediate_size",
    router_bias=("use_routing_bias", True),
    period="moe_layer_freq",
    dense_width="dense_intermediate_size",
)
SPARSE = "minimax_m3_sparse"


def minimax_m3(reader: Reader) -> Model:
    """MiniMax-M3: an indexer chooses blocks of tokens in most layers.

    Chosen blocks and the local one count as so many tokens; scores are of every token, before the
    maximum over a block is taken.
    """
    size = family_sizes(reader, M3)
    # The first dense layers stand in `moe_layer_freq` too, the shared expert in its width.
    for key in ("first_k_dense_replace", "n_shared_experts", "intermediate_size"):
        reader.skip(key)
    full = softmax(reader, size.hidden, M3)
    marks = _sparse_marks(reader, size)
    sparse = _indexed(reader, full, size.hidden) if any(marks) else full
    ffn = expert_ffn(reader, size, M3, M3_EXPERTS)
    attention = [sparse if mark else full for mark in marks]
    return finished(reader, size, M3, list(zip(attention, ffn, strict=True)))


def _sparse_marks(reader: Reader, size: Sizes) -> list[bool]:
    """Which layers have the indexer, in a table of its own or by `layer_types`."""
    if reader.has("sparse_attention_config"):
        inner = reader.section("sparse_attention_config")
        inner.skip("sparse_disable_index_value", "sparse_score_type", "sparse_init_block")
        if not inner.flag("use_sparse_attention", True):
            return [False] * size.layers
        marks = inner.marks("sparse_attention_freq")
        return one_per_layer(inner, "sparse_attention_freq", marks, size.layers)
    names = layer_types(reader, size.layers, [FULL] * size.layers)
    reader.skip(*_INDEX)
    for name in names:
        if name not in (FULL, SPARSE):
            raise reader.error(f"field 'layer_types' holds '{name}'; {FULL} and {SPARSE} are known")
    return [name == SPARSE for name in names]


_INDEX = (
    "index_n_heads",
    "index_head_dim",
    "index_block_size",
    "index_topk_blocks",
    "index_local_blocks",
)
_OLD_INDEX = (
    "sparse_num_index_heads",
    "sparse_index_dim",
    "sparse_block_size",
    "sparse_topk_blocks",
    "sparse_local_block",
)


def _indexed(reader: Reader, full: Gqa, hidden: int) -> Gqa:
    """The same attention with the indexer, and norms of its queries and keys."""
    old = reader.has("sparse_attention_config")
    inner = reader.section("sparse_attention_config") if old else reader
    names = _OLD_INDEX if old else _INDEX
    heads, dim, block, blocks, local = (inner.count(name) for name in names)
    indexed = dataclasses.replace(
        full, index_heads=heads, index_dim=dim, index_top_k=block * (blocks + local)
    )
    return with_small(indexed, 2 * dim)


# ---- DeepSeek-V4 ---------------------------------------------------------------------------------

V4 = replace(PLAIN, expect=(("topk_method", ("noaux_tc",)), ("num_key_value_heads", (1,))))
V4_EXPERTS = replace(DEEPSEEK, router_bias=False, first="", period="")
CSA, HCA, RECENT = (
    "compressed_sparse_attention",
    "heavily_compressed_attention",
    "sliding_attention",
)


def deepseek_v4(reader: Reader) -> Model:
    """DeepSeek-V4: every layer keeps its latest tokens one by one, and older ones as compressed
    entries, of which an indexer chooses (CSA), or all of which are read (HCA).

    An entry is key and value of all heads itself. Hyper-connections count as small parameters;
    their arithmetic is left out. Tables of hash routing are not counted (they are integers).
    """
    reader.skip("hc_sinkhorn_iters", "hc_eps", "rms_norm_eps", "num_hash_layers")
    size = family_sizes(reader, V4)
    ratios = _ratios(reader, size)
    kinds = {ratio: _compressed(reader, size.hidden, ratio) for ratio in dict.fromkeys(ratios)}
    moe = moe_layer(reader, size, V4, V4_EXPERTS)
    hashed = _hashed(reader, size)
    streams = reader.count("hc_mult", 4)
    mixing = 2 * streams * size.hidden * (streams**2 + 2 * streams)
    blocks = [
        (with_small(kinds[ratio], mixing), moe if plain else with_router_bias(moe))
        for ratio, plain in zip(ratios, hashed, strict=True)
    ]
    model = finished(reader, size, V4, blocks)
    return with_small(model, streams * streams * size.hidden)


def _hashed(reader: Reader, size: Sizes) -> list[bool]:
    """Layers whose experts follow from the token itself, without a correction bias."""
    if reader.has("mlp_layer_types"):
        names = one_per_layer(
            reader, "mlp_layer_types", reader.words("mlp_layer_types"), size.layers
        )
        return [name == "hash_moe" for name in names]
    first = reader.whole("num_hash_layers", 0)
    return [index < first for index in range(size.layers)]


def _ratios(reader: Reader, size: Sizes) -> list[int]:
    """Tokens in one entry of each layer; 0 where a layer keeps only its latest tokens."""
    if reader.has("compress_ratios"):
        listed = reader.wholes("compress_ratios")
        # Released configs add one entry for each multi-token prediction module.
        extra = reader.whole("num_nextn_predict_layers", 0)
        if len(listed) == size.layers + extra:
            listed = listed[: size.layers]
        return one_per_layer(reader, "compress_ratios", listed, size.layers)
    rates = reader.section("compress_rates")
    known = {CSA: rates.count(CSA), HCA: rates.count(HCA), RECENT: 0}
    names = layer_types(reader, size.layers, [])
    for name in names:
        if name not in known:
            raise reader.error(f"field 'layer_types' holds '{name}'; {', '.join(known)} are known")
    return [known[name] for name in names]


MOST_SPARSE = 16
"""Layers that compress less than so many tokens into one choose among entries with an indexer."""


def _compressed(reader: Reader, hidden: int, ratio: int) -> Mla:
    dim, rope = reader.count("head_dim"), reader.count("qk_rope_head_dim")
    heads, rank = reader.count("num_attention_heads"), reader.count("q_lora_rank")
    sparse = 0 < ratio < MOST_SPARSE
    # Overlapping entries of a sparse layer are made from twice as many columns.
    columns = 0 if ratio == 0 else 2 * dim * (2 if sparse else 1)
    kind = Mla(
        heads=heads,
        q_rank=rank,
        kv_rank=dim - rope,
        nope_dim=dim - rope,
        rope_dim=rope,
        v_dim=dim,
        direct=1.0,
        entry_tokens=ratio or NO_WINDOW,
        recent=reader.count("sliding_window"),
        compressor=columns,
        output_rank=reader.count("o_lora_rank"),
        output_groups=reader.count("o_groups"),
        # Norms of hidden, query and entries, sinks, and positions within an entry.
        small=hidden + rank + dim + heads + (dim + ratio * columns // 2 if ratio else 0),
    )
    index_heads, index_dim = reader.count("index_n_heads"), reader.count("index_head_dim")
    top_k = reader.count("index_topk")
    if not sparse:
        return kind
    # The indexer's keys are compressed too: four products of its size in place of one.
    return dataclasses.replace(
        with_small(kind, index_dim * (1 + 2 * ratio)),
        compressor=columns + 3 * index_dim,
        index_heads=index_heads,
        index_dim=index_dim,
        index_top_k=top_k,
    )


FAMILIES: dict[str, Callable[[Reader], Model]] = {
    "deepseek_ref": deepseek_v4,
    "deepseek_v4": deepseek_v4,
    "minimax_m3": minimax_m3,
    "minimax_m3_vl": minimax_m3,
    "minimax_m3_vl_text": minimax_m3,
}
"""The reader of each `model_type`; DeepSeek's own code writes `deepseek_ref`."""
