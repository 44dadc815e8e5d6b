"""Stored answers of commands: every key in its order, every text, and every number to six
digits, as `data/` has them, so that another processor rounds to the same.

To store them anew, after a change that is meant to move them: `python tests/cli/test_stored.py`.
"""

import io
import json
import shlex
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from qsopt.cli import main

DATA = Path(__file__).parent / "data"

COMMANDS = {
    "compare_ideal": "compare --model deepseek-v3 --cluster 8xmi300x --context 131072 "
    "--efficiency ideal --weight-dtype bf16",
    "compare_laws": "compare --model mixtral-8x7b --cluster 8xh100 --context 8192 --law all",
    "compare_limit": "compare --model mixtral-8x7b --cluster 8xh100 --context 8192 --tpot-ms 30",
    "compare_same_body": "compare --model mixtral-8x7b --cluster 8xh100 --context 8192 --q 2 "
    "--twin same-body",
    "evaluate_best": "evaluate --model mixtral-8x7b --cluster 8xh100 --context 8192 --tpot-ms 50",
    "evaluate_given": "evaluate --model mixtral-8x7b --cluster 4xa100-80gb --context 8192 "
    "--batch 64 --tp 4",
    "sensitivity": "sensitivity --model mixtral-8x7b --cluster 4xa100-80gb --context 8192 "
    "--batch 64 --tp 4",
}

DIGITS = 6


def compact(value: Any) -> Any:
    """A record with numbers of `DIGITS` digits and without the times that a search took."""
    if isinstance(value, dict):
        return {
            key: compact(entry)
            for key, entry in value.items()
            if not (key == "seconds" and isinstance(entry, dict))
        }
    if isinstance(value, list):
        return [compact(entry) for entry in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def assert_same(found: Any, stored: Any, where: str = "") -> None:
    """Equal in structure, order of keys, texts and whole numbers, and in numbers to a unit of the
    last digit.
    """
    assert type(found) is type(stored), where
    if isinstance(stored, dict):
        assert list(found) == list(stored), where
        for key, entry in stored.items():
            assert_same(found[key], entry, f"{where}.{key}")
    elif isinstance(stored, list):
        assert len(found) == len(stored), where
        for place, (one, other) in enumerate(zip(found, stored, strict=True)):
            assert_same(one, other, f"{where}[{place}]")
    elif isinstance(stored, float):
        assert found == pytest.approx(stored, rel=10.0 ** (1 - DIGITS), abs=1e-13), where
    else:
        assert found == stored, where


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_answers_as_stored(name: str, answer: Callable[..., Any]) -> None:
    stored = json.loads((DATA / f"{name}.json").read_text("utf-8"))
    assert_same(compact(answer(f"{COMMANDS[name]} --json")), stored)


def test_the_comparison_sees_a_change() -> None:
    stored = {"a": 1.0, "b": [1, None, "x"]}
    for changed in ({"b": [1, None, "x"], "a": 1.0}, {"a": 1.0 + 1e-4, "b": [1, None, "x"]}):
        with pytest.raises(AssertionError):
            assert_same(changed, stored)


def store() -> None:
    """Write the answers of this checkout."""
    DATA.mkdir(exist_ok=True)
    for name, command in COMMANDS.items():
        printed = io.StringIO()
        with redirect_stdout(printed):
            assert main([*shlex.split(command), "--json"]) == 0
        text = json.dumps(compact(json.loads(printed.getvalue())), separators=(",", ":"))
        (DATA / f"{name}.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    store()
