"""Fitted groups as TOML: pooled values with intervals and errors, and the values of each
accelerator that has data.

The file holds no measurement. Times in it are microseconds, as in the other efficiency files; here
they are SI.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit

from qsopt.catalog.folder import configs
from qsopt.files import read_toml, understood, write_text
from qsopt.fitted.errors import Errors
from qsopt.fitted.generations import generation
from qsopt.fitted.parameters import DEFAULTS
from qsopt.units import MICROSECOND

Values = dict[str, float]

ACROSS = "-across"
"""What follows the name of a backend that exchanges tokens between scale-up domains."""

_TIMES = ("launch", "step")

WRITTEN = "`qsopt calibrate` writes such a file"
"""What to give instead of a file that cannot be understood."""


@dataclass(frozen=True)
class AcceleratorFit:
    """One accelerator of a group."""

    values: Values
    """Its parameters."""
    errors: Errors
    """Of the fit to its rows."""


@dataclass(frozen=True)
class FittedGroup:
    """What was fitted for one kind of operator, backend and format."""

    kind: str
    backend: str
    dtype: str
    pool: Values
    """For accelerators of generations without data."""
    low: Values
    high: Values
    """The 5th and 95th percentile of the pool over bootstrap draws of models or shapes."""
    fitted: Errors
    """Of rows that were fitted."""
    other_shapes: Errors
    """Of rows whose model or shape was left out."""
    other_accelerators: Errors
    """Of rows whose accelerator was left out: by its generation."""
    other_generations: Errors
    """Of rows whose generation was left out: by the pool."""
    own: dict[str, AcceleratorFit] = field(default_factory=dict)
    """By accelerator."""
    generations: dict[str, Values] = field(default_factory=dict)
    """By generation, for its accelerators without data."""

    def values(self, accelerator: str | None) -> Values:
        """Parameters on an accelerator: its own, else those of its generation, else the pool's, as
        for None.
        """
        if accelerator is None:
            return self.pool
        if accelerator in self.own:
            return self.own[accelerator].values
        return self.generations.get(generation(accelerator), self.pool)


@dataclass(frozen=True)
class Calibration:
    """All groups that were fitted together."""

    source: str
    """What was fitted."""
    version: str
    date: str
    groups: tuple[FittedGroup, ...]

    def nearest(self, kind: str, backend: str, dtype: str) -> FittedGroup | None:
        """The group of that name, else the nearest of the same kind; None without any of that kind.

        Nearest first runs the same way (what follows the first dash of a backend), then has the
        same format, then most rows.
        """
        same = [group for group in self.groups if group.kind == kind]

        def nearness(group: FittedGroup) -> tuple[bool, bool, bool, int]:
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


# ---- reading -------------------------------------------------------------------------------------


def load_calibration(path: Path) -> Calibration:
    """Read a file of groups.

    Raises:
        InputError: if it cannot be read or an entry is missing.
    """
    table = read_toml(path, WRITTEN)
    with understood(path, WRITTEN):
        groups = tuple(_group(entry) for entry in table["group"])
        source, version, day = (str(table[name]) for name in ("source", "version", "date"))
        return Calibration(source, version, day, groups)


def _group(entry: dict[str, Any]) -> FittedGroup:
    own = {
        gpu: AcceleratorFit(
            _values({name: value for name, value in one.items() if name != "errors"}),
            Errors(*one["errors"]),
        )
        for gpu, one in entry.get("own", {}).items()
    }
    fields: dict[str, Any] = {name: entry[name] for name in _NAMES}
    fields |= {name: _values(entry[name]) for name in _PARAMETERS}
    fields |= {name: Errors(*entry[name]) for name in _ERRORS}
    generations = {name: _values(one) for name, one in entry.get("generation", {}).items()}
    return FittedGroup(**fields, own=own, generations=generations)


_NAMES = ("kind", "backend", "dtype")
_PARAMETERS = ("pool", "low", "high")
_ERRORS = ("fitted", "other_shapes", "other_accelerators", "other_generations")
"""Fields of a `FittedGroup` by what they hold."""


def _key(name: str) -> str:
    return f"{name}_us" if name in _TIMES else name


def _values(table: dict[str, float]) -> Values:
    names = {_key(name): name for name in DEFAULTS}
    return {
        names[key]: _size(key, value) * (MICROSECOND if names[key] in _TIMES else 1.0)
        for key, value in table.items()
    }


def _size(key: str, value: Any) -> float:
    """A number of a file that is none below zero."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        raise ValueError(f"{key} = {value!r} is no number of zero or more")
    return float(value)


# ---- writing -------------------------------------------------------------------------------------


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write a file of groups.

    Raises:
        InputError: if it cannot be written.
    """
    document = tomlkit.document()
    for line in (
        "Efficiencies of operators fitted to measured times, by kind, backend and format. Written "
        "by `qsopt calibrate`.",
        "Lists of errors are [rows, median, 90th percentile, signed median] of relative error.",
    ):
        document.add(tomlkit.comment(line))
    for name in ("source", "version", "date"):
        document.add(name, getattr(calibration, name))
    groups = tomlkit.aot()
    for group in calibration.groups:
        groups.append(_table(group))
    document.add("group", groups)
    write_text(path, tomlkit.dumps(document))


def _table(group: FittedGroup) -> Any:
    table = tomlkit.table()
    for name in _NAMES:
        table.add(name, getattr(group, name))
    for name in _PARAMETERS:
        table.add(name, inline(_shown(getattr(group, name))))
    for name in _ERRORS:
        table.add(name, errors_list(getattr(group, name)))
    own = tomlkit.table()
    for gpu, one in group.own.items():
        own.add(gpu, inline({**_shown(one.values), "errors": errors_list(one.errors)}))
    table.add("own", own)
    generations = tomlkit.table()
    for name, values in group.generations.items():
        generations.add(name, inline(_shown(values)))
    table.add("generation", generations)
    return table


def _shown(values: Values) -> dict[str, Any]:
    """Values by the names and in the units of the file."""
    return {
        _key(name): digits(value / (MICROSECOND if name in _TIMES else 1.0))
        for name, value in values.items()
    }


def inline(entries: dict[str, Any]) -> Any:
    """A table on one line."""
    table = tomlkit.inline_table()
    table.update(entries)
    return table


def digits(value: float) -> float:
    """A number to four significant digits, as files show it."""
    return float(f"{value:.4g}")


def errors_list(left: Errors) -> list[float]:
    """Errors as files list them: rows, median, 90th percentile and signed median."""
    return [left.n, *(round(float(value), 4) for value in left[1:])]
