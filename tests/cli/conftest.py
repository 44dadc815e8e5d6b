"""Commands run in this process: fast, and nothing is written into the user's home."""

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache


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


@pytest.fixture(autouse=True, scope="session")
def _outside_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The command's cache in a temporary folder, and the process afterwards as it was before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv(
            "XLA_FLAGS", ""
        )  # set, so that the command leaves the compiler of the other tests alone
        yield
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()


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
