"""Quantisation methods by name, and what they have in common: lists of modules left wide."""

import dataclasses
from collections.abc import Callable

from qsopt.catalog.huggingface import packed
from qsopt.catalog.huggingface.groups import compressed_tensors
from qsopt.catalog.huggingface.modelopt import modelopt
from qsopt.catalog.huggingface.plan import Plan
from qsopt.catalog.huggingface.reader import Reader

CONVERTED: dict[str, tuple[str, ...]] = {"mxfp4": ("experts",)}
"""Methods that convert some parts only: the mxfp4 of gpt-oss converts routed experts."""

_WIDE_KEYS = (
    "modules_to_not_convert",
    "ignored_layers",
    "ignore",
    "exclude_modules",
    "llm_int8_skip_modules",
)
"""Names under which the methods list modules that stay in the base type."""


def plan(reader: Reader) -> Plan:
    """The plan of a `quantization_config`.

    Raises:
        InputError: if the method is unknown, or says what is not understood.
    """
    method = reader.text("quant_method", "modelopt" if reader.has("quant_algo") else None)
    if method not in _METHODS:
        raise reader.error(
            f"quant_method '{method}' is not supported; known: {', '.join(sorted(_METHODS))}"
        )
    chosen = _METHODS[method](reader)
    keys = [key for key in _WIDE_KEYS if reader.has(key) and not reader.has("moe_quant_algo")]
    wide = tuple(name for key in keys for name in reader.words(key))
    return dataclasses.replace(chosen, method=method, wide=chosen.wide + wide)


_METHODS: dict[str, Callable[[Reader], Plan]] = {
    "fbgemm_fp8": packed.fbgemm_fp8,
    "fp8": packed.fp8,
    "mxfp4": packed.mxfp4,
    "int8": packed.int8,
    "awq": packed.packed_integers,
    "gptq": packed.packed_integers,
    "bitsandbytes": packed.bitsandbytes,
    "compressed-tensors": compressed_tensors,
    "modelopt": modelopt,
    "modelopt_fp4": modelopt,
}
