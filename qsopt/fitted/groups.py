"""Fitted groups as TOML: pooled values with intervals and errors, and the values of each
accelerator that has data.

The file holds no measurement. Times in it are microseconds, as in the other efficiency files; here
they are SI.
"""

import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qsopt.catalog.folder import configs
from qsopt.errors import InputError
from qsopt.fitted.errors import Errors
from qsopt.fitted.parameters import DEFAULTS
from qsopt.units import MICROSECOND

Values = dict[str, float]

ACROSS = "-across"
"""What follows the name of a backend that exchanges tokens between scale-up domains."""

_TIMES = ("launch", "step")


@dataclass(frozen=True)
class Own:
    """One accelerator of a group."""

    values: Values
    """Its parameters."""
    errors: Errors
    """Of the fit to its rows."""


@dataclass(frozen=True)
class Group:
    """What was fitted for one kind of operator, backend and format."""

    kind: str
    backend: str
    dtype: str
    pool: Values
    """For accelerators without data."""
    low: Values
    high: Values
    """The 5th and 95th percentile of the pool over bootstrap draws of models or shapes."""
    fitted: Errors
    """Of rows that were fitted."""
    other_shapes: Errors
    """Of rows whose model or shape was left out."""
    other_accelerators: Errors
    """Of rows whose accelerator was left out."""
    own: dict[str, Own] = field(default_factory=dict)
    """By accelerator."""


@dataclass(frozen=True)
class Store:
    """All groups of one calibration."""

    source: str
    """What was fitted."""
    version: str
    date: str
    groups: tuple[Group, ...]

    def find(self, kind: str, backend: str, dtype: str) -> Group | None:
        """The group of that name, else the nearest of the same kind.

        Nearest first runs the same way (what follows the first dash of a backend), then has the
        same format, then most rows.
        """
        same = [group for group in self.groups if group.kind == kind]

        def nearness(group: Group) -> tuple[bool, bool, bool, int]:
            way = group.backend.partition("-")[2] == backend.partition("-")[2]
            return (
                (group.backend, group.dtype) == (backend, dtype),
                way,
                group.dtype == dtype,
                group.fitted.n,
            )

        return max(same, key=nearness, default=None)


def shipped(name: str = "operators") -> Path:
    """The file of a calibration that ships."""
    return configs() / "efficiency" / "groups" / f"{name}.toml"


def load_store(path: Path) -> Store:
    """Read a file of groups.

    Raises:
        InputError: if it cannot be read or an entry is missing.
    """
    try:
        table = tomllib.loads(path.read_text())
        groups = tuple(_group(entry) for entry in table["group"])
        return Store(table["source"], table["version"], str(table["date"]), groups)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read as TOML ({error}); `qsopt calibrate` writes such a file"
        ) from None
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path}: an entry is missing or wrong: {error}; `qsopt calibrate` writes such a file"
        ) from None


def save_store(store: Store, path: Path) -> None:
    """Write a file of groups."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        "# Efficiencies of operators fitted to measured times, by kind, backend and format. "
        "Written by `qsopt calibrate`.",
        "# Lists of errors are [rows, median, 90th percentile, signed median] of relative error.",
        f"source = {_text(store.source)}",
        f"version = {_text(store.version)}",
        f"date = {store.date}",
    ]
    path.write_text(
        "\n".join([*lines, *(line for group in store.groups for line in _lines(group))]) + "\n"
    )


def _lines(group: Group) -> list[str]:
    head = [
        "",
        "[[group]]",
        *(f"{name} = {_text(getattr(group, name))}" for name in ("kind", "backend", "dtype")),
    ]
    values = [f"{name} = {_inline(getattr(group, name))}" for name in ("pool", "low", "high")]
    errors = [
        f"{name} = {_list(getattr(group, name))}"
        for name in ("fitted", "other_shapes", "other_accelerators")
    ]
    own = [
        f"own.{gpu} = {_inline(one.values, f', errors = {_list(one.errors)}')}"
        for gpu, one in group.own.items()
    ]
    return [*head, *values, *errors, *own]


def _text(value: str) -> str:
    return '"' + value.replace("\\", "/").replace('"', "'") + '"'


def _inline(values: Values, more: str = "") -> str:
    pairs = ", ".join(
        f"{_key(name)} = {_number(value / (MICROSECOND if name in _TIMES else 1))}"
        for name, value in values.items()
    )
    return "{ " + pairs + more + " }"


def _key(name: str) -> str:
    return f"{name}_us" if name in _TIMES else name


def _number(value: float) -> str:
    return "nan" if math.isnan(value) else repr(float(f"{value:.4g}"))


def _list(found: Errors) -> str:
    return "[" + ", ".join([str(found.n), *(_number(round(value, 4)) for value in found[1:])]) + "]"


def _group(entry: dict[str, Any]) -> Group:
    own = {
        gpu: Own(
            _values({name: value for name, value in one.items() if name != "errors"}),
            Errors(*one["errors"]),
        )
        for gpu, one in entry.get("own", {}).items()
    }
    pool, low, high = (_values(entry[name]) for name in ("pool", "low", "high"))
    fitted, shapes, accelerators = (
        Errors(*entry[name]) for name in ("fitted", "other_shapes", "other_accelerators")
    )
    return Group(
        entry["kind"],
        entry["backend"],
        entry["dtype"],
        pool,
        low,
        high,
        fitted,
        shapes,
        accelerators,
        own,
    )


def _values(table: dict[str, float]) -> Values:
    keys = {_key(name): name for name in DEFAULTS}
    return {
        keys[key]: float(value) * (MICROSECOND if keys[key] in _TIMES else 1.0)
        for key, value in table.items()
    }
