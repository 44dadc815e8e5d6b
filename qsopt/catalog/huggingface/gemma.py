"""Gemma 3n and Gemma 4: tables of embeddings for each layer, keys and values shared between layers,
heads of another size where attention sees everything, experts beside a dense layer.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import replace

from qsopt.catalog.huggingface import patterns
from qsopt.catalog.huggingface.attention import FULL, SLIDING, Heads, checked, gqa, with_window
from qsopt.catalog.huggingface.dense import GEMMA2
from qsopt.catalog.huggingface.experts import Experts, moe_layer
from qsopt.catalog.huggingface.family import dense_ffn, family_sizes, finished
from qsopt.catalog.huggingface.ffn import with_shared
from qsopt.catalog.huggingface.layers import Sizes, layer_types, one_per_layer, with_small
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.layers import Attention, DenseFfn, Ffn, Gqa
from qsopt.spec.model import Model

GEMMA3N = replace(GEMMA2, qk_norm="head")
GEMMA4 = replace(
    GEMMA3N,
    expect=(
        ("attention_bias", (False,)),
        ("use_bidirectional_attention", (False, None, "vision")),
    ),
    unused=("use_double_wide_mlp_scale", "expert_intermediate_size"),
)
EXPERTS = Experts(count="num_experts", top_k="top_k_experts|num_experts_per_tok")

_ALTUP = (
    "altup_active_idx",
    "altup_coef_clip",
    "altup_correct_scale",
    "activation_sparsity_pattern",
    "altup_lr_multiplier",
)


def gemma3n(reader: Reader) -> Model:
    """Gemma 3n, text model. The table of embeddings for each layer is resident, since a step looks
    up single rows; gates and projections around it, LAuReL and AltUp, count as small: resident, and
    their time is left out (1 % of the weights read). All widths of the feed-forward must be equal.
    """
    reader.skip(*_ALTUP)
    size = family_sizes(reader, GEMMA3N)
    width = _same_width(reader, size.layers)
    types = layer_types(reader, size.layers, patterns.periodic(5)(reader, size.layers))
    attention = _shared_layers(reader, types, _same_heads(reader, size, types))
    inputs, rank = reader.count("altup_num_inputs", 4), reader.count("laurel_rank", 64)
    layered = reader.count("hidden_size_per_layer_input")
    odd = _altup(inputs, size.hidden) + 2 * rank * size.hidden + size.hidden
    odd += 2 * layered * size.hidden + size.hidden
    ffn = with_small(dense_ffn(reader, size, GEMMA3N, width), odd)
    model = finished(reader, size, GEMMA3N, [(layer, ffn) for layer in attention])
    outside = 2 * (inputs - 1) * size.hidden**2 + layered * (size.layers * size.hidden + 1)
    return _with_tables(reader, size, with_small(model, outside), layered)


def _altup(inputs: int, hidden: int) -> int:
    """Prediction and correction of AltUp in one layer."""
    return hidden * (inputs + 2) + inputs**3 + inputs**2


def _with_tables(reader: Reader, size: Sizes, model: Model, layered: int) -> Model:
    rows = reader.count("vocab_size_per_layer_input")
    return dataclasses.replace(model, resident=rows * size.layers * layered)


def _same_width(reader: Reader, layers: int) -> int:
    if not reader.listed("intermediate_size"):
        return reader.count("intermediate_size")
    widths = reader.wholes("intermediate_size")
    one_per_layer(reader, "intermediate_size", widths, layers)
    if len(set(widths)) > 1:
        raise reader.error(
            "field 'intermediate_size' has several widths, which this family's reader does not "
            "tell apart; build the model with qsopt.model"
        )
    return widths[0]


def _same_heads(reader: Reader, size: Sizes, types: Sequence[str]) -> dict[str, Gqa]:
    head = Heads(
        reader.count("num_attention_heads"),
        reader.count("num_key_value_heads"),
        reader.count("head_dim"),
    )
    kind = gqa(checked(reader, head), size.hidden, qk_norm="head", norms=2)
    if SLIDING not in types:
        reader.skip("sliding_window")
        return {FULL: kind}
    return {FULL: kind, SLIDING: with_window(kind, reader.count("sliding_window"))}


def _shared_layers(reader: Reader, types: Sequence[str], kinds: dict[str, Gqa]) -> list[Attention]:
    """The last layers read keys and values of an earlier layer of their type."""
    shared = reader.whole("num_kv_shared_layers", 0)
    if shared >= len(types):
        raise reader.error(
            f"field 'num_kv_shared_layers' = {shared}: at least one of {len(types)} layers needs "
            f"keys and values of its own"
        )
    own = len(types) - shared
    for name in types:
        if name not in kinds:
            raise reader.error(
                f"field 'layer_types' holds '{name}'; this family has {' and '.join(kinds)}"
            )
    return [
        kinds[name] if index < own else _without_keys(kinds[name])
        for index, name in enumerate(types)
    ]


def _without_keys(kind: Gqa) -> Gqa:
    small = kind.small - kind.head_dim
    return dataclasses.replace(kind, projected=0.0, cached=0.0, small=small)


# ---- Gemma 4 -------------------------------------------------------------------------------------


def gemma4(reader: Reader) -> Model:
    """Gemma 4, text model: layers that see everything have wider and fewer KV heads, whose values
    may be their keys; the largest have experts beside a dense layer, which is counted as a shared
    expert.
    """
    reader.skip(*GEMMA4.unused)
    size = family_sizes(reader, GEMMA4)
    types = layer_types(reader, size.layers, patterns.periodic(6)(reader, size.layers))
    attention = _shared_layers(reader, types, _gemma4_heads(reader, size, types))
    ffn = _gemma4_ffn(reader, size)
    blocks = list(zip(attention, ffn, strict=True))
    layered = reader.whole("hidden_size_per_layer_input", 0)
    model = finished(reader, size, GEMMA4, blocks, experts_apart=True)
    if not layered:
        reader.skip("vocab_size_per_layer_input")
        return model
    inside = size.layers * (2 * layered + 1) * size.hidden
    outside = layered * (size.layers * size.hidden + 1)
    return _with_tables(reader, size, with_small(model, inside + outside), layered)


def _gemma4_heads(reader: Reader, size: Sizes, types: Sequence[str]) -> dict[str, Gqa]:
    query, kv = reader.count("num_attention_heads"), reader.count("num_key_value_heads")
    wide = reader.count("head_dim")
    sliding = gqa(checked(reader, Heads(query, kv, wide)), size.hidden, qk_norm="head", norms=2)
    kinds = {SLIDING: with_window(sliding, reader.count("sliding_window"))}
    same = reader.flag("attention_k_eq_v", False)
    full_kv = reader.count("num_global_key_value_heads", kv) if same else kv
    reader.skip("num_global_key_value_heads")
    head = Heads(query, full_kv, _global_dim(reader, types, wide))
    full = gqa(checked(reader, head), size.hidden, qk_norm="head", norms=2)
    return kinds | {FULL: dataclasses.replace(full, projected=0.5 if same else 1.0)}


def _global_dim(reader: Reader, types: Sequence[str], otherwise: int) -> int:
    """Size of a head that sees everything: `global_head_dim`, or a table of layers that differ."""
    if not reader.has("per_layer_config"):
        return reader.count("global_head_dim", otherwise)
    table = reader.section("per_layer_config")
    dims = {int(name): table.section(name).count("head_dim") for name in table.names()}
    full = [index for index, name in enumerate(types) if name == FULL]
    if sorted(dims) != full or len(set(dims.values())) > 1:
        raise table.error(
            "only one head_dim for all layers of full attention is supported; build the model with "
            "qsopt.model"
        )
    return next(iter(dims.values()))


def _gemma4_ffn(reader: Reader, size: Sizes) -> Sequence[Ffn]:
    shared = reader.whole("num_kv_shared_layers", 0)
    dense, double = dense_ffn(reader, size, GEMMA4), reader.flag("use_double_wide_mlp", False)
    if reader.flag("enable_moe_block", False):
        reader.expect("use_double_wide_mlp", False)
        moe = moe_layer(reader, size, GEMMA4, EXPERTS)
        # A second pair of norms, a scale of the router's input, and one scale for each expert.
        moe = with_small(moe, 3 * size.hidden + size.hidden + float(moe.experts))
        return [with_shared(moe, 1, int(float(dense.width)))] * size.layers
    for key in ("num_experts", "top_k_experts", "moe_intermediate_size"):
        reader.expect(key, None)
    if not double:
        return [dense] * size.layers
    wide = DenseFfn(width=2 * dense.width, matrices=3, small=dense.small)
    return [dense] * (size.layers - shared) + [wide] * shared


FAMILIES: dict[str, Callable[[Reader], Model]] = {
    "gemma3n_text": gemma3n,
    "gemma4_text": gemma4,
    "gemma4_unified_text": gemma4,
}
"""The reader of each `model_type`."""
