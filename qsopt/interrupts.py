"""Ends of a process that others ask for: Ctrl-C and SIGTERM are answered at once, wherever the
process is.

Python runs handlers of signals in its main thread, between two of its own instructions; a compiler
or a long operation in that thread keeps them waiting for minutes. A thread that watches the wake-up
descriptor of `signal` is told at once, and ends the process: files are whole anyway (see `files`),
processes that were started end too. Where a block keeps what was found (`keeping`), the first
Ctrl-C raises `KeyboardInterrupt` there instead, and the second one ends the process.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from qsopt.files import discard_unfinished

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What ends a process; its status is 128 and the number."""

_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class _State:
    """What the handlers of this process know."""

    keeping = 0
    """Blocks that keep what was found, one in the other."""
    interrupts = 0
    """How often Ctrl-C was met by such a block."""
    children: set[subprocess.Popen[bytes]] = set()  # noqa: RUF012  (one for the process)


@contextmanager
def keeping() -> Iterator[None]:
    """A block that catches `KeyboardInterrupt` and keeps what was found so far."""
    _State.keeping += 1
    try:
        yield
    finally:
        _State.keeping -= 1


def interrupted() -> bool:
    """Whether a block kept what was found before an interrupt."""
    return _State.interrupts > 0


def run_child(words: Sequence[str], environment: dict[str, str]) -> int:
    """Run a process that ends when this one is ended, and wait for it; gives its status."""
    with subprocess.Popen(words, env=environment) as child:
        _State.children.add(child)
        try:
            return child.wait()
        except BaseException:
            child.kill()
            raise
        finally:
            _State.children.discard(child)


@contextmanager
def answering_signals() -> Iterator[None]:
    """A block in which Ctrl-C and SIGTERM end the process at once, with one line on stderr.

    Only for a process of one's own: nothing of it is cleaned up but what this module knows. Outside
    of the main thread, which alone may set handlers, nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told, wake = socket.socketpair()
    wake.setblocking(False)
    before = {number: signal.signal(number, _raise_where_kept) for number in SIGNALS}
    descriptor = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(told,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)
        wake.close()


def _raise_where_kept(number: int, _frame: object) -> None:
    """The handler in the main thread."""
    if number == signal.SIGINT and _State.keeping:
        _State.interrupts += 1
        raise KeyboardInterrupt


def _watch(told: socket.socket) -> None:
    """End the process as soon as a signal comes; let a block that keeps things have the first."""
    count = 0
    with told:
        while received := told.recv(1):
            number = received[0]
            count += number == signal.SIGINT
            kept = _State.keeping or _State.interrupts  # the handler may have been quicker
            if number == signal.SIGINT and count == 1 and kept:
                _say("interrupted: keeping what was found; once more ends at once")
            elif number in SIGNALS:
                _end(number)


def _end(number: int) -> None:
    for child in tuple(_State.children):
        with suppress(OSError):
            child.kill()
    discard_unfinished()
    _say(_WORDS[signal.Signals(number)])
    os._exit(128 + number)


def _say(text: str) -> None:
    """Write a line to stderr without its lock, which the main thread may hold."""
    with suppress(OSError, ValueError, AttributeError):
        os.write(sys.stderr.fileno(), f"{text}\n".encode())
