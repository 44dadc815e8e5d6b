"""What measurement tables call accelerators and number formats, as the package calls them.

A table's name that means nothing here is no error: its rows are counted and named (see
`tables.Skipped`).
"""

from functools import cache
from typing import NamedTuple

from qsopt.arrays import Scalar
from qsopt.catalog.accelerators import accelerator_names, load_accelerator
from qsopt.spec.formats import ARITHMETICS, number_format
from qsopt.spec.hardware import Accelerator

_ACCELERATORS = {
    "a100_sxm": "a100-80gb",
    "h100_sxm": "h100",
    "h200_sxm": "h200",
    "b200_sxm": "b200",
    "b300_sxm": "b300",
    "rtx_pro_6000_server": "rtx-pro-6000",
}
"""Names of aiconfigurator-core and its benchmarks; any other is looked up in the catalog with
dashes for underscores.
"""

_FORMATS = {
    "bfloat16": "bf16",
    "half": "bf16",
    "float16": "bf16",
    "fp16": "bf16",
    "int4_wo": "int4",
    "w4a16_mxfp4": "mxfp4",
}

_MIXED = {"w4a8_mxfp4_mxfp8": ("mxfp4", "fp8")}
"""Formats of weights that compute in another arithmetic than the package's format of that name
does.
"""


class Dtype(NamedTuple):
    """A number format of a table."""

    name: str
    """Name of the package's format, or the table's where the package has none."""
    weight_bytes: float
    """Bytes per weight, scales included [byte]."""
    arithmetic: int
    """Index into `formats.ARITHMETICS`."""


def accelerator_name(name: str) -> str | None:
    """The catalog's name of an accelerator, or None."""
    found = _ACCELERATORS.get(name.lower(), name.lower().replace("_", "-"))
    return found if found in accelerator_names() else None


@cache
def accelerator(name: str, devices: int = 1) -> Accelerator:
    """The catalog's accelerator of that name (the catalog's own)."""
    return load_accelerator(name, devices)


@cache
def dtype(name: str) -> Dtype | None:
    """The number format that a table calls `name`, or None."""
    if name in _MIXED:
        stored, computed = _MIXED[name]
        return Dtype(name, float(number_format(stored).bytes), ARITHMETICS.index(computed))
    try:
        form = number_format(_FORMATS.get(name, name))
    except ValueError:
        return None
    return Dtype(_FORMATS.get(name, name), float(form.bytes), int(form.arithmetic))


def peak(device: Accelerator, form: Dtype) -> Scalar:
    """Peak of the arithmetic that weights of this format compute in [FLOP/s]."""
    return device.peak_flops[form.arithmetic]
