"""Every Python example of the texts runs in a fresh process, in both precisions."""

from pathlib import Path

import pytest
from processes import run
from snippets import snippets

SNIPPETS = str(Path(__file__).parent / "snippets.py")


def test_there_are_examples() -> None:
    assert snippets()


@pytest.mark.parametrize("precision", ["float32", "x64"])
def test_every_example_runs(compiled: Path, precision: str) -> None:
    assert run(compiled, SNIPPETS, precision).strip()
