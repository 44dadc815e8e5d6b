"""Kinds of attention read from a config, with the small parameters that each family adds: norms,
biases, sinks.

The norm before the attention block (and after it, where a family has both) is counted with the
attention.
"""

import dataclasses
from typing import Literal, NamedTuple

from qsopt.catalog.huggingface.layers import with_small
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.layers import Gqa, Mla

FULL, SLIDING, CHUNKED, LINEAR = (
    "full_attention",
    "sliding_attention",
    "chunked_attention",
    "linear_attention",
)
"""Names of layer types in Hugging Face configs."""

Bias = Literal["none", "qkv", "all"]
"""Which projections have a bias: none, the inputs, or the inputs and the output."""
QkNorm = Literal["none", "head", "full"]
"""Norms of query and key: none, one weight vector for all heads, or one as wide as all heads."""


class Heads(NamedTuple):
    """Query heads, key-value heads and their size."""

    query: int
    kv: int
    dim: int


def divided(reader: Reader, hidden: int, query: int) -> int:
    """Size of a head where hidden is cut into heads."""
    if query < 1 or hidden % query:
        raise reader.error(
            f"hidden size {hidden} does not divide into {query} heads; give 'head_dim' or correct "
            f"one of them"
        )
    return hidden // query


def checked(reader: Reader, size: Heads) -> Heads:
    """The sizes, if each KV head serves equally many query heads."""
    if not 0 < size.kv <= size.query or size.query % size.kv:
        raise reader.error(
            f"{size.query} query heads do not divide into {size.kv} key-value heads; correct "
            f"'num_attention_heads' "
            "or 'num_key_value_heads'"
        )
    return size


def gqa(
    size: Heads, hidden: int, bias: Bias = "none", qk_norm: QkNorm = "none", norms: int = 1
) -> Gqa:
    """Softmax attention with its small parameters; `norms` counts vectors as wide as hidden."""
    projected = (size.query + 2 * size.kv) * size.dim
    biases = {"none": 0, "qkv": projected, "all": projected + hidden}[bias]
    normed = {"none": 0, "head": 2 * size.dim, "full": (size.query + size.kv) * size.dim}[qk_norm]
    return Gqa(
        heads=size.query,
        kv_heads=size.kv,
        head_dim=size.dim,
        small=norms * hidden + biases + normed,
    )


def with_window(kind: Gqa, window: int) -> Gqa:
    """The same attention over at most `window` tokens."""
    return dataclasses.replace(kind, window=window)


def every(period: int, layers: int, often: str, last: str = FULL) -> list[str]:
    """A pattern in which the last layer of each `period` differs."""
    return [last if (index + 1) % period == 0 else often for index in range(layers)]


def mla(reader: Reader, hidden: int) -> Mla:
    """Latent attention of DeepSeek-V2 and later. `num_key_value_heads` and `head_dim` do not enter
    it.
    """
    reader.skip("num_key_value_heads", "head_dim")
    if not reader.states("q_lora_rank"):
        raise reader.error(
            "field 'q_lora_rank' is missing; add the rank, or null if the query is projected "
            "directly"
        )
    q_rank = reader.count("q_lora_rank") if reader.has("q_lora_rank") else 0
    kv_rank, rope = reader.count("kv_lora_rank"), reader.count("qk_rope_head_dim")
    nope = reader.count("qk_nope_head_dim")
    reader.agree("qk_head_dim", nope + rope, "qk_nope_head_dim + qk_rope_head_dim")
    reader.expect("attention_bias", False)
    return Mla(
        heads=reader.count("num_attention_heads"),
        q_rank=q_rank,
        kv_rank=kv_rank,
        nope_dim=nope,
        rope_dim=rope,
        v_dim=reader.count("v_head_dim"),
        small=hidden + q_rank + kv_rank,
    )


def indexed_mla(reader: Reader, hidden: int) -> Mla:
    """Latent attention with the indexer of DeepSeek-V3.2, whose layer norm of the key has weight
    and bias.
    """
    plain = mla(reader, hidden)
    dim = reader.count("index_head_dim")
    indexed = dataclasses.replace(
        plain,
        index_heads=reader.count("index_n_heads"),
        index_dim=dim,
        index_top_k=reader.count("index_topk"),
    )
    return with_small(indexed, 2 * dim)
