"""Rows of a measurement, and times by turns."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One measured number."""

    what: str
    value: float
    unit: str
    """`s`, `designs/s` or `times`: of two numbers of one run."""
    aim: str = "-"
    """What it should be, where that is known."""


def seconds(action: Callable[[], object]) -> float:
    """Of one call [s]."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def by_turns(repeats: int, *actions: Callable[[], object]) -> list[float]:
    """Median seconds of several actions, each after the other, so that a machine that is busy with
    other things slows all of them.
    """
    times = [[seconds(action) for action in actions] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*times, strict=True)]
