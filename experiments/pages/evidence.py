"""The results that the findings page stands on: read, selected, and written as tables and words
that follow the numbers.
"""

import json
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from experiments.framework.pieces import Row
from qsopt.errors import InputError
from qsopt.report.plot import tokens_text


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
    def there(self) -> bool:
        """Whether it was written."""
        return (self.folder / self.name / f"{self.name}.json").is_file()

    def check(self, path: Path) -> None:
        """Refuse to go on without a file of this experiment.

        Raises:
            InputError: naming the command that makes it.
        """
        if not path.is_file():
            raise InputError(f"{path} is missing: run python -m experiments.{self.name} first")

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

    def of(self, name: str) -> Evidence:
        """The results of an experiment."""
        return Evidence(name, self.results)

    def picture(self, experiment: str, text: str, name: str | None = None) -> str:
        """A picture of an experiment as Markdown; `experiments.framework.figures` puts it there.

        Raises:
            InputError: if the experiment has not drawn it.
        """
        file = f"{name or experiment}.png"
        self.of(experiment).check(self.results / experiment / file)
        return f"![{text}](images/findings/{file})"


@dataclass(frozen=True)
class Claim:
    """One claim of the paper: what to call it, what became of it, and its section."""

    name: str
    verdict: str
    numbers: str
    section: str


def paragraph(*sentences: str) -> str:
    """Sentences as lines of one paragraph."""
    return textwrap.fill(" ".join(sentences), 125, break_long_words=False, break_on_hyphens=False)


def section(title: str, *parts: str) -> str:
    """A heading and what stands below it."""
    return "\n\n".join((title, *(part for part in parts if part)))


def made_by(*commands: str) -> str:
    """Which commands made a section."""
    return f"*Made by {', '.join(f'`python -m experiments.{command}`' for command in commands)}.*"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def times(ratio: float | None) -> str:
    """A ratio of throughputs, to two or three figures."""
    if ratio is None:
        return "-"
    return f"{ratio:.1f}x" if ratio >= 10.0 else f"{ratio:.2f}x"


def share(value: float) -> str:
    """A share in whole percent; not 100 % unless it is all, nor 0 % unless none."""
    rounded = round(100.0 * value)
    if rounded == 100 and value < 1.0:
        return ">99%"
    return "<1%" if rounded == 0 and value > 0.0 else f"{rounded}%"


def tokens(value: float) -> str:
    """A context length as people say it, to two figures unless it is near a power of two."""
    power = 2.0 ** round(np.log2(value))
    if abs(np.log2(value / power)) < 0.1:
        return tokens_text(power)
    size = next(size for size in (2.0**20, 2.0**10, 1.0) if value >= size)
    return tokens_text(float(f"{value / size:.2g}") * size)


def dense_wins(row: Row) -> bool:
    """Whether the dense twin has the larger throughput, or alone fits."""
    return row["verdict"] in ("dense wins", "moe infeasible")


def advice(won: float) -> str:
    """What to do where the dense twin wins this share of the cases."""
    if won >= 0.8:
        return "**dense**"
    if won <= 0.2:
        return "**MoE**"
    return (
        "leans dense, compare"
        if won >= 0.6
        else "leans MoE, compare"
        if won <= 0.4
        else "open, compare"
    )
