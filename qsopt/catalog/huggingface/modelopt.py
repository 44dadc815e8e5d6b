"""NVIDIA ModelOpt."""

import dataclasses

from qsopt.catalog.huggingface.groups import cache_algorithm, cache_scheme, config_groups
from qsopt.catalog.huggingface.plan import Plan, computing
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.formats import Format, number_format


def modelopt(reader: Reader) -> Plan:
    """ModelOpt, in config.json or in hf_quant_config.json beside it: one algorithm, or one for each
    module under `quantized_layers`.
    """
    reader.skip("producer", "quant_algo", "group_size", "has_zero_point", "pre_quant_scale")
    if reader.has("kv_cache_quant_algo"):
        cache = cache_algorithm(reader, "kv_cache_quant_algo")
    else:
        cache = cache_scheme(reader)
    if reader.has("config_groups"):
        reader.skip("quantized_layers")
        return dataclasses.replace(config_groups(reader), kv_cache=cache)
    if reader.has("quantized_layers"):
        layers = reader.section("quantized_layers")
        chosen = Plan("", targets=_by_layer(layers), head=_head_algorithm(layers))
    else:
        chosen = Plan("", _weights_algorithm(reader))
    return dataclasses.replace(chosen, kv_cache=cache)


def _by_layer(layers: Reader) -> tuple[tuple[tuple[str, ...], Format], ...]:
    """Modules grouped by their format."""
    grouped: dict[tuple[object, ...], tuple[list[str], Format]] = {}
    for name in layers.names():
        inner = layers.section(name)
        key = inner.values()
        if key not in grouped:
            grouped[key] = [], _weights_algorithm(inner)
        inner.skip(*inner.names())
        grouped[key][0].append(name)
    return tuple((tuple(names), form) for names, form in grouped.values())


def _head_algorithm(layers: Reader) -> Format | None:
    heads = [name for name in layers.names() if name.endswith("lm_head")]
    return _weights_algorithm(layers.section(heads[0])) if heads else None


def _weights_algorithm(reader: Reader) -> Format:
    reader.skip("group_size", "has_zero_point", "pre_quant_scale", "awq_block_size")
    name = reader.text("quant_algo").upper()
    if name not in _ALGORITHMS:
        raise reader.error(f"quant_algo '{name}' is not supported; known: {', '.join(_ALGORITHMS)}")
    form = _ALGORITHMS[name]
    if "AWQ" in name and "NVFP4" not in name and reader.has("group_size"):
        return dataclasses.replace(form, bytes=0.5 + 2.0 / reader.count("group_size"))
    return form


_MXFP8 = dataclasses.replace(number_format("fp8_block"), bytes=1.0 + 1.0 / 32)

_ALGORITHMS = {
    "FP8": number_format("fp8"),
    "FP8_PER_CHANNEL_PER_TOKEN": number_format("fp8"),
    "FP8_PB_REAL": number_format("fp8_block"),
    "FP8_PB_WO": computing(number_format("fp8_block"), "bf16"),
    "FP8_BLOCK_SCALES": number_format("fp8_block"),
    "MXFP8": _MXFP8,
    "NVFP4": number_format("nvfp4"),
    "NVFP4_AWQ": number_format("nvfp4"),
    "W4A8_NVFP4_FP8": computing(number_format("nvfp4"), "fp8"),
    "W4A16_NVFP4": computing(number_format("nvfp4"), "bf16"),
    "W4A8_MXFP4_FP8": computing(number_format("mxfp4"), "fp8"),
    "MXFP4": computing(number_format("mxfp4"), "fp4"),
    "W4A16_AWQ": number_format("int4"),
    "W4A8_AWQ": computing(number_format("int4"), "fp8"),
    "W8A16": number_format("int8"),
    "INT8_WO": number_format("int8"),
    "W8A8_SQ_PER_CHANNEL": computing(number_format("int8"), "int8"),
    "INT8_SQ": computing(number_format("int8"), "int8"),
}
"""ModelOpt's names, with the bytes of the weights and the arithmetic that activations allow."""
