"""Finished pieces of an experiment as small files, so that an interrupted run goes on where it
stopped.

A piece is known by what decides its rows: the inputs that name it, the source of the function that
computes it, and the sources and shipped data of qsopt. A change of any of them makes a new piece;
the old file is never read again.
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import qsopt
from qsopt.catalog.folder import configs
from qsopt.files import write_text
from qsopt.report.records import to_json

Row = dict[str, Any]

DECIDE_NOTHING = ("cli", "report")
"""Parts of qsopt that only show results."""


@dataclass(frozen=True)
class Store:
    """The pieces of one function of an experiment."""

    folder: Path
    decided_by: str
    """Digest of everything but the inputs."""

    @classmethod
    def for_function(
        cls, folder: Path, compute: Callable[..., Any], helpers: tuple[ModuleType, ...]
    ) -> "Store":
        """The store of a function; `helpers` are modules outside qsopt that it relies on."""
        used = [compute, *helpers]
        own = _digest(
            Path(file) for part in used if (file := inspect.getsourcefile(part)) is not None
        )
        return cls(folder, f"{own}-{sources()}")

    def path(self, key: Row) -> Path:
        """The file of a piece."""
        text = json.dumps([key, self.decided_by], sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"

    def load(self, key: Row) -> list[Row] | None:
        """The rows of a finished piece, or None."""
        path = self.path(key)
        return json.loads(path.read_text())["rows"] if path.exists() else None

    def save(self, key: Row, rows: list[Row]) -> list[Row]:
        """Keep the rows of a piece, whole or not at all, and give them as a later run will load
        them.
        """
        text = to_json({"key": key, "rows": rows})
        write_text(self.path(key), text)
        return json.loads(text)["rows"]


@cache
def sources() -> str:
    """Digest of the sources and shipped data of qsopt that decide results."""
    return _digest(_deciding_files())


def _deciding_files() -> Iterator[Path]:
    package = Path(qsopt.__file__).parent
    for file in sorted(package.rglob("*.py")):
        if file.relative_to(package).parts[0] not in DECIDE_NOTHING:
            yield file
    for folder in ("models", "hardware", "efficiency"):
        yield from sorted(file for file in (configs() / folder).rglob("*") if file.is_file())


def _digest(files: Iterator[Path]) -> str:
    whole = hashlib.sha256()
    for file in files:
        whole.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return whole.hexdigest()[:16]
