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


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run one command line, given as one text or as words."""
    from qsopt.cli import main

    def outcome(*arguments: str) -> Outcome:
        words = shlex.split(arguments[0]) if len(arguments) == 1 else list(arguments)
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
