"""Names of ModelOpt's algorithms."""

import dataclasses

from qsopt.catalog.huggingface.plan import computing
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.formats import Format, number_format


def algorithm_format(reader: Reader, key: str = "quant_algo") -> Format:
    """The format of weights that ModelOpt's name under `key` stands for."""
    reader.skip("group_size", "has_zero_point", "pre_quant_scale", "awq_block_size")
    name = reader.text(key).upper()
    if name not in _ALGORITHMS:
        raise reader.error(f"{key} '{name}' is not supported; known: {', '.join(_ALGORITHMS)}")
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
