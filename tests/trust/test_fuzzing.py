"""A small, repeatable part of the fuzzing of `fuzzing.py`: every reader survives what is changed at
random, by answering or by refusing in one line.
"""

from pathlib import Path
from random import Random

import pytest
from fuzzing import TARGETS, campaign, changed_entry, changed_text, survives
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qsopt.errors import InputError

CASES = {"groups_file": 10, "constants_file": 15, "tables": 30, "command_line": 25}
"""Of targets whose cases take longest."""


@pytest.mark.parametrize("name", TARGETS)
def test_every_reader_answers_or_refuses(tmp_path: Path, name: str) -> None:
    @settings(
        max_examples=CASES.get(name, 40),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(random=st.randoms(use_true_random=False))
    def check(random: Random) -> None:
        survives(TARGETS[name], random, tmp_path)

    check()


def test_a_failure_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def wrong(*_: object) -> None:
        raise KeyError("name")

    with pytest.raises(KeyError):
        survives(wrong, Random(0), tmp_path)

    def silent(*_: object) -> None:
        raise InputError("bad")

    with pytest.raises(AssertionError):
        survives(silent, Random(0), tmp_path)
    TARGETS["wrong"] = wrong
    try:
        assert campaign(1e-5, 0, ["wrong"]) == 1
    finally:
        del TARGETS["wrong"]
    assert "wrong 0/0: ?: KeyError: 'name'" in capsys.readouterr().out


def test_changes_change() -> None:
    text, entry = "a = 1\nb = 2\nc = 3", {"a": 1, "b": {"c": [1, 2]}}
    texts = {changed_text(text, Random(number)) for number in range(50)}
    entries = {repr(changed_entry(entry, Random(number))) for number in range(50)}
    assert len(texts) > 20
    assert len(entries) > 20
    assert entry == {"a": 1, "b": {"c": [1, 2]}}
