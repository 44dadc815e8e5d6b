"""The results that the findings page stands on: read and selected."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments.framework.pieces import Row
from experiments.framework.study import module_name
from qsopt.errors import InputError


@dataclass(frozen=True)
class Evidence:
    """What one experiment wrote."""

    name: str
    folder: Path

    @cached_property
    def record(self) -> dict[str, Any]:
        """The whole record.

        Raises:
            InputError: naming the command that makes it, where it is missing.
        """
        path = self.folder / self.name / f"{self.name}.json"
        self.check(path)
        return json.loads(path.read_text())

    @property
    def inputs(self) -> dict[str, Any]:
        """The settings of the experiment."""
        return self.record["inputs"]

    @property
    def exists(self) -> bool:
        """Whether it was written."""
        return (self.folder / self.name / f"{self.name}.json").is_file()

    def check(self, path: Path) -> None:
        """Refuse to go on without a file of this experiment.

        Raises:
            InputError: naming the command that makes it.
        """
        if not path.is_file():
            raise InputError(f"{path} is missing: run python -m {module_name(self.name)} first")

    def rows(self, **wanted: Any) -> list[Row]:
        """The rows that have these values."""
        return [
            row
            for row in self.record["rows"]
            if all(row.get(key) == value for key, value in wanted.items())
        ]


@dataclass(frozen=True)
class Book:
    """Everything that the findings page draws on."""

    results: Path

    def evidence(self, name: str) -> Evidence:
        """The results of an experiment."""
        return Evidence(name, self.results)

    def picture(self, experiment: str, text: str, name: str | None = None) -> str:
        """A picture of an experiment as Markdown; `experiments.framework.figures` puts it there.

        Raises:
            InputError: if the experiment has not drawn it.
        """
        file = f"{name or experiment}.png"
        self.evidence(experiment).check(self.results / experiment / file)
        return f"![{text}](images/findings/{file})"


def dense_wins(row: Row) -> bool:
    """Whether the dense twin has the larger throughput, or alone fits."""
    return row["verdict"] in ("dense wins", "moe infeasible")
