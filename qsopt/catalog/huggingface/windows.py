"""Families whose sliding layers have heads of their own: MiMo-V2-Flash, Step-3.5, Laguna."""

import dataclasses
from collections.abc import Callable
from dataclasses import replace

from qsopt.catalog.huggingface.attention import FULL, SLIDING, Heads, checked, gqa, with_window
from qsopt.catalog.huggingface.dense import PLAIN
from qsopt.catalog.huggingface.experts import Experts, expert_ffn
from qsopt.catalog.huggingface.family import family_sizes, finished
from qsopt.catalog.huggingface.layers import (
    Sizes,
    layer_types,
    one_per_layer,
    pick,
    with_small,
)
from qsopt.catalog.huggingface.reader import Reader
from qsopt.catalog.huggingface.routed import DEEPSEEK
from qsopt.spec.layers import Attention, Gqa
from qsopt.spec.model import Model

OWN = replace(PLAIN, expect=(("attention_bias", (False,)), ("mlp_bias", (False,))))


def mimo_v2(reader: Reader) -> Model:
    """MiMo-V2-Flash: values narrower than keys, more KV heads and a sink in sliding layers.

    A head counts as wide as the mean of its key and its value, which gives the same parameters,
    cache and arithmetic.
    """
    row = replace(OWN, expect=(*OWN.expect, ("topk_method", ("noaux_tc",))))
    size = family_sizes(reader, row)
    names = _mimo_types(reader, size)
    full = _mimo_heads(reader, "", size.hidden)
    sliding = _mimo_heads(reader, "swa_", size.hidden)
    sinks = float(sliding.heads) * reader.flag("add_swa_attention_sink_bias", True)
    reader.expect("add_full_attention_sink_bias", False)
    window = reader.count("sliding_window")
    reader.agree("sliding_window_size", window, "sliding_window")
    reader.agree("attention_chunk_size", window, "sliding_window")
    kinds = {FULL: full, SLIDING: with_window(with_small(sliding, sinks), window)}
    ffn = expert_ffn(reader, size, row, replace(DEEPSEEK, first_default=0, shared_default=0))
    attention = pick(reader, names, kinds)
    return finished(reader, size, row, list(zip(attention, ffn, strict=True)))


def _mimo_types(reader: Reader, size: Sizes) -> list[str]:
    if not reader.has("hybrid_layer_pattern"):
        return layer_types(reader, size.layers, [])
    marks = reader.marks("hybrid_layer_pattern")
    marks = one_per_layer(reader, "hybrid_layer_pattern", marks, size.layers)
    return [SLIDING if mark else FULL for mark in marks]


def _mimo_heads(reader: Reader, prefix: str, hidden: int) -> Gqa:
    """Sizes of sliding layers under their own names; the class gives these twice the KV heads."""
    query, kv = reader.count("num_attention_heads"), reader.count("num_key_value_heads")
    key, value = reader.count("head_dim"), reader.count("v_head_dim")
    if prefix:
        query = reader.count("swa_num_attention_heads", query)
        kv = reader.count("swa_num_key_value_heads", 2 * kv)
        key, value = reader.count("swa_head_dim", key), reader.count("swa_v_head_dim", value)
    kind = gqa(checked(reader, Heads(query, kv, key)), hidden)
    return dataclasses.replace(kind, head_dim=(key + value) / 2)


STEP_EXPERTS = Experts(
    count="n_routed_experts|num_experts",
    shared_width="share_expert_dim",
    router_bias=("use_moe_router_bias", True),
    first="first_k_dense_replace",
    first_default=3,
)


def step3p5(reader: Reader) -> Model:
    """Step-3.5 and 3.7: sliding layers may have more query heads; each head has an output gate."""
    reader.skip("n_shared_experts", "moe_router_scaling_factor")
    size = family_sizes(reader, OWN)
    types = layer_types(reader, size.layers, [FULL] * size.layers)
    query = reader.count("num_attention_heads")
    sliding = reader.count("num_sliding_attention_heads", query)
    kinds = {FULL: _step_heads(reader, query, size.hidden)}
    if SLIDING in types:
        kind = _step_heads(reader, sliding, size.hidden)
        kinds[SLIDING] = with_window(kind, reader.count("sliding_window"))
    reader.skip("sliding_window")
    ffn = expert_ffn(reader, size, OWN, _step_experts(reader))
    attention = pick(reader, types, kinds)
    return finished(reader, size, OWN, list(zip(attention, ffn, strict=True)))


def _step_experts(reader: Reader) -> Experts:
    """The one shared expert is as wide as a routed one where its width is not said."""
    if reader.has("share_expert_dim"):
        return STEP_EXPERTS
    return replace(STEP_EXPERTS, shared_width="moe_intermediate_size")


def _step_heads(reader: Reader, query: int, hidden: int) -> Gqa:
    head = Heads(query, reader.count("num_key_value_heads"), reader.count("head_dim"))
    return with_small(gqa(checked(reader, head), hidden, qk_norm="head"), query * hidden)


def laguna(reader: Reader) -> Model:
    """Laguna: query heads in a list of layers, one output gate for each."""
    size = family_sizes(reader, OWN)
    types = layer_types(reader, size.layers, [FULL] * size.layers)
    gate = reader.flag("gating", True)
    default = reader.count("num_attention_heads")
    queries = [default] * size.layers
    if reader.has("num_attention_heads_per_layer"):
        listed = reader.wholes("num_attention_heads_per_layer")
        queries = one_per_layer(reader, "num_attention_heads_per_layer", listed, size.layers)
    attention = [
        _laguna_layer(reader, name, query, size.hidden, gate)
        for name, query in zip(types, queries, strict=True)
    ]
    reader.skip("sliding_window")
    experts = Experts(
        count="num_experts",
        shared_width="shared_expert_intermediate_size",
        router_bias=True,
        first="first_k_dense_replace",
        first_default=1,
    )
    ffn = expert_ffn(reader, size, OWN, experts)
    return finished(reader, size, OWN, list(zip(attention, ffn, strict=True)))


def _laguna_layer(reader: Reader, name: str, query: int, hidden: int, gate: bool) -> Attention:
    head = Heads(query, reader.count("num_key_value_heads"), reader.count("head_dim"))
    kind = gqa(checked(reader, head), hidden, qk_norm="head")
    kind = with_small(kind, query * hidden) if gate else kind
    if name == SLIDING:
        return with_window(kind, reader.count("sliding_window"))
    return pick(reader, [name], {FULL: kind})[0]


FAMILIES: dict[str, Callable[[Reader], Model]] = {
    "laguna": laguna,
    "mimo_v2_flash": mimo_v2,
    "step3p5": step3p5,
    "step3p7": step3p5,
}
"""The reader of each `model_type`."""
