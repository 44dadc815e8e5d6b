"""What the command line owes to a reader: help that begins with what is the command's own, tables
that fit a narrow terminal, units that people read, completions, progress, and errors in one line.
"""

import dataclasses
import io
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from qsopt.catalog.accelerators import accelerator_names
from qsopt.catalog.models import model_names
from qsopt.cli.commands import COMMANDS, load
from qsopt.cli.completion import script
from qsopt.cli.help import help_text, options
from qsopt.cli.options import Question
from qsopt.cli.progress import progress
from qsopt.report.comparison_text import show_comparison
from qsopt.report.map_text import show_crossovers
from qsopt.report.search_text import show_solution
from qsopt.report.sensitivity_text import show_sensitivity
from qsopt.report.text import show_design
from qsopt.version import __version__

Run = Callable[..., Any]
DATA = Path(__file__).parent / "data"
PROGRESS = import_module("qsopt.cli.progress")
"""The module: the package has a function of that name."""

COLUMNS = 80


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", str(COLUMNS))


def widest(text: str) -> int:
    return max(map(len, text.splitlines()))


def helped(run: Run, words: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        run(words)
    assert stop.value.code in (0, None)
    return capsys.readouterr().out


# ---- help ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(name: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    text = helped(run, f"{name} --help", capsys)
    assert text.startswith(f"usage: qsopt {name} ")
    assert widest(text) <= COLUMNS
    assert "None" not in text
    assert len(options(load(name))) == len(dataclasses.fields(load(name))) + 1
    joined = " ".join(text.split())
    for each in options(load(name)):
        assert each.names[0] in text
        assert all(choice in joined for choice in each.choices)


def test_common_options_follow_a_commands_own() -> None:
    shared = [field.name for field in dataclasses.fields(Question)]
    own, _, common = help_text(load("serve"), "serve", shared).partition("common options:")
    assert all(f"\n  {flag} " in own for flag in ("--model", "--cluster", "--top", "--draft"))
    assert all(f"\n  {flag} " in common for flag in ("--context", "--law", "--load", "--as"))
    assert own.index("--cluster") < own.index("--top")


@pytest.mark.usefixtures("narrow")
def test_help_of_the_whole(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    text = helped(run, "--help", capsys)
    assert widest(text) <= COLUMNS
    assert all(f"\n  {name} " in text for name in COMMANDS)


def test_version(run: Run) -> None:
    assert run("--version").out == f"qsopt {__version__}\n"


# ---- errors --------------------------------------------------------------------------------------

ASKED = "evaluate --model mixtral-8x7b --cluster 8xh200 --context 4096"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("evaluate", "give --model and --cluster; see qsopt evaluate --help"),
        ("list", "give models or hardware or laws; see qsopt list --help"),
        (f"{ASKED} --contxt 3", "unknown option --contxt: did you mean --context"),
        (f"{ASKED} stray", "unexpected 'stray': expected an option that begins with --"),
        (f"{ASKED} --batch", "--batch needs a value"),
        (f"{ASKED} --way sideways", "--way = sideways: give one of dispatched, gathered; see"),
        (f"{ASKED} --batch many", "--batch: 'many' is not a number; write 512 or 1k (1024); see"),
        ("serve --model a --cluster b --top x", "--top = x: give a whole number; see qsopt serve"),
        ("compre", "unknown command 'compre': did you mean compare? give one of evaluate, serve"),
    ],
)
def test_errors_are_one_clear_line(run: Run, words: str, says: str) -> None:
    outcome = run(words)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith(f"error: {says}")
    assert outcome.err.count("\n") == 1


# ---- text ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(
    ("what", "shown"),
    [
        ("models", (" deepseek-v3 ", "671", "[B]")),
        ("hardware", (" h200 ", "150.8", "TB/s", "vera-rubin*")),
        ("laws", (" geometric ", "yes")),
    ],
)
def test_lists_fit_and_have_units(run: Run, what: str, shown: tuple[str, ...]) -> None:
    text = run(f"list {what}").out
    assert widest(text) <= COLUMNS
    assert all(word in text for word in shown)
    assert "e+" not in text


SHOWN: dict[str, Callable[[dict[str, Any]], None]] = {
    "compare_laws": lambda record: show_comparison(record, "a title"),
    "compare_limit": lambda record: show_comparison(record, "a title"),
    "crossover": show_crossovers,
    "evaluate_best": lambda record: show_design(record, "a title"),
    "evaluate_given": lambda record: show_design(record, "a title"),
    "optimize": lambda record: show_solution(
        {**record, "relaxed_value": float("nan"), "all_real_value": 1.0, "evaluations": 1},
        {"all": 1.0},
    ),
    "sensitivity": show_sensitivity,
}  # fmt: skip


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("name", SHOWN)
def test_stored_answers_fit(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    SHOWN[name](json.loads((DATA / f"{name}.json").read_text("utf-8")))
    text = capsys.readouterr().out
    assert widest(text) <= COLUMNS
    if name not in ("crossover",):
        assert "tp tensor, dp data" in " ".join(text.split()), "the deployment line is explained"


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(
    "words",
    [
        "serve --model olmoe-1b-7b --cluster 1xh100 --prompt 1k --answer 256 --ttft-ms 2s",
        pytest.param(
            "lifetime --model olmoe-1b-7b --cluster 1xh100 --prompt 1k --answer 256",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "compare --model olmoe-1b-7b --cluster 1xh100 --prompt 1k --answer 256",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "map --model olmoe-1b-7b --cluster 1xh100 --x-points 3 --y-points 3",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_answers_fit(run: Run, words: str) -> None:
    text = run(words).out
    lines = [line for line in text.splitlines() if "serve olmoe" not in line]  # to be copied
    assert max(map(len, lines)) <= COLUMNS
    assert "e+" not in text


# ---- completion ----------------------------------------------------------------------------------


def completed(words: str) -> list[str]:
    """What bash offers for the last of these words."""
    program = f'{script()}\nCOMP_WORDS=($1 "$2"); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))\n'
    program += '_qsopt; printf "%s\\n" "${COMPREPLY[@]}"'
    before, _, last = words.rpartition(" ")
    done = subprocess.run(
        ["bash", "-c", program, "bash", before, last], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("qsopt comp", ["compare", "completion"]),
        ("qsopt compare --model deepseek-v4", ["deepseek-v4-flash", "deepseek-v4-pro"]),
        ("qsopt propose --from qwen3-23", ["qwen3-235b-a22b"]),
        ("qsopt compare --cluster 2x8xh2", ["2x8xh20", "2x8xh200"]),
        ("qsopt serve --stack s", ["sglang"]),
        ("qsopt serve --tt", ["--ttft-ms"]),
        ("qsopt list h", ["hardware"]),
        ("qsopt map --law geo", ["geometric"]),
    ],
)
def test_completions(words: str, offered: list[str]) -> None:
    assert completed(words) == offered


def test_completions_know_every_name(run: Run) -> None:
    text = run("completion zsh").out
    assert text.startswith("autoload -U +X bashcompinit")
    assert set(text.split()) >= {*model_names()[1:-1], *accelerator_names()[1:-1]}


# ---- progress ------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_told_on_a_terminal_until_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    err, out = Terminal(), io.StringIO()
    monkeypatch.setattr(PROGRESS, "PATIENCE", 0.02)
    monkeypatch.setattr(PROGRESS, "EVERY", 0.01)
    monkeypatch.setattr("sys.stderr", err)
    monkeypatch.setattr("sys.stdout", out)
    with progress("compare"):
        time.sleep(0.2)
        print("the answer")
        told = err.getvalue()
        time.sleep(0.05)
    assert "qsopt compare: computing, 0 s" in told
    assert told.endswith("\r")
    assert err.getvalue() == told, "nothing is said beside the answer"
    assert out.getvalue() == "the answer\n"


def test_progress_is_silent_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    err = io.StringIO()
    monkeypatch.setattr(PROGRESS, "PATIENCE", 0.01)
    monkeypatch.setattr("sys.stderr", err)
    with progress("compare"):
        time.sleep(0.05)
    assert err.getvalue() == ""
