"""NVIDIA ModelOpt."""

import dataclasses

from qsopt.catalog.huggingface.algorithms import algorithm_format
from qsopt.catalog.huggingface.groups import cache_algorithm, cache_scheme, config_groups
from qsopt.catalog.huggingface.plan import Plan
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.formats import Format


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
        chosen = Plan("", algorithm_format(reader))
    return dataclasses.replace(chosen, kv_cache=cache)


def _by_layer(layers: Reader) -> tuple[tuple[tuple[str, ...], Format], ...]:
    """Modules grouped by their format."""
    grouped: dict[tuple[object, ...], tuple[list[str], Format]] = {}
    for name in layers.names():
        inner = layers.section(name)
        key = inner.values()
        if key not in grouped:
            grouped[key] = [], algorithm_format(inner)
        inner.skip(*inner.names())
        grouped[key][0].append(name)
    return tuple((tuple(names), form) for names, form in grouped.values())


def _head_algorithm(layers: Reader) -> Format | None:
    heads = [name for name in layers.names() if name.endswith("lm_head")]
    return algorithm_format(layers.section(heads[0])) if heads else None
