"""SI units, and numbers with units as people write them. Everything inside qsopt is in bytes, FLOP,
seconds, byte/s and FLOP/s; the constants are for writing.

A multiply-add counts 2 FLOP. GB is 1e9 bytes and GiB is 2**30 bytes; the two are never mixed. Of
context and batch, k is 1,024 and M 1,048,576, as this field means `128k`: the
`max_position_embeddings` of Hugging Face configs are 131,072 there. Of everything else, training
tokens and parameters too, prefixes are decimal.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from qsopt.errors import InputError

KB, MB, GB, TB = 1e3, 1e6, 1e9, 1e12
KiB, MiB, GiB = 2.0**10, 2.0**20, 2.0**30
TFLOPS = 1e12
MICROSECOND, MILLISECOND = 1e-6, 1e-3
SECONDS_PER_HOUR = 3600.0
JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class Unit:
    """What a number counts, and the units that it may be written in."""

    name: str
    """What is counted, in a word for `--help`."""
    examples: str
    """How it may be written."""
    factors: Mapping[str, Decimal]
    """Value of each unit; a bare number has the value 1."""


def _decimal(**powers: int) -> dict[str, Decimal]:
    return {name: Decimal(10) ** power for name, power in powers.items()}


_BINARY = {
    letter: Decimal(1024) ** power for letter, power in {"k": 1, "K": 1, "M": 2, "G": 3}.items()
}
_BYTES = {
    **_decimal(B=0, kB=3, KB=3, MB=6, GB=9, TB=12, PB=15),
    **{f"{letter}iB": Decimal(1024) ** (place + 1) for place, letter in enumerate("KMGT")},
}
_BITS = {
    f"{name}/s": power / 8
    for name, power in _decimal(Mb=6, Gb=9, Tb=12, Mbit=6, Gbit=9, Tbit=12).items()
}
_TIMES = {**_decimal(us=-6, ms=-3, s=0), "min": Decimal(60), "h": Decimal(3600)}

TOKENS = Unit("tokens", "8192, 128k (131072) or 1M (1048576)", _BINARY)
"""Of a context, a prompt or an answer [tokens]."""
COUNT = Unit("count", "512 or 1k (1024)", _BINARY)
"""Sequences, devices, ranks."""
LARGE = Unit("number", "15T (1.5e13), 70B (7e10) or 1e9", _decimal(k=3, K=3, M=6, B=9, G=9, T=12))
"""Training tokens and parameters, with decimal prefixes."""
SECONDS = Unit("time", "0.04, 40ms or 2s", _TIMES)
"""[s]."""
MILLISECONDS = Unit(
    "ms", "40, 40ms or 2s", {name: factor * 1000 for name, factor in _TIMES.items()}
)
"""A bare number is in milliseconds [ms]."""
BYTES = Unit("bytes", "80GB (8e10), 80GiB or 8e10", _BYTES)
"""[byte]."""
BYTE_RATE = Unit(
    "byte/s",
    "3.35TB/s, 400Gb/s (5e10) or 3.35e12",
    {**{f"{name}/s": factor for name, factor in _BYTES.items()}, **_BITS},
)
"""[byte/s]."""
SHARE = Unit("share", "0.9 or 90%", {"%": Decimal("0.01")})
"""Part of a whole."""
DOLLARS = Unit(
    "US$/h",
    "1.78 or 1.78$/h",
    dict.fromkeys(("$", "$/h", "USD", "USD/h", "US$", "US$/h"), Decimal(1)),
)
"""Rental of a device [US dollar/hour]."""
NUMBER = Unit("number", "1.5 or 2e3", {})
"""Without a unit."""

_WRITTEN = re.compile(
    r"([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3}(?!\d))?)\s*([^\s\d.+-]\S*)"
)
"""A number, and the unit that follows it."""


def quantity(text: str, unit: Unit, where: str = "") -> float:
    """The number that a text such as `128k`, `40ms` or `3.35TB/s` stands for, in the base unit.

    Args:
        text: a number, bare or with one of the unit's names, which count upper and lower case.
        unit: what is counted.
        where: name of the input, for the error.

    Raises:
        InputError: if it is no number, or of another unit.
    """
    try:
        return float(text)
    except ValueError:
        found = _WRITTEN.fullmatch(text.strip())
    if found is None or found[2] not in unit.factors:
        raise _refusal(" ".join(text.split())[:40], found and found[2], unit, where)
    return float(Decimal(found[1]) * unit.factors[found[2]])


def _refusal(text: str, suffix: str | None, unit: Unit, where: str) -> InputError:
    start = f"{where} = {text}" if where else f"'{text}'"
    wrong = "is not a number" if suffix is None else f"has the unknown unit '{suffix[:20]}'"
    known = f" (units: {', '.join(unit.factors)})" if suffix and unit.factors else ""
    return InputError(f"{start} {wrong}; write {unit.examples}{known}")


def written(value: float, unit: Unit) -> str:
    """The shortest text for which `quantity` gives exactly this number."""
    texts = [f"{value:g}", repr(float(value))]
    if math.isfinite(value):
        exact = Decimal(repr(float(value)))
        texts += [f"{float(exact / factor):.12g}{name}" for name, factor in unit.factors.items()]
    return min((text for text in texts if quantity(text, unit) == value), key=len, default=texts[1])
