"""Commands run in this process, which is fast."""

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True)
class Outcome:
    """What a command returned and printed."""

    status: int
    out: str
    err: str

    @property
    def record(self) -> Any:
        """The JSON on stdout, read strictly: NaN and Infinity are no JSON."""
        return json.loads(
            self.out, parse_constant=lambda token: pytest.fail(f"{token} in the JSON")
        )


Run = Callable[..., Outcome]


def changed(words: list[str]) -> list[str]:
    """The words without flags that stand there again later, and without the values of those."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word.startswith("--"):
            parts.append([word])
        else:
            parts[-1].append(word)
    last = {part[0].partition("=")[0]: place for place, part in enumerate(parts) if part}
    kept = (
        part
        for place, part in enumerate(parts)
        if part and last[part[0].partition("=")[0]] == place
    )
    return [word for part in kept for word in part]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run one command line, given as one text or as words. A flag that stands there twice counts
    the last time, so that cases are written as changes of another one, unless it is run `as_is`.
    """
    from qsopt.cli import main

    def outcome(*arguments: str, as_is: bool = False) -> Outcome:
        words = shlex.split(arguments[0]) if len(arguments) == 1 else list(arguments)
        words = words if as_is else changed(words)
        capsys.readouterr()
        status = main(words)
        printed = capsys.readouterr()
        return Outcome(status, printed.out, printed.err)

    return outcome


@pytest.fixture
def answer(run: Run) -> Callable[..., Any]:
    """The JSON of a command that must have an answer and say nothing else."""

    def record(*arguments: str) -> Any:
        outcome = run(*arguments)
        assert (outcome.status, outcome.err) == (0, ""), outcome.err
        return outcome.record

    return record
