"""Number formats of a checkpoint: its base type, and what `quantization_config` makes of each part.

Embedding, head and router stay in the base type: no method here converts the embedding, and all
skip the head and the router. The KV cache is bf16. qsopt has one format for dense layers and shared
experts together, so a checkpoint that keeps either of them wide is counted as keeping both.
"""

import dataclasses
import re

from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.formats import Format, number_format
from qsopt.spec.model import Precision

_BASE = {"float32": "bf16", "float16": "bf16", "bfloat16": "bf16"}
"""How a checkpoint's type is served: fp32 ones are cast to bf16, as every serving engine does by
default.
"""

_KEPT = frozenset(
    [
        "lm_head",
        "embed_tokens",
        "gate",
        "router",
        "shared_expert_gate",
        "e_score_correction_bias",
        "conv1d",
        "in_proj_a",
        "in_proj_b",
        "in_proj_ba",
    ]
)
"""Modules that are wide in any case, or too small to matter, by the last name of their path."""

_OUTSIDE = frozenset(["visual", "vision_model", "vision_tower", "multi_modal_projector", "mtp"])
"""Modules outside the text model that qsopt counts, by any name of their path."""

_BLOCKS = ("mlp", "feed_forward", "ffn", "block_sparse_moe")
"""Modules that are the whole feed-forward block, experts included, if their path ends there."""

_PART_NAMES = (
    ("attention", ("attn", "attention")),
    ("ffn", ("shared_expert",)),
    ("experts", ("experts", "block_sparse_moe")),
    ("ffn", ("mlp", "feed_forward", "ffn")),
)
"""Which part a module belongs to by a name in its path; the first match counts, so experts inside
an mlp are experts.
"""


def precision(reader: Reader) -> Precision:
    """The formats of a checkpoint.

    Raises:
        InputError: if the type, the method or a module kept wide is unknown.
    """
    base = _base_format(reader)
    parts = {"attention": base, "ffn": base, "experts": base}
    if reader.has("quantization_config"):
        parts |= _quantised(reader.section("quantization_config"))
    return Precision(
        parts["attention"],
        parts["ffn"],
        parts["experts"],
        tables=base,
        kv_cache=number_format("bf16"),
    )


def _base_format(reader: Reader) -> Format:
    """The type under its old or new name. Configs of quantised checkpoints leave it out; the rest
    is then bf16.
    """
    reader.skip("torch_dtype", "dtype")
    key = "dtype" if reader.has("dtype") else "torch_dtype"
    name = reader.text(key, "bfloat16").removeprefix("torch.")
    if name not in _BASE:
        raise reader.error(f"field '{key}' = '{name}' is not supported; known: {', '.join(_BASE)}")
    return number_format(_BASE[name])


def _quantised(reader: Reader) -> dict[str, Format]:
    method = reader.text("quant_method")
    if method not in _METHODS:
        raise reader.error(
            f"quant_method '{method}' is not supported; known: {', '.join(sorted(_METHODS))}"
        )
    form = _METHODS[method](reader)
    wide = {part for key in _WIDE_KEYS if reader.has(key) for part in _wide_parts(reader, key)}
    # The mxfp4 of gpt-oss converts only routed experts; the other methods convert every linear
    # layer.
    converted = {"experts"} if method == "mxfp4" else {"attention", "ffn", "experts"}
    return dict.fromkeys(sorted(converted - wide), form)


_WIDE_KEYS = ("modules_to_not_convert", "ignored_layers", "ignore")
"""Names under which the methods list modules that stay in the base type."""


def _wide_parts(reader: Reader, key: str) -> set[str]:
    return {part for module in reader.words(key) for part in _parts(reader, key, module)}


def _parts(reader: Reader, key: str, module: str) -> tuple[str, ...]:
    """The parts that a module's path, or a pattern of paths, belongs to; none if its format does
    not matter.

    Raises:
        InputError: if the path is not understood, or keeps a part wide in some layers only.
    """
    names = re.findall(r"[A-Za-z_]\w*", module.removeprefix("re:").replace("\\", " "))
    if names and (names[-1] in _KEPT or "norm" in names[-1] or not _OUTSIDE.isdisjoint(names)):
        return ()
    if re.search(r"\.\d+\.", module):
        raise reader.error(
            f"field '{key}' keeps '{module}' wide in one layer; qsopt has one format of a part "
            f"for all layers"
        )
    if names and names[-1] in _BLOCKS:
        return "ffn", "experts"
    for part, marks in _PART_NAMES:
        if any(mark in name for mark in marks for name in names):
            return (part,)
    raise reader.error(
        f"field '{key}' holds '{module}', which is not understood; remove it if it does not matter"
    )


def _fp8(reader: Reader) -> Format:
    """fp8 weights and activations, with scales by block where `weight_block_size` is given."""
    reader.skip("activation_scheme", "fmt", "scale_fmt")
    blocks = reader.wholes("weight_block_size") if reader.has("weight_block_size") else []
    return number_format("fp8_block" if blocks else "fp8")


def _mxfp4(reader: Reader) -> Format:
    return number_format("mxfp4")


def _int8(reader: Reader) -> Format:
    """Weight-only int8 with bf16 activations: not a Hugging Face method, but what Grok-1 was
    released in (QW8Bit).
    """
    return number_format("int8")


def _packed_integers(reader: Reader) -> Format:
    """AWQ and GPTQ: weight-only integers; the rest of their fields is how they were found and
    packed.
    """
    reader.skip(
        "version",
        "zero_point",
        "desc_act",
        "sym",
        "damp_percent",
        "static_groups",
        "true_sequential",
    )
    reader.skip(
        "model_seqlen", "backend", "checkpoint_format", "meta", "quantizer", "lm_head", "pack_dtype"
    )
    return _integers(reader, reader.count("bits"))


def _integers(reader: Reader, bits: int) -> Format:
    """Weight-only integers with one 16-bit scale for each `group_size` weights; the scales of 8-bit
    ones are ignored.
    """
    reader.skip("group_size")
    if bits == 8:
        return number_format("int8")
    if bits != 4:
        raise reader.error(f"weights of {bits} bits are not supported; 4 and 8 are")
    return dataclasses.replace(number_format("int4"), bytes=0.5 + 2.0 / reader.count("group_size"))


def _compressed_tensors(reader: Reader) -> Format:
    """The one group of weights that compressed-tensors checkpoints have in practice."""
    reader.skip(
        "format", "global_compression_ratio", "quantization_status", "version", "sparsity_config"
    )
    reader.expect("kv_cache_scheme", None)
    groups = reader.section("config_groups")
    group = groups.section("group_0")
    group.skip("output_activations", "targets", "format")
    weights = group.section("weights")
    weights.skip(
        "actorder", "dynamic", "observer", "observer_kwargs", "symmetric", "block_structure"
    )
    bits, kind, strategy = weights.count("num_bits"), weights.text("type"), weights.text("strategy")
    if kind == "float" and bits == 8 and group.has("input_activations"):
        weights.skip("group_size", "block_structure")
        return number_format("fp8_block" if strategy == "block" else "fp8")
    if kind == "int" and not group.has("input_activations"):
        return _integers(weights, bits)
    raise reader.error(
        f"{bits}-bit {kind} weights with these activations are not supported; fp8 and weight-only "
        f"integers are"
    )


_METHODS = {
    "fp8": _fp8,
    "mxfp4": _mxfp4,
    "int8": _int8,
    "awq": _packed_integers,
    "gptq": _packed_integers,
    "compressed-tensors": _compressed_tensors,
}
