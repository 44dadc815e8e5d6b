"""What a quantisation method makes of a checkpoint's modules."""

import dataclasses
from dataclasses import dataclass, field

from qsopt.spec.formats import Format, number_format


@dataclass(frozen=True)
class Plan:
    """The formats that a checkpoint's method gives to modules."""

    method: str
    """Name of the method."""
    default: Format | None = None
    """Format of every linear layer that nothing else names; None: the base type."""
    targets: tuple[tuple[tuple[str, ...], Format], ...] = ()
    """Names of modules with the format that they have."""
    wide: tuple[str, ...] = ()
    """Names of modules that stay in the base type."""
    kv_cache: Format = field(default_factory=lambda: number_format("bf16"))
    """Format of keys, values and latents in the cache."""
    head: Format | None = None
    """Format of the output head where it is quantised."""


_COMPUTED_AS = {"fp8": "fp8", "int8": "fp8", "fp4": "nvfp4"}
"""The format whose peak and efficiencies stand for an arithmetic: int8 activations are taken for
fp8, beside which every accelerator that has it reaches the same rate.
"""


def computing(form: Format, arithmetic: str) -> Format:
    """The same bytes, computed in another arithmetic; in bf16 as weight-only integers are."""
    few_bits = float(form.bytes) < 0.75
    stand_in = _COMPUTED_AS.get(arithmetic, "int4" if few_bits else "int8")
    return dataclasses.replace(number_format(stand_in), bytes=form.bytes)


def packed(bits: int, overhead: float) -> Format:
    """Weight-only 4-bit or 8-bit numbers with so many bytes of scales per weight."""
    form = number_format("int4" if bits == 4 else "int8")
    return dataclasses.replace(form, bytes=bits / 8 + overhead)
