"""What servers keep in memory beside weights and cache: constants of each software, fitted to
what it prints when it starts, and the errors that they leave.

A software takes the entries of its own table, then those that it has `on` the accelerator's maker
and the accelerator itself. `pooled` is for anything else.
"""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from qsopt.catalog.accelerators import hardware_facts
from qsopt.catalog.server_memory import read_server_memory
from qsopt.errors import InputError
from qsopt.files import read_toml, understood
from qsopt.fitted.errors import Errors
from qsopt.fitted.groups import WRITTEN, shipped
from qsopt.fitted.spread import INTERVALS, Quantiles
from qsopt.spec.efficiency import Efficiency
from qsopt.spec.server_memory import ServerMemory
from qsopt.units import GiB

POOLED = "pooled"
"""The table for software that was not fitted."""

SPECIAL = "on"
"""The table, inside of that of a software, of what differs by maker and accelerator."""

ROOM = "room"
"""The table of quantiles of the error of the room [GiB]."""

RESERVE = "reserve_GiB"
"""The entry that is `Efficiency.reserve_bytes`."""

COLUMNS = ("fitted", "other_models")
"""Errors of rows that the fit saw, and of rows whose model it did not see."""


@dataclass(frozen=True)
class MemoryFit:
    """Tables of constants by software, and what they leave."""

    tables: dict[str, dict[str, Any]]
    """As in the file."""
    errors: dict[str, Errors] = field(default_factory=dict)
    """Of the room for the cache, by the names of `COLUMNS`."""
    room: dict[str, Quantiles] = field(default_factory=dict)
    """Quantiles, at `spread.LEVELS`, of the measured less the predicted room, by the names of
    `COLUMNS` [byte].
    """
    models: tuple[str, ...] = ()
    """Those that the fit saw, by the names of the catalog."""
    where: str = "memory.toml"
    """The file, for messages."""

    def of(self, software: str, accelerator: str | None) -> tuple[float, ServerMemory]:
        """Reserve [byte] and the rest, of a software on an accelerator of the catalog.

        Raises:
            InputError: if an entry is unknown or out of range.
        """
        entries = dict(self.tables.get(software, self.tables[POOLED]))
        special = entries.pop(SPECIAL, {})
        for kind in _kinds(accelerator):
            entries |= special.get(kind, {})
        reserve = float(_bytes(entries.pop(RESERVE), self.where))
        return reserve, read_server_memory(entries, f"{self.where}: [{software}]")

    def applied(self, efficiency: Efficiency, software: str, accelerator: str | None) -> Efficiency:
        """The efficiency set with the memory of a server of that software."""
        reserve, memory = self.of(software, accelerator)
        return eqx.tree_at(
            lambda e: (e.reserve_bytes, e.memory), efficiency, (np.asarray(reserve), memory)
        )

    def room_interval(self, room: float, model: str | None) -> dict[str, list[float]] | None:
        """Where the room of a server that a model starts on is expected, by percent of a central
        interval; None without evidence [byte].
        """
        left = self.room.get(COLUMNS[model not in self.models])
        if left is None or not room > 0.0:
            return None
        return {
            name: [max(room + float(left[place]), 0.0) for place in ends]
            for name, ends in INTERVALS.items()
        }


_MOST = 1e9
"""No device and no error of one is so large [GiB]."""


def _bytes(given: object, where: str) -> Float[np.ndarray, "..."]:
    """Numbers of GiB in bytes.

    Raises:
        InputError: if one is not finite, or absurd.
    """
    values = np.array(given, float)
    if not (np.abs(values) < _MOST).all():
        raise InputError(
            f"{where}: give {RESERVE} and quantiles of the room in GiB, below {_MOST:g}"
        )
    return values * GiB


def _kinds(accelerator: str | None) -> tuple[str, ...]:
    if accelerator is None:
        return ()
    return str(hardware_facts(accelerator).vendor).lower(), accelerator


def load_memory_fit(path: Path) -> MemoryFit:
    """Read the constants as `qsopt calibrate` writes them.

    Raises:
        InputError: if the file cannot be read or an entry is missing.
    """
    document = read_toml(path, WRITTEN)
    with understood(path, WRITTEN):
        tables = {name: each for name, each in document.items() if isinstance(each, dict)}
        left = {name: Errors(*each) for name, each in tables.pop("errors").items()}
        room = tables.pop(ROOM, {})
        quantiles = {name: _bytes(room[name], path.name) for name in COLUMNS if name in room}
        fit = MemoryFit(tables, left, quantiles, tuple(room.get("models", ())), path.name)
        for software in tables:
            fit.of(software, None)
    return fit


@cache
def memory_fit() -> MemoryFit:
    """The constants that ship."""
    return load_memory_fit(shipped("memory"))
