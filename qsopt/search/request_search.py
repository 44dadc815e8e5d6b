"""The best architecture for whole requests: every score is the exact optimum over ways of serving.

From the reference, and from architectures spread over the grid, the best moves to its best legal
neighbour (one variable, or two) until none is better; then the grid, or the part of it around the
answer, is enumerated as on a decode step. Where throughput is wanted an architecture is dropped as
soon as no way of serving it can beat the best so far.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import track

from qsopt.interrupts import keeping
from qsopt.search.admission import Admission
from qsopt.search.architecture import reference_row
from qsopt.search.certificate import Certificate, part_of_grid
from qsopt.search.problem import DesignProblem
from qsopt.search.request_scores import RequestScorer, Scored
from qsopt.search.rounding import EQUAL, ROUNDS, moves
from qsopt.search.solution import objective_value
from qsopt.search.variables import Rows

LINE, CROSS = 16, 12
"""Values of a variable that a move tries, alone and with another variable moved."""

SMALLEST = 4
"""Of the smallest architectures, those that a search begins at."""


@dataclass
class RequestSearch:
    """A search, and the best so far."""

    scorer: RequestScorer
    admission: Admission
    best: Scored | None = None

    @classmethod
    def of(cls, problem: DesignProblem) -> "RequestSearch":
        """The search of a problem."""
        return cls(RequestScorer(problem), Admission(problem))

    @property
    def merit(self) -> float:
        """Of the best so far; -inf without one."""
        return -np.inf if self.best is None else self.best.merit

    def starts(self, count: int, seed: int) -> Rows:
        """The reference as it may be, and of a thinned grid the admissible architectures that are
        smallest, which fit where any does, and others that are drawn.
        """
        reference = self.scorer.problem.reference
        own = self.admission.narrowest(reference_row(reference, self.admission.variables))
        rows = self.admission.narrowest(self.admission.thinned_grid())
        if not len(rows):
            return own
        smallest = np.argsort(self.admission.sizes(rows).total, kind="stable")[:SMALLEST]
        drawn = np.random.default_rng(seed).permutation(len(rows))[:count]
        return np.concatenate([own, rows[smallest], rows[drawn]])

    def try_rows(self, rows: Iterable[np.ndarray], words: str) -> bool:
        """Score admissible rows; whether one of them is the best so far."""
        before = self.merit
        shown = Console(stderr=True)
        for row in track(
            list(rows), words, console=shown, disable=not sys.stderr.isatty(), transient=True
        ):
            found = self.scorer.score(row, self.merit)
            if found.option is not None and found.merit > self.merit + EQUAL:
                self.best = found
        return self.merit > before

    def improve(self) -> None:
        """Move the best to its neighbours until none is better."""
        variables = self.admission.variables
        if not variables:
            return
        for _ in range(ROUNDS):
            if self.best is None:
                return
            near = moves(variables, self.best.row, LINE, CROSS)
            new = [row for row in self.admission.narrowest(near) if self._is_new(row)]
            if not self.try_rows(new, "moving"):
                return

    def _is_new(self, row: np.ndarray) -> bool:
        return tuple(row.tolist()) not in self.scorer.known

    def certify(self, limit: float) -> Certificate | None:
        """Enumerate the grid, or the part around the answer; the best of it becomes the answer. No
        certificate where an interrupt ends it.
        """
        assert self.best is not None
        answer = self.best
        size = len(self.scorer.contender(self.scorer.model(answer.row)).every.kind)
        part = part_of_grid(self.admission, answer.row, size, limit)
        try:
            with keeping():
                self.try_rows([row for row in part.rows if self._is_new(row)], "enumerating")
        except KeyboardInterrupt:
            return None
        value = objective_value(self.scorer.problem, self.merit)
        gap = 0.0 - np.expm1(answer.merit - self.merit)
        return Certificate(
            len(part.rows) * size, part.grid * size, value, float(gap), part.complete
        )
