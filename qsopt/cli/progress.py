"""A line on stderr that says for how long a command has been computing.

It appears after two seconds where stderr is a terminal, and goes when the answer begins or the
command tells of its progress itself.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

PATIENCE = 2.0
"""Time before anything is said [s]."""

EVERY = 1.0
"""Time between two texts [s]."""


class _Ticker(threading.Thread):
    """Writes the seconds until it is stopped, and wipes them out then."""

    def __init__(self, name: str, out: TextIO) -> None:
        super().__init__(daemon=True)
        self._what, self._out = name, out
        self._over, self._began = threading.Event(), time.perf_counter()
        self._said = 0

    def run(self) -> None:
        """Tell the time."""
        wait = PATIENCE
        while not self._over.wait(wait):
            text = f"qsopt {self._what}: computing, {time.perf_counter() - self._began:.0f} s"
            self._out.write(f"\r{text}")
            self._out.flush()
            self._said, wait = len(text), EVERY

    def stop(self) -> None:
        """Wipe out what was said; once is enough."""
        if self._over.is_set():
            return
        self._over.set()
        if self.is_alive():
            self.join()
        if self._said:
            self._out.write(f"\r{' ' * self._said}\r")
            self._out.flush()


class _Answering:
    """A stream that stops a ticker before it writes."""

    def __init__(self, out: TextIO, ticker: _Ticker) -> None:
        self._out, self._ticker = out, ticker

    def write(self, text: str) -> int:
        """As of the stream behind it."""
        self._ticker.stop()
        return self._out.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._out, name)


@contextlib.contextmanager
def progress(name: str) -> Iterator[None]:
    """Tell on stderr for how long a command computes, while it prints nothing."""
    if not sys.stderr.isatty():
        yield
        return
    ticker, before = _Ticker(name, sys.stderr), (sys.stdout, sys.stderr)
    sys.stdout, sys.stderr = (_Answering(each, ticker) for each in before)  # pyright: ignore
    ticker.start()
    try:
        yield
    finally:
        ticker.stop()
        sys.stdout, sys.stderr = before


def telling() -> Callable[[str], None]:
    """What tells of progress on stderr, line by line, with the seconds since now."""
    began = time.perf_counter()

    def tell(text: str) -> None:
        print(f"{time.perf_counter() - began:6.1f} s  {text}", file=sys.stderr, flush=True)

    return tell
