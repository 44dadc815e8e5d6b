"""Dense families like GPT, with layer norms and two matrices in a feed-forward layer; one row each,
and four whose classes need a few lines more.
"""

from collections.abc import Callable
from dataclasses import replace

from qsopt.catalog.huggingface import patterns
from qsopt.catalog.huggingface.attention import Heads, checked, divided, gqa
from qsopt.catalog.huggingface.family import (
    Family,
    dense_family,
    dense_ffn,
    family_sizes,
    finished,
    softmax,
)
from qsopt.catalog.huggingface.harmless import words
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.model import Model

PHI = Family(
    norm=2,
    ffn_norms=0,
    gated=False,
    qkv_bias=True,
    out_bias=True,
    ffn_bias=True,
    head_bias=True,
    qk_norm="head",
    qk_switch=("qk_layernorm", False),
    qk_vectors=2,
    head_dim="",
)
"""Phi 1 and 2: attention and feed-forward side by side, everything biased."""

GPTJ = Family(
    hidden="n_embd",
    layers="n_layer",
    heads="n_head",
    kv_heads="",
    head_dim="",
    width="n_inner",
    width_default=4,
    gated=False,
    norm=2,
    ffn_norms=0,
    qkv_bias=False,
    out_bias=False,
    ffn_bias=True,
    head_bias=True,
    unused=("n_positions", "n_ctx"),
)
"""GPT-J and CodeGen: attention and feed-forward side by side."""

NEOX = Family(
    kv_heads="",
    head_dim="",
    gated=False,
    norm=2,
    qkv_bias=("attention_bias", True),
    out_bias=("attention_bias", True),
    ffn_bias=True,
    unused=("use_parallel_residual",),
)
"""GPT-NeoX and Pythia: everything biased."""


ROWS: dict[str, Family] = {
    "bloom": Family(
        hidden="hidden_size|n_embed",
        layers="n_layer|num_hidden_layers",
        heads="n_head|num_attention_heads",
        kv_heads="",
        head_dim="",
        width="n_inner",
        width_default=4,
        gated=False,
        norm=2,
        more_norms=1,
        qkv_bias=True,
        out_bias=True,
        ffn_bias=True,
        tied=True,
        unused=words(
            """slow_but_exact offset_alibi seq_length attention_softmax_in_fp32 skip_bias_add
            bias_dropout_fusion masked_softmax_fusion skip_bias_add_qkv"""
        ),
    ),
    "codegen": GPTJ,
    "gpt_bigcode": replace(
        GPTJ,
        one_kv_head=True,
        ffn_norms=1,
        qkv_bias=True,
        out_bias=True,
        head_bias=False,
        positions="n_positions",
        tied=True,
        expect=(("multi_query", (True,)), ("add_cross_attention", (False,))),
        unused=words(
            """attention_softmax_in_fp32 scale_attention_softmax_in_fp32 n_ctx inference_runner
            pad_key_length pre_allocate_kv_cache validate_runner_input"""
        ),
    ),
    "gpt_neo": Family(
        layers="num_layers",
        heads="num_heads",
        kv_heads="",
        head_dim="",
        width_default=4,
        gated=False,
        norm=2,
        qkv_bias=False,
        out_bias=True,
        ffn_bias=True,
        positions="max_position_embeddings",
        windows=patterns.neo,
        window="window_size",
        tied=True,
    ),
    "gpt_neox": NEOX,
    "gpt2": replace(
        GPTJ,
        ffn_norms=1,
        qkv_bias=True,
        out_bias=True,
        head_bias=False,
        positions="n_positions",
        tied=True,
        expect=(("add_cross_attention", (False,)),),
        unused=("n_ctx",),
    ),
    "gptj": GPTJ,
    "opt": Family(
        kv_heads="",
        head_dim="",
        width="ffn_dim",
        gated=False,
        norm=2,
        qkv_bias=("enable_bias", True),
        out_bias=("enable_bias", True),
        ffn_bias=("enable_bias", True),
        positions="max_position_embeddings",
        more_positions=2,
        tied=True,
        expect=(
            ("do_layer_norm_before", (True,)),
            ("_remove_final_layer_norm", (False,)),
            ("layer_norm_elementwise_affine", (True,)),
        ),
        unused=("layerdrop", "init_std", "prefix"),
    ),
    "persimmon": replace(
        NEOX,
        qkv_bias=True,
        out_bias=True,
        qk_norm="head",
        qk_switch=("qk_layernorm", True),
        qk_vectors=2,
        unused=(),
    ),
    "phi": PHI,
    "starcoder2": Family(
        gated=False,
        norm=2,
        qkv_bias=("use_bias", True),
        out_bias=("use_bias", True),
        ffn_bias=("use_bias", True),
        tied=True,
        one_window=True,
        kv_default=False,
        unused=("mlp_type", "norm_type"),
    ),
}
"""The row of each `model_type`."""


def opt(reader: Reader) -> Model:
    """OPT, but for the 350M model, whose embedding is narrower than hidden."""
    reader.agree("word_embed_proj_dim", reader.count("hidden_size"), "hidden_size")
    return dense_family(ROWS["opt"])(reader)


def gpt_bigcode(reader: Reader) -> Model:
    """SantaCoder and StarCoder: one head of keys and values."""
    reader.agree("num_key_value_heads", 1, "multi_query")
    return dense_family(ROWS["gpt_bigcode"])(reader)


FALCON = Family(gated=False, norm=2, ffn_bias=False, tied=True)
"""Falcon: attention and feed-forward side by side."""


def falcon(reader: Reader) -> Model:
    """Falcon 7B (one KV head, one norm), 11B, 40B and 180B (grouped heads)."""
    reader.expect("bias", False)
    reader.expect("alibi", False)
    size = family_sizes(reader, FALCON)
    attention_norms, ffn_norms = _falcon_norms(reader)
    row = replace(FALCON, ffn_norms=ffn_norms, width="ffn_hidden_size", width_default=4)
    query = reader.count("num_attention_heads")
    head = Heads(query, _falcon_kv_heads(reader, query), divided(reader, size.hidden, query))
    attention = gqa(checked(reader, head), size.hidden, norms=2 * attention_norms)
    return finished(reader, size, row, [(attention, dense_ffn(reader, size, row))] * size.layers)


def _falcon_kv_heads(reader: Reader, query: int) -> int:
    if reader.flag("new_decoder_architecture", False):
        reader.skip("multi_query")
        return reader.count("num_kv_heads", query)
    reader.skip("num_kv_heads")
    return 1 if reader.flag("multi_query", True) else query


def _falcon_norms(reader: Reader) -> tuple[int, int]:
    """Norms of attention and of the feed-forward; one serves both where they run side by side."""
    new = reader.flag("new_decoder_architecture", False)
    parallel = reader.flag("parallel_attn", True)
    if new and reader.count("num_ln_in_parallel_attn", 2) == 2:
        return 1, 1
    reader.expect("num_ln_in_parallel_attn", 1, None)
    return (1, 0) if parallel or new else (1, 1)


def mpt(reader: Reader) -> Model:
    """MPT: its own names, attention in a table; norms without bias."""
    reader.expect("no_bias", True)
    reader.expect("norm_type", "low_precision_layernorm", "layernorm")
    reader.skip("init_device", "embedding_fraction", "learned_pos_emb", "verbose", "init_config")
    inner = reader.section("attn_config")
    inner.skip("attn_impl", "softmax_scale", "attn_pdrop", "alibi_bias_max", "rope", "clip_qkv")
    inner.expect("attn_type", "multihead_attention", "grouped_query_attention")
    for key in ("prefix_lm", "qk_ln", "attn_uses_sequence_id"):
        inner.expect(key, False)
    inner.require("alibi", True)
    row = Family(
        hidden="d_model", layers="n_layers", heads="n_heads", kv_heads="", head_dim="",
        width="", gated=False, tied=True, qkv_bias=False, out_bias=False, ffn_bias=False,
    )  # fmt: skip
    size = family_sizes(reader, row)
    attention = softmax(reader, size.hidden, row)
    ffn = dense_ffn(reader, size, row, reader.count("expansion_ratio", 4) * size.hidden)
    return finished(reader, size, row, [(attention, ffn)] * size.layers)


FAMILIES: dict[str, Callable[[Reader], Model]] = {
    **{name: dense_family(row) for name, row in ROWS.items()},
    "falcon": falcon,
    "gpt_bigcode": gpt_bigcode,
    "mpt": mpt,
    "opt": opt,
}
"""The reader of each `model_type`."""
