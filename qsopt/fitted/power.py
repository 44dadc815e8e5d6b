"""Constants of the power law that ship, and the errors that they leave."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from qsopt.files import read_toml, understood
from qsopt.fitted.errors import Errors
from qsopt.fitted.groups import WRITTEN, shipped
from qsopt.fitted.server import known_server, read_by_bits
from qsopt.physics.energy import PowerLaw, TokenLaw
from qsopt.units import MICROSECOND

Law = TypeVar("Law")

STEP, PACE = "step", "pace"
"""What the shares of busy time are of: the decode step that the model predicts from its operators,
or the time that a server really takes, host and prompts included.
"""

TOKENS = "tokens"
"""The law of the energy of an output token."""

COLUMNS = ("fitted", "other_models", "other_accelerators")
"""Errors of rows that a fit saw, whose model it did not see, whose accelerator it did not see."""


@dataclass(frozen=True)
class FittedPower:
    """A power law and what it leaves."""

    law: PowerLaw
    """Constants."""
    errors: dict[str, Errors]
    """By the names of `COLUMNS`, of the power of a device."""


@dataclass(frozen=True)
class ServedTokens:
    """The energy of an output token of servers."""

    law: TokenLaw
    """Constants."""
    by_bits: tuple[float, ...]
    """Energy for weights of `server.BITS`, in units of the law's."""


@dataclass(frozen=True)
class FittedTokens:
    """A law of the energy of an output token and what it leaves."""

    law: ServedTokens
    """Constants."""
    errors: dict[str, Errors]
    """By the names of `COLUMNS`, of the energy of an output token."""


def load_power(path: Path, of: str = STEP) -> FittedPower:
    """Read the constants for shares of a step or of a server's pace.

    Raises:
        InputError: if the file cannot be read or an entry is missing.
    """

    def law(table: dict[str, Any]) -> PowerLaw:
        return PowerLaw(*(float(table[name]) for name in ("idle", "memory", "compute")))

    return FittedPower(*_read(path, of, law))


def load_tokens(path: Path) -> FittedTokens:
    """Read the constants of the energy of an output token.

    Raises:
        InputError: if the file cannot be read or an entry is missing.
    """

    def law(table: dict[str, Any]) -> ServedTokens:
        step, memory, compute = (float(table[name]) for name in ("step", "memory", "compute"))
        sequence = float(table["sequence_us"]) * MICROSECOND
        return ServedTokens(TokenLaw(step, memory, compute, sequence), read_by_bits(table))

    return FittedTokens(*_read(path, TOKENS, law))


def _read(
    path: Path, name: str, law: Callable[[dict[str, Any]], Law]
) -> tuple[Law, dict[str, Errors]]:
    """The law and the errors of one table of a file."""
    document = read_toml(path, WRITTEN)
    with understood(path, WRITTEN):
        table = document[name]
        return law(table), {column: Errors(*table[column]) for column in COLUMNS}


@cache
def shipped_power(of: str = STEP) -> FittedPower:
    """The constants that ship."""
    return load_power(shipped("power"), of)


def power_with(efficiency: str | None) -> FittedPower:
    """The constants that ship, for the times of an efficiency set: shares of a server's own time
    where the set of that name has it.
    """
    return shipped_power(PACE if known_server(efficiency) else STEP)


@cache
def shipped_tokens() -> FittedTokens:
    """The constants that ship."""
    return load_tokens(shipped("power"))
