"""How good an answer is: the exact optimum of the whole grid where it can be enumerated, else of a
part around the answer.

The grid is every admissible architecture in every legal layout at every batch. Batches need no
enumeration (the best is known to be the largest or the smallest), nor do widths beyond the least
admissible where speed is wanted: such designs are covered by the one that beats them, and do not
count as enumerated.
"""

import sys
from dataclasses import dataclass
from threading import Event
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.progress import track

from qsopt.deployments.batches import chunks, length
from qsopt.search.admission import Admission
from qsopt.search.evaluator import Designs, Evaluator
from qsopt.search.variables import Rows, neighbours

PART = 256
"""Architectures evaluated between two moves of the progress bar."""


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

    best: Designs | None
    """The best of it; None where nothing is feasible."""
    enumerated: int
    """Designs scored exactly."""
    grid: float
    """Designs of the whole grid that matter."""
    complete: bool
    """Whether all of the grid was covered."""


def enumerate_grid(evaluator: Evaluator, answer: Designs | None, limit: float) -> Enumeration:
    """The whole grid if it holds at most `limit` designs, else the largest box around the answer
    that does.
    """
    layouts, row = length(evaluator.scorer.layouts), None if answer is None else answer.rows[0]
    part = part_of_grid(evaluator.admission, row, layouts, limit)
    return _enumerated(evaluator, part, Event())


def enumerate_whole(evaluator: Evaluator, limit: float, stop: Event) -> Enumeration | None:
    """The whole grid; None if it holds more than `limit` designs, or where it is stopped."""
    if limit < 1.0:
        return None
    part = part_of_grid(evaluator.admission, None, length(evaluator.scorer.layouts), limit)
    listed = _enumerated(evaluator, part, stop) if part.complete else None
    return None if stop.is_set() else listed


def _enumerated(evaluator: Evaluator, part: "Part", stop: Event) -> Enumeration:
    layouts = length(evaluator.scorer.layouts)
    best = _best(evaluator, part.rows, stop)
    return Enumeration(best, len(part.rows) * layouts, part.grid * layouts, part.complete)


class Part(NamedTuple):
    """Admissible architectures of a grid, or of the part of it around an answer."""

    rows: Rows
    grid: float
    """Architectures of the whole grid that matter."""
    complete: bool
    """Whether these are all of them."""


def part_of_grid(
    admission: Admission, answer: Float[np.ndarray, " variables"] | None, size: float, limit: float
) -> Part:
    """All that matter of the grid if they make at most `limit` designs, else those of the largest
    box around the answer that does.

    Args:
        admission: the rule of the problem.
        answer: the box is around this row; there is none without one.
        size: designs that each architecture makes.
        limit: of designs.
    """
    variables = admission.variables
    listed = float(np.prod([float(variable.legal().size) for variable in variables]))
    if listed <= MOST:
        rows = admission.candidates([variable.legal() for variable in variables])
        if len(rows) * size <= limit:
            return Part(rows, float(len(rows)), complete=True)
        listed = float(len(rows))
    return Part(_box(admission, answer, limit / size), listed, complete=False)


def _best(evaluator: Evaluator, rows: Rows, stop: Event) -> Designs | None:
    best: Designs | None = None
    evaluator.scorer.many = len(rows) * length(evaluator.scorer.layouts) > MANY
    for part in track(
        chunks(rows, PART),
        "enumerating",
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    ):
        if stop.is_set():
            break
        designs = evaluator.designs(part)
        first = designs.single(designs.index)
        if first.any_feasible and (best is None or first.merits[0] > best.merits[0]):
            best = first
    return best


def _box(
    admission: Admission, answer: Float[np.ndarray, " variables"] | None, count: float
) -> Rows:
    """Admissible rows within so many places of the answer, as many places as `count` rows allow."""
    variables = admission.variables
    rows = np.zeros((0, len(variables)))
    if answer is None:
        return rows
    for places in range(1, FURTHEST):
        near = [
            neighbours(variable.legal(), value, places)
            for variable, value in zip(variables, answer, strict=True)
        ]
        if np.prod([float(values.size) for values in near]) > MOST / 64:
            break
        wider = admission.candidates(near)
        if len(wider) > count:
            break
        rows = wider
    return rows
