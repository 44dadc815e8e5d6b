"""Qwen's families with routed experts, and Qwen3-Next and 3.5 with gated DeltaNet."""

from collections.abc import Callable
from dataclasses import replace

from qsopt.catalog.huggingface.attention import FULL, LINEAR, every
from qsopt.catalog.huggingface.dense import QWEN2, QWEN3
from qsopt.catalog.huggingface.experts import Experts, moe_layer, placed
from qsopt.catalog.huggingface.family import (
    Family,
    dense_ffn,
    family_sizes,
    finished,
    softmax,
    softmax_layers,
)
from qsopt.catalog.huggingface.layers import Sizes, indices, layer_types, pick
from qsopt.catalog.huggingface.linear import delta_net
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.layers import Attention, Ffn
from qsopt.spec.model import Model

QWEN2_MOE = replace(QWEN2, qkv_bias=("qkv_bias", True), expect=(("use_sliding_window", (False,)),))
"""Qwen 1.5 and 2 MoE."""
QWEN3_MOE = replace(
    QWEN3, dim_default=True, expect=(*QWEN3.expect, ("use_sliding_window", (False,)))
)
"""Qwen 3 MoE: a norm on each head of query and key."""
NEXT = replace(
    QWEN3_MOE,
    dim_default=False,
    qkv_bias=False,
    out_bias=False,
    output_gate=True,
    expect=(
        ("attention_bias", (False,)),
        ("attn_output_gate", (True,)),
        ("use_sliding_window", (False,)),
        ("output_gate_type", ("swish", "sigmoid")),
    ),
)
"""Qwen3-Next and 3.5: attention with an output gate."""

EXPERTS = Experts()
SHARED = Experts(shared_width="shared_expert_intermediate_size", shared_gate=True)
"""A shared expert with a gate beside the routed ones."""


def qwen_moe(row: Family, experts: Experts) -> Callable[[Reader], Model]:
    """Softmax attention and experts."""

    def read(reader: Reader) -> Model:
        size = family_sizes(reader, row)
        attention = softmax_layers(reader, size, row)
        ffn = _experts(reader, size, row, experts)
        return finished(reader, size, row, list(zip(attention, ffn, strict=True)))

    return read


def qwen3_next(reader: Reader) -> Model:
    """Gated DeltaNet, and every fourth layer softmax attention with an output gate; experts."""
    size = family_sizes(reader, NEXT)
    attention = _delta_layers(reader, size)
    ffn = _experts(reader, size, NEXT, SHARED)
    return finished(reader, size, NEXT, list(zip(attention, ffn, strict=True)))


def qwen3_5(reader: Reader) -> Model:
    """The same with dense feed-forward layers."""
    reader.expect("mlp_only_layers", [])
    size = family_sizes(reader, NEXT)
    ffn = dense_ffn(reader, size, NEXT)
    attention = _delta_layers(reader, size)
    return finished(reader, size, NEXT, [(layer, ffn) for layer in attention])


def _delta_layers(reader: Reader, size: Sizes) -> list[Attention]:
    gated = softmax(reader, size.hidden, NEXT)
    period = reader.count("full_attention_interval", 4)
    types = layer_types(reader, size.layers, every(period, size.layers, LINEAR))
    return pick(reader, types, {FULL: gated, LINEAR: delta_net(reader, size.hidden)})


def _experts(reader: Reader, size: Sizes, row: Family, experts: Experts) -> list[Ffn]:
    """Experts in every `decoder_sparse_step`-th layer but `mlp_only_layers`."""
    step = reader.count("decoder_sparse_step", 1)
    plain = indices(reader, "mlp_only_layers", size.layers) if reader.has("mlp_only_layers") else []
    chosen = [index not in plain and (index + 1) % step == 0 for index in range(size.layers)]
    return placed(reader, size, row, experts, moe_layer(reader, size, row, experts), chosen)


FAMILIES: dict[str, Callable[[Reader], Model]] = {
    "qwen2_moe": qwen_moe(QWEN2_MOE, SHARED),
    "qwen3_5": qwen3_5,
    "qwen3_5_moe": qwen3_next,
    "qwen3_5_moe_text": qwen3_next,
    "qwen3_5_text": qwen3_5,
    "qwen3_moe": qwen_moe(QWEN3_MOE, EXPERTS),
    "qwen3_next": qwen3_next,
    "qwen3_omni_moe_text": qwen_moe(QWEN3_MOE, EXPERTS),
    "qwen3_vl_moe_text": qwen_moe(QWEN3_MOE, EXPERTS),
}
"""The reader of each `model_type`."""
