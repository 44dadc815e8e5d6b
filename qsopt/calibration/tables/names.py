"""What measurement tables call accelerators, models and number formats, as the package calls them:
names of tools, and names as people write them.

A table's name that means nothing here is no error: its rows are counted and named (see
`tables.Skipped`).
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from qsopt.arrays import Scalar
from qsopt.catalog.accelerators import accelerator_names, load_accelerator
from qsopt.catalog.models import model_names
from qsopt.spec.formats import ARITHMETICS, number_format
from qsopt.spec.hardware import Accelerator

_ACCELERATORS = {
    "a100_sxm": "a100-80gb",
    "h100_sxm": "h100",
    "h200_sxm": "h200",
    "b200_sxm": "b200",
    "b300_sxm": "b300",
    "rtx_pro_6000_server": "rtx-pro-6000",
    "a100": "a100-80gb",
    "a100_pcie": "a100-80gb",
}
"""Names of aiconfigurator-core and its benchmarks, and variants that the catalog does not tell
apart; any other is looked up in the catalog.
"""

_MAKERS = re.compile(r"^(nvidia|amd|intel|geforce|instinct|tesla)-|-(sxm\d?|pcie|oam|server)$")
"""What people write before and after the name of an accelerator."""

_MODELS = {
    "deepseek-r1-distill-llama-70b": "llama-3.1-70b",
    "deepseek-r1-distill-llama-8b": "llama-3.1-8b",
    "deepseek-r1-distill-qwen-32b": "qwen2.5-32b",
    "llama-3-70b": "llama-3.1-70b",
    "llama-3-8b": "llama-3.1-8b",
    "llama-3.3-70b": "llama-3.1-70b",
    "llama-4-maverick-17b-128e": "llama-4-maverick",
    "llama-4-scout-17b-16e": "llama-4-scout",
    "llama-7b": "llama-2-7b",
    "mistral-7b": "mistral-7b-v0.1",
    "mixtral-8x22b-v0.1": "mixtral-8x22b",
    "mixtral-8x7b-v0.1": "mixtral-8x7b",
    "qwen3-coder-next": "qwen3-next-80b-a3b",
}
"""Checkpoints with the sizes of a model of the catalog."""

_AROUND = re.compile(
    r"^(meta|nvidia)-"
    r"|-(instruct|chat|it|hf|base|thinking|kv|dynamic|block|quantized|awq|gptq|bf16|w\d+a\d+"
    r"|fp8|fp4|nvfp4|mxfp4|int8|int4|\d{4})$"
)
"""What makers write before and after the name of a model: of the family, of how it was trained, of
its format, of a date.
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
    lower = "_".join(name.lower().split())
    return _first_known(
        _ACCELERATORS.get(lower, lower.replace("_", "-")),
        _MAKERS,
        _accelerator,
        accelerator_names(),
    )


def _accelerator(name: str) -> str:
    found = _ACCELERATORS.get(name.replace("-", "_"), name)
    return found if found in accelerator_names() else name.replace("-", "")


@cache
def model_name(name: str) -> str | None:
    """The catalog's model of a name, or None: with or without the organisation, whatever is said of
    training, format or date, case and what stands in brackets left aside.
    """
    short = re.sub(r"\(.*?\)", "", name.rsplit("/", 1)[-1]).lower()
    short = "-".join(short.replace("_", "-").split())
    return _first_known(short, _AROUND, lambda text: _MODELS.get(text, text), model_names())


def _first_known(
    name: str, around: re.Pattern[str], alias: Callable[[str], str], known: Sequence[str]
) -> str | None:
    """The first known name while what stands around it is taken away, one word at a time."""
    while name:
        for candidate in (name, alias(name)):
            if candidate in known:
                return candidate
        shorter = around.sub("", name, count=1)
        if shorter == name:
            return None
        name = shorter
    return None


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
