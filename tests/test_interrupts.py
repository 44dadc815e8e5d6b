"""Ctrl-C and SIGTERM end a process at once, wherever it is, with its children and without a torn
file; a block that keeps what was found has the first Ctrl-C.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qsopt.interrupts import answering_signals, interrupted, run_child

ROOT = Path(__file__).parents[1]

PATIENCE = 10.0
"""Far less than what is interrupted would take, and far more than an end takes [s]."""

BUSY = """
import hashlib, sys
from pathlib import Path
from qsopt.files import replacement
from qsopt.interrupts import answering_signals
with answering_signals(), replacement(Path(sys.argv[1]) / "a.txt") as temporary:
    temporary.write_text("half")
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # in C, for many minutes
"""

KEEPING = """
import sys, time
from qsopt.interrupts import answering_signals, interrupted, keeping
with answering_signals():
    try:
        with keeping():
            print("ready", flush=True)
            time.sleep(600)
    except KeyboardInterrupt:
        print("kept", interrupted(), flush=True)
    if sys.argv[1:] == ["again"]:
        time.sleep(600)
"""

PARENT = """
import os, sys
from qsopt.interrupts import answering_signals, run_child
with answering_signals():
    run_child([sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); "
               "time.sleep(600)"], dict(os.environ))
"""


def started(code: str, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """A process, and the first line that it printed."""
    child = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert child.stdout is not None
    return child, child.stdout.readline()


@pytest.mark.parametrize(
    ("number", "status", "line"),
    [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, "terminated\n")],
)
def test_a_signal_ends_what_python_cannot_interrupt(
    tmp_path: Path, number: signal.Signals, status: int, line: str
) -> None:
    child, _ = started(BUSY, str(tmp_path))
    began = time.monotonic()
    child.send_signal(number)
    out, err = child.communicate(timeout=PATIENCE)
    assert (child.returncode, out, err) == (status, "", line)
    assert time.monotonic() - began < PATIENCE
    assert list(tmp_path.iterdir()) == [], "the temporary file is gone"


def test_a_block_that_keeps_what_was_found_has_the_first_interrupt() -> None:
    child, _ = started(KEEPING)
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=PATIENCE)
    assert (child.returncode, out) == (0, "kept True\n")


def test_the_second_interrupt_ends_at_once() -> None:
    child, _ = started(KEEPING, "again")
    child.send_signal(signal.SIGINT)
    assert child.stdout is not None
    assert child.stdout.readline() == "kept True\n"
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=PATIENCE)
    assert child.returncode == 130
    assert err == "interrupted: keeping what was found; once more ends at once\ninterrupted\n"


def test_children_end_too() -> None:
    parent, line = started(PARENT)
    parent.send_signal(signal.SIGTERM)
    parent.communicate(timeout=PATIENCE)
    assert parent.returncode == 143
    deadline = time.monotonic() + PATIENCE
    while _runs(int(line)):
        assert time.monotonic() < deadline, "the child goes on"
        time.sleep(0.01)


def _runs(process: int) -> bool:
    """Whether a process of another parent is there, and no zombie."""
    state = Path(f"/proc/{process}/stat")
    if not state.parent.parent.joinpath("self").exists():
        pytest.skip("no /proc here")
    try:
        return state.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with answering_signals():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before
    assert not interrupted()


def test_a_child_says_how_it_ended() -> None:
    assert run_child([sys.executable, "-c", "raise SystemExit(3)"], dict(os.environ)) == 3
