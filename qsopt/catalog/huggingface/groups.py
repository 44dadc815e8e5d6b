"""compressed-tensors (llm-compressor), whose groups ModelOpt writes too."""

import dataclasses

from qsopt.catalog.huggingface.packed import grouped
from qsopt.catalog.huggingface.plan import Plan, computing
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.formats import Format, number_format


def compressed_tensors(reader: Reader) -> Plan:
    """Groups of modules, each with a format, and modules left wide."""
    reader.skip("format", "global_compression_ratio", "quantization_status", "version")
    reader.skip("transform_config", "run_compressed")
    reader.expect("transform_config", None, {})
    _dense_weights(reader)
    cache = cache_scheme(reader)
    return dataclasses.replace(config_groups(reader), kv_cache=cache)


def _dense_weights(reader: Reader) -> None:
    """Refuse pruned weights that are stored without their zeros."""
    if not reader.has("sparsity_config"):
        return
    inner = reader.section("sparsity_config")
    inner.skip(
        "format",
        "ignore",
        "targets",
        "global_sparsity",
        "sparsity_structure",
        "registry_requires_subclass",
    )
    if inner.names() and not inner.holds("format", "dense"):
        raise inner.error(
            "pruned weights are stored and multiplied without their zeros, which qsopt does not "
            "model; remove 'sparsity_config' to count all weights"
        )


def cache_scheme(reader: Reader) -> Format:
    """The cache's format in `kv_cache_scheme`: fp8, or nvfp4."""
    if not reader.has("kv_cache_scheme"):
        return number_format("bf16")
    if reader.is_text("kv_cache_scheme"):
        return cache_algorithm(reader, "kv_cache_scheme")
    inner = reader.section("kv_cache_scheme")
    inner.skip(*_FOUND_BY, "strategy", "group_size")
    bits, kind = inner.count("num_bits"), inner.text("type")
    if kind == "float" and bits == 8:
        return number_format("fp8")
    if kind == "float" and bits == 4:
        return number_format("nvfp4")
    raise inner.error(f"a cache of {bits}-bit {kind} is not supported; 8-bit and 4-bit float are")


_CACHES = {"FP8": "fp8", "NVFP4": "nvfp4", "NONE": "bf16", "INT8": "int8"}


def cache_algorithm(reader: Reader, key: str) -> Format:
    """The cache's format by ModelOpt's name for it."""
    name = reader.text(key).upper()
    if name not in _CACHES:
        raise reader.error(f"{key} '{name}' is not supported; known: {', '.join(_CACHES)}")
    return number_format(_CACHES[name])


_FOUND_BY = (
    "actorder",
    "dynamic",
    "observer",
    "observer_kwargs",
    "symmetric",
    "block_structure",
    "scale_dtype",
    "zp_dtype",
)
"""How scales were found and stored: no effect on sizes that would be seen."""

_CLASSES = ("Linear", "LinearBase", "FusedMoE")
"""Targets that mean every linear layer."""


def config_groups(reader: Reader) -> Plan:
    """The formats of `config_groups`: one group may stand for all linear layers."""
    groups = reader.section("config_groups")
    default, targets, head = None, [], None
    for name in groups.names():
        group = groups.section(name)
        form = _group_format(group)
        names = group.words("targets") if group.has("targets") else ["Linear"]
        if any(target in _CLASSES for target in names):
            if default is not None:
                raise groups.error(
                    f"'{name}' targets all linear layers, as a group before it does; give each "
                    f"group its own modules"
                )
            default = form
        if any(target.endswith("lm_head") for target in names):
            head = form
        listed = tuple(target for target in names if target not in _CLASSES)
        targets.append((listed, form))
    return Plan("", default, tuple(targets), head=head)


def _group_format(group: Reader) -> Format:
    group.skip("output_activations", "format")
    weights = group.section("weights")
    weights.skip(*_FOUND_BY)
    bits, kind = weights.count("num_bits"), weights.text("type")
    inputs = _input_arithmetic(group)
    weights.skip("group_size")
    strategy = weights.text("strategy", "group")
    if kind == "float" and bits == 8:
        form = number_format("fp8_block" if strategy == "block" else "fp8")
        return form if inputs else computing(form, "bf16")
    if kind == "float" and bits == 4:
        if weights.holds("group_size", 32) and inputs is None:
            return number_format("mxfp4")
        form = number_format("mxfp4" if weights.holds("group_size", 32) else "nvfp4")
        return computing(form, inputs or "bf16")
    if kind == "int" and bits in (4, 8):
        return computing(grouped(weights, bits), inputs or "bf16")
    raise weights.error(
        f"{bits}-bit {kind} weights are not supported; 4-bit and 8-bit float and integers are"
    )


def _input_arithmetic(group: Reader) -> str | None:
    """The arithmetic that quantised activations make possible, or None if they stay wide."""
    if not group.has("input_activations"):
        return None
    inner = group.section("input_activations")
    inner.skip(*_FOUND_BY, "strategy", "group_size")
    bits, kind = inner.count("num_bits"), inner.text("type")
    known = {(8, "float"): "fp8", (4, "float"): "fp4", (8, "int"): "int8"}
    if (bits, kind) not in known:
        raise inner.error(f"{bits}-bit {kind} activations are not supported; fp8, fp4, int8 are")
    return known[bits, kind]
