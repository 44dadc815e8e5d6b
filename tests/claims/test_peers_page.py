"""The page on other tools says what their stored answers say, and whoever asks them again is told
what is missing. No other tool is needed here.
"""

import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.peers import requests, speed, steps
from experiments.peers.__main__ import Settings, given, page
from experiments.peers.interpreters import PEERS, Installed, installed
from experiments.peers.probes import probe
from experiments.peers.questions import REQUESTS, STEPS
from qsopt.errors import InputError

ROOT = Path(__file__).parents[2]
RECORD: dict[str, Any] = json.loads((ROOT / "experiments/data/peers.json").read_text("utf-8"))
PAGE = (ROOT / "docs/peers.md").read_text("utf-8")


# ---- the page ------------------------------------------------------------------------------------


def test_page_is_that_of_the_stored_answers() -> None:
    assert page(RECORD) == PAGE


def test_page_shows_every_answer() -> None:
    """Read back from the tables, not through the template."""
    cells = [cell.strip() for line in PAGE.splitlines() for cell in line.split("|")]
    for row in RECORD["requests"]["answers"]:
        for pools in requests.POOLS:
            assert f"{row['peer'][pools]['per_device']:.0f}" in cells
            assert any(
                cell.startswith(f"{row['best'][pools]['per_device']:.0f} (") for cell in cells
            )
    for table in RECORD["steps"]["answers"]:
        for seconds in (*table["peers"].values(), *table["qsopt"].values()):
            assert {"-" if each is None else f"{1e3 * each:.2f}" for each in seconds} <= set(cells)
    for rate in RECORD.get("rates", {}).get("answers", {}).values():
        assert f"{rate:,.0f}" in cells
    for section in RECORD.values():
        for tool, version in section["versions"].items():
            assert f"{tool} {version}" in PAGE


def test_page_names_what_is_installed() -> None:
    for peer in PEERS.values():
        assert f"pip install {peer.install}\n" in PAGE


def test_stored_answers_are_those_of_this_package() -> None:
    """A change of the model of a step by more than this asks for a new run."""
    for step, table in zip(STEPS, RECORD["steps"]["answers"], strict=True):
        stored = table["qsopt"]["fitted"][step.batches.index(32)]
        assert float(steps.evaluated(step, 32, "fitted").tpot) == pytest.approx(stored, rel=0.05)


def test_parts_are_added_up_by_hand() -> None:
    """16 sequences at 25 ms a step and 128 tokens of answer, 2 prompts in 0.2 s, two devices."""
    one = {"replicas": 1, "data": 2}
    theirs = {
        "decode": {**one, "batch": 8},
        "prefill": {**one, "batch": 1},
        "step_s": 0.025,
        "forward_s": 0.2,
        "devices": 2,
    }
    question = replace(REQUESTS[0], answer=128)
    # 16 requests: 128 steps and 8 forwards, 3.2 s and 1.6 s
    assert requests.added_up(question, theirs, "one_pool") == pytest.approx(16 * 128 / 4.8 / 2)
    # writing, 640 tokens/s, is slower than reading, 10 prompts/s
    assert requests.added_up(question, theirs, "disaggregated") == pytest.approx(640 / 2)


# ---- who is asked --------------------------------------------------------------------------------


def test_tools_that_are_not_given_are_left_out_and_named(capsys: pytest.CaptureFixture) -> None:
    assert given(Settings()) == []
    said = capsys.readouterr().out
    for name in PEERS:
        assert f"{name}: left out, as --{name} is not given" in said


@pytest.mark.parametrize("name", PEERS)
def test_missing_interpreter(name: str, tmp_path: Path) -> None:
    """It says how to make one."""
    python = tmp_path / "bin" / "python"
    wanted = rf"--{name} {re.escape(str(python))}: no interpreter .*venv.*pip install {name}"
    with pytest.raises(InputError, match=wanted.replace("install genz", "install genz-llm")):
        given(replace(Settings(), **{name.replace("-", "_"): python}))


def test_interpreter_without_the_tool() -> None:
    """It says what to install, and with which interpreter."""
    peer = replace(PEERS["genz"], distribution="no-such-distribution")
    wanted = (
        rf"has no no-such-distribution; .*{re.escape(sys.executable)} -m pip install genz-llm=="
    )
    with pytest.raises(InputError, match=wanted):
        installed(peer, Path(sys.executable))


def test_tool_that_fails_is_named_with_its_last_words() -> None:
    """This environment has none of them."""
    broken = Installed(PEERS["ridgepoint"], Path(sys.executable), "0.1.2")
    with pytest.raises(InputError, match=r"ridgepoint 0\.1\.2 on 'steps': ModuleNotFoundError"):
        broken.ask("steps")


def test_answer_is_the_last_line_whatever_the_tool_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def steps(question: probe.Question) -> list[float]:
        print("noise")
        return [question["batch"] * 2.0]

    monkeypatch.setattr(sys, "stdin", io.StringIO('{"ask": "steps", "batch": 3}'))
    probe.answer(steps=steps)
    said = capsys.readouterr()
    assert said.out == "[6.0]\n"
    assert said.err == "noise\n"


def test_turns_alternate() -> None:
    order: list[str] = []
    actions = {name: lambda name=name: order.append(name) or len(order) for name in "ab"}
    assert speed.by_turns(actions, 2) == {"a": [1, 3], "b": [2, 4]}
    assert order == ["a", "b", "a", "b"]
