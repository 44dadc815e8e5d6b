"""Stored answers of commands: every key in its order, every text, and every number to six
digits, as `data/` has them, so that another processor rounds to the same.

To store them anew, after a change that is meant to move them:
`python tests/cli/test_stored.py [NAME...]`.
"""

import io
import json
import shlex
import sys
from collections.abc import Callable, Iterable
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
    "crossover": "crossover --model mixtral-8x7b --cluster 2xh200 --over context --from 1k "
    "--to 64k",
    "evaluate_best": "evaluate --model mixtral-8x7b --cluster 8xh100 --context 8192 --tpot-ms 50",
    "evaluate_given": "evaluate --model mixtral-8x7b --cluster 4xa100-80gb --context 8192 "
    "--batch 64 --tp 4",
    "map": "map --model mixtral-8x7b --cluster 2xh200 --x bandwidth --y capacity --x-points 4 "
    "--y-points 3",
    "optimize": "optimize --like mixtral-8x7b --cluster 2xh200 --context 8192 "
    "--vary top_k,tp,batch --starts 2 --certify 0",
    "sensitivity": "sensitivity --model mixtral-8x7b --cluster 4xa100-80gb --context 8192 "
    "--batch 64 --tp 4",
}

SLOW = {"optimize"}

DIGITS = 6

ON_THE_WAY = {"seconds", "relaxed_value", "all_real_value", "evaluations"}
"""What a search met on its way and how long it took, which other processors need not repeat."""


def compact(value: Any) -> Any:
    """A record with numbers of `DIGITS` digits; of a search, without its way to the answer."""
    if isinstance(value, dict):
        searched = "evaluations" in value
        return {
            key: compact(entry)
            for key, entry in value.items()
            if not (searched and key in ON_THE_WAY)
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


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in COMMANDS],
)
def test_a_command_answers_as_stored(name: str, answer: Callable[..., Any]) -> None:
    stored = json.loads((DATA / f"{name}.json").read_text("utf-8"))
    assert_same(compact(answer(f"{COMMANDS[name]} --json")), stored)


def test_the_comparison_sees_a_change() -> None:
    stored = {"a": 1.0, "b": [1, None, "x"]}
    for changed in ({"b": [1, None, "x"], "a": 1.0}, {"a": 1.0 + 1e-4, "b": [1, None, "x"]}):
        with pytest.raises(AssertionError):
            assert_same(changed, stored)


def store(names: Iterable[str]) -> None:
    """Write the answers of this checkout."""
    DATA.mkdir(exist_ok=True)
    for name in names:
        printed = io.StringIO()
        with redirect_stdout(printed):
            assert main([*shlex.split(COMMANDS[name]), "--json"]) == 0
        text = json.dumps(compact(json.loads(printed.getvalue())), separators=(",", ":"))
        (DATA / f"{name}.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    store(sys.argv[1:] or COMMANDS)
