"""How good an answer is: the exact optimum of the whole grid where it can be enumerated, else of a
part around the answer.

The grid is every admissible architecture in every legal layout at every batch. Batches need no
enumeration (the best is known to be the largest or the smallest), nor do widths beyond the least
admissible where speed is wanted: such designs are covered by the one that beats them, and do not
count as enumerated.
"""

import sys
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import track

from qsopt.search.admission import Rows
from qsopt.search.judge import Judge, Verdicts
from qsopt.search.variables import around

PART = 256
"""Architectures judged between two moves of the progress bar."""


@dataclass(frozen=True)
class Certificate:
    """What enumeration says of an answer."""

    enumerated: int
    """Designs scored exactly."""
    grid: float
    """Designs of the whole grid that matter."""
    exact_optimum: float
    """Of what was enumerated, as the objective counts it."""
    gap: float
    """Relative shortfall of the search's answer; for an advantage, the difference of logs."""
    complete: bool
    """Whether all of the grid was covered, so that the optimum is the true one."""


MOST = 2e7
"""Architectures beyond which a grid is not listed."""

MANY = 1e6
"""Designs from which on a thorough compilation pays."""

FURTHEST = 64
"""Places around an answer that are looked at where the grid is too large."""


@dataclass(frozen=True)
class Enumeration:
    """What was enumerated."""

    best: Verdicts | None
    """The best of it; None where nothing is feasible."""
    enumerated: int
    grid: float
    complete: bool


def enumerate_grid(judge: Judge, answer: Verdicts | None, limit: float) -> Enumeration:
    """The whole grid if it holds at most `limit` designs, else the largest box around the answer
    that does.
    """
    variables, layouts = judge.problem.architecture, judge.scorer.layouts.tensor.shape[0]
    listed = float(np.prod([float(each.legal().size) for each in variables]))
    if listed <= MOST:
        rows = judge.admission.candidates([each.legal() for each in variables])
        if len(rows) * layouts <= limit:
            return Enumeration(
                _best(judge, rows), len(rows) * layouts, len(rows) * layouts, complete=True
            )
        listed = float(len(rows))
    rows = _box(judge, answer, limit / layouts)
    return Enumeration(_best(judge, rows), len(rows) * layouts, listed * layouts, complete=False)


def _best(judge: Judge, rows: Rows) -> Verdicts | None:
    best: Verdicts | None = None
    judge.scorer.many = len(rows) * judge.scorer.layouts.tensor.shape[0] > MANY
    starts = range(0, len(rows), PART)
    quiet = not sys.stderr.isatty()
    for at in track(
        starts, "enumerating", console=Console(stderr=True), disable=quiet, transient=True
    ):
        judged = judge.judge(rows[at : at + PART])
        found = judged.one(judged.index)
        if np.isfinite(found.merits[0]) and (best is None or found.merits[0] > best.merits[0]):
            best = found
    return best


def _box(judge: Judge, answer: Verdicts | None, count: float) -> Rows:
    """Admissible rows within so many places of the answer, as many places as `count` rows allow."""
    variables = judge.problem.architecture
    rows = np.zeros((0, len(variables)))
    if answer is None:
        return rows
    for reach in range(1, FURTHEST):
        near = [
            around(each.legal(), value, reach)
            for each, value in zip(variables, answer.rows[0], strict=True)
        ]
        if np.prod([float(values.size) for values in near]) > MOST / 64:
            break
        wider = judge.admission.candidates(near)
        if len(wider) > count:
            break
        rows = wider
    return rows
