"""How a script of this folder is asked: a question as JSON comes in, an answer as JSON goes out."""

import contextlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

Question = dict[str, Any]
Step = Callable[[int], object]
"""Evaluates one design, the one of this number."""


def answer(**functions: Callable[[Question], object]) -> None:
    """Answer the question on standard input by the function that it names under `ask`; what the
    peer itself prints goes to standard error.
    """
    question = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):
        result = functions[question["ask"]](question)
    print(json.dumps(result))


def rate(step: Step, count: int) -> float:
    """Designs a second of processor time, of one process that has begun [1/s]."""
    step(0)
    start = time.process_time()
    for index in range(count):
        step(index)
    return count / (time.process_time() - start)
