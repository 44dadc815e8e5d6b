"""Measured tables of the Python package `aiconfigurator-core`, so that anyone can calibrate without
a file from us.

The package (Apache-2.0) holds `systems/data/<gpu>/<family>/<backend>/<release>/<table>.parquet`. Of
every table the newest release is read that is no fragment of it; which of its rows count, says
`aiconfigurator_rows`. What is left out is counted.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from qsopt.calibration.tables.aiconfigurator_columns import SOURCES, Columns, Source
from qsopt.calibration.tables.aiconfigurator_rows import counted
from qsopt.calibration.tables.columns import Skipped, Table
from qsopt.errors import InputError

REMEDY = "pip install 'qsopt[calibration]'"

_FRAGMENT = 0.2
"""A release with a smaller share of the fullest one's rows only adds some models."""

_LIBRARIES = ("nccl", "oneccl")
"""Folders beside the backends that hold collectives of a library."""


@dataclass(frozen=True)
class Choice:
    """What is read of the package; all of it if left out."""

    accelerators: tuple[str, ...] = ()
    """Accelerators, as folders call them (`h100_sxm`) or without what follows the underscore
    (`h100`).
    """
    backends: tuple[str, ...] = ()
    """Serving backends; the tables of communication libraries stay."""
    releases: tuple[str, ...] = ()
    """Releases to read instead of the newest, for backends that have one of them."""
    shapes: int = 16
    """Sampled shapes of each accelerator, backend and format."""


@dataclass(frozen=True)
class _File:
    path: Path
    gpu: str
    backend: str
    release: str


def installed() -> Path:
    """The folder of tables of the installed package.

    Raises:
        InputError: if it is not installed.
    """
    found = find_spec("aiconfigurator_core")
    places = (
        [Path(place) / "systems" / "data" for place in (found.submodule_search_locations or ())]
        if found
        else []
    )
    for place in places:
        if place.is_dir():
            return place
    raise InputError(
        f"the package aiconfigurator-core is not installed; {REMEDY}, or give a folder of tables "
        f"with --data"
    )


def holds_tables(folder: Path) -> bool:
    """Whether a folder has tables of the package's layout."""
    return any(folder.glob("*/*/*/*/*.parquet"))


def read_tables(folder: Path, choice: Choice, skipped: Skipped) -> Iterator[Table]:
    """Tables of the package with the columns of the CSV schema, all accelerators together.

    Raises:
        InputError: if pyarrow is missing or nothing is left of the choice.
    """
    files = [file for file in _files(folder) if _chosen(file, choice)]
    if not files:
        raise InputError(
            f"{folder}: no table of the chosen accelerators and backends; it has "
            f"{', '.join(_names(folder))}"
        )
    for name, source in SOURCES.items():
        parts = [
            part
            for file in _current(files, name, source, choice)
            if (part := _read(file, source, skipped))
        ]
        if parts:
            columns = {
                key: np.concatenate([part[key].astype(str) for part in parts]) for key in parts[0]
            }
            yield counted(Table(f"{name}.parquet", columns), source, choice.shapes, skipped)


def _files(folder: Path) -> Iterator[_File]:
    for path in sorted(folder.glob("*/*/*/*/*.parquet")):
        gpu, _, backend, release = path.relative_to(folder).parts[:4]
        yield _File(path, gpu, backend, release)


def _names(folder: Path) -> list[str]:
    return sorted({file.gpu for file in _files(folder)} | {file.backend for file in _files(folder)})


def _chosen(file: _File, choice: Choice) -> bool:
    gpu = not choice.accelerators or {file.gpu, file.gpu.split("_")[0]} & {
        name.lower() for name in choice.accelerators
    }
    return bool(gpu) and (not choice.backends or file.backend in (*choice.backends, *_LIBRARIES))


def _current(files: list[_File], name: str, source: Source, choice: Choice) -> Iterator[_File]:
    """The release of each accelerator and backend that is read."""
    groups: dict[tuple[str, str], list[_File]] = {}
    for file in files:
        if file.path.stem == name:
            groups.setdefault((file.gpu, file.backend), []).append(file)
    for group in groups.values():
        asked = [file for file in group if file.release in choice.releases]
        if asked or source.any_release:
            yield from asked or group
            continue
        rows = [_rows(file) for file in group]
        whole = [
            file for file, count in zip(group, rows, strict=True) if count >= _FRAGMENT * max(rows)
        ]
        yield max(whole, key=lambda file: _order(file.release))


def _order(release: str) -> tuple[tuple[int, int, str], ...]:
    """Releases in their order: a candidate comes before its release, a repair after."""
    parts = re.findall(r"\d+|[a-z]+", release.lower())
    ranks = {"dev": -2, "rc": -1}
    return (
        *(
            (1, int(part), "") if part.isdigit() else (ranks.get(part, 2), 0, part)
            for part in parts
        ),
        (0, 0, ""),
    )


def _parquet() -> Any:
    """pyarrow's reader: an optional dependency."""
    try:
        return import_module("pyarrow.parquet")
    except ImportError:
        raise InputError(f"reading parquet tables needs pyarrow; {REMEDY}") from None


def _rows(file: _File) -> int:
    """Rows of a file; none of one that is broken, which is told when it is read."""
    parquet = _parquet()
    try:
        return parquet.read_metadata(file.path).num_rows
    except (OSError, ValueError):
        return 0


def _read(file: _File, source: Source, skipped: Skipped) -> Columns:
    """One file's rows on the grid; nothing if it is broken or of another layout."""
    parquet = _parquet()
    try:
        raw = parquet.read_table(file.path)
        arrays = {
            name: raw.column(name).to_numpy(zero_copy_only=False) for name in raw.column_names
        }
        columns = source.convert(arrays, file.gpu)
    except (OSError, ValueError, KeyError) as error:
        reason = (
            f"{file.gpu} {file.backend} {file.release}: cannot be read "
            f"({type(error).__name__} {str(error)[:60]})"
        )
        skipped.add(file.path.name, reason)
        return {}
    rows = len(next(iter(columns.values())))
    skipped.add(file.path.name, "off the grid of sizes", max(len(raw) - rows, 0))
    labels = {
        "gpu": file.gpu,
        "backend": file.backend,
        "version": file.release,
        "impl": f"{file.backend}_{file.release}",
    }
    return {**{name: np.full(rows, label) for name, label in labels.items()}, **columns}
