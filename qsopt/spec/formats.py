"""Number formats: bytes per stored number with its scales, and the arithmetic that its matrix
products run in.

Weight-only formats (int4, mxfp4 and int8 with bf16 activations) save bytes and compute at the bf16
peak; fp8 and nvfp4 quantise activations too and compute at their own peak. Where an accelerator
lacks a peak it uses the next wider one (see `hardware`).

Sources: OCP Microscaling v1.0 (mxfp4: 32 elements of 4 bits and one 8-bit scale, 17/32 byte);
NVIDIA nvfp4 (16 elements and one 8-bit scale, 9/16 byte); int4 with a 16-bit scale per 128 weights
(0.5 + 2/128 byte).
"""

from typing import Any

import equinox as eqx
import numpy as np
import wadler_lindig as wl
from jaxtyping import Array

from qsopt.arrays import Scalar, integer, is_concrete, scalar
from qsopt.errors import unknown_name
from qsopt.record import Record

ARITHMETICS = ("bf16", "int8", "fp8", "fp4")
"""Arithmetics that an accelerator may have a peak for, widest first."""

_FORMATS: dict[str, tuple[float, str]] = {
    "fp32": (4.0, "bf16"),
    "bf16": (2.0, "bf16"),
    "fp8": (1.0, "fp8"),
    "fp8_block": (1.0, "fp8"),
    "int8": (1.0, "bf16"),
    "nvfp4": (9 / 16, "fp4"),
    "mxfp4": (17 / 32, "bf16"),
    "int4": (0.5 + 2 / 128, "bf16"),
}

FORMATS = tuple(_FORMATS)
"""Names of the formats in the order of their index."""

_ALIASES = {
    "fp16": "bf16",
    "float16": "bf16",
    "bfloat16": "bf16",
    "float32": "fp32",
    "float8_e4m3fn": "fp8",
    "e4m3": "fp8",
}


_GGUF = {
    "q2_k": 3.35,
    "q3_k_s": 3.50,
    "q3_k_m": 3.91,
    "q3_k_l": 4.27,
    "q4_0": 4.50,
    "q4_1": 5.00,
    "q4_k_s": 4.58,
    "q4_k_m": 4.84,
    "q5_0": 5.50,
    "q5_1": 6.00,
    "q5_k_s": 5.52,
    "q5_k_m": 5.68,
    "q6_k": 6.56,
    "q8_0": 8.50,
    "iq4_xs": 4.25,
    "iq4_nl": 4.50,
}
"""llama.cpp's weight-only formats [bit per weight]: the mixes by the README of its quantize tool
(for Llama-2-7B), the plain ones by their blocks of 32 or 256 weights in ggml.
"""


class Format(Record):
    """A number format as numbers: what it weighs, and where its peak and its efficiencies stand in
    their tables.
    """

    bytes: Scalar = eqx.field(converter=scalar)
    """Bytes per number, scales included [byte]."""
    arithmetic: Array = eqx.field(converter=integer)
    """Index into `ARITHMETICS`: whose peak FLOP/s applies."""
    index: Array = eqx.field(converter=integer)
    """Index into `FORMATS`: which fitted efficiency applies."""

    def __pdoc__(self, **kwargs: Any) -> wl.AbstractDoc:
        known = is_concrete(self) and np.ndim(self.index) == 0
        return wl.TextDoc(format_name(self)) if known else super().__pdoc__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        """The name beside the numbers."""
        return {"name": format_name(self), **super().to_dict()}


def number_format(name: str) -> Format:
    """The format called `name` (`bf16`, `fp8`, `fp8_block`, `int8`, `nvfp4`, `mxfp4`, `int4`,
    `fp32`, a name of llama.cpp such as `q4_k_m`, or an alias).

    Those of llama.cpp take the efficiencies of weight-only integers: int4 below 7 bits, int8 above.

    Raises:
        InputError: if no format has that name.
    """
    key = _ALIASES.get(name.lower(), name.lower())
    if key in _GGUF:
        stand_in = number_format("int4" if _GGUF[key] < 7.0 else "int8")
        return Format(_GGUF[key] / 8.0, stand_in.arithmetic, stand_in.index)
    if key not in _FORMATS:
        raise unknown_name("number format", name, [*_FORMATS, *_ALIASES, *_GGUF])
    size, arithmetic = _FORMATS[key]
    return Format(size, ARITHMETICS.index(arithmetic), FORMATS.index(key))


def default_arithmetic() -> np.ndarray:
    """Index into `ARITHMETICS` for each of `FORMATS` where an accelerator says nothing of its own:
    weight-only formats are unpacked and multiplied in bf16.
    """
    return np.array(
        [ARITHMETICS.index(arithmetic) for _, arithmetic in _FORMATS.values()], np.int32
    )


def format_name(form: Format) -> str:
    """The name of a concrete format."""
    return FORMATS[int(form.index)]
