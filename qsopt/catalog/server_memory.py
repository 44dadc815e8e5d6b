"""`ServerMemory` from a TOML table, read strictly: every entry is known, each is a number in range,
and what is left out adds nothing.
"""

from typing import Any

import numpy as np

from qsopt.errors import InputError
from qsopt.spec.formats import FORMATS
from qsopt.spec.server_memory import ServerMemory
from qsopt.units import GiB

_NUMBERS = (
    "prompt_tokens",
    "sequences",
    "logit_bytes",
    "small_share",
    "whole_tables",
    "pool_only",
    "of_free",
    "pad_bytes",
)
_SIZES = ("communication", "large_memory", "spread")
"""Given in GiB, as `communication_GiB`."""
_MULTIPLES = ("hidden_multiple", "width_multiple")
"""Tables by format."""

_UNIT = "_GiB"


def read_server_memory(table: Any, where: str) -> ServerMemory:
    """The record of a table.

    Args:
        table: entries as `ServerMemory` names them, sizes with `_GiB`.
        where: file and table, for messages.

    Raises:
        InputError: if an entry is unknown or out of range.
    """
    known = {*_NUMBERS, *_MULTIPLES, *(f"{name}{_UNIT}" for name in _SIZES)}
    wrong = sorted(set(table) - known) if isinstance(table, dict) else ["no table"]
    if wrong:
        raise InputError(
            f"{where}: unknown: {', '.join(wrong)}; it may have {', '.join(sorted(known))}"
        )
    values: dict[str, Any] = {
        name.removesuffix(_UNIT): _by_format(value, f"{where} {name}")
        if name in _MULTIPLES
        else _number(value, f"{where} {name}") * (GiB if name.endswith(_UNIT) else 1.0)
        for name, value in table.items()
    }
    return ServerMemory(**values)


def _by_format(table: Any, where: str) -> np.ndarray:
    if not isinstance(table, dict) or set(table) - set(FORMATS):
        raise InputError(f"{where}: give a table by format, of {', '.join(FORMATS)}")
    return np.array([_number(table.get(name, 0.0), f"{where}.{name}") for name in FORMATS])


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise InputError(f"{where} = {value!r}: give a non-negative number")
    return float(value)
