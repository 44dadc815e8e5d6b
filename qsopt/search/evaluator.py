"""What an architecture is worth, exactly: its best deployment, and for an advantage that of its
dense twin.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from qsopt.deployments.batches import take
from qsopt.deployments.best import Best
from qsopt.search.admission import Admission
from qsopt.search.dense import Curve, DenseSide
from qsopt.search.exact import Scorer
from qsopt.search.problem import DesignProblem
from qsopt.search.variables import Rows
from qsopt.spec.deployment import Deployment


@dataclass(frozen=True)
class Designs:
    """Architectures in their best deployments, with what each is worth."""

    rows: Rows
    merits: Float[np.ndarray, " n"]
    """Log of the objective, its negative for the worst architecture: the larger, the better; -inf
    where infeasible.
    """
    best: Best
    """The deployments."""

    @property
    def index(self) -> int:
        """The best of them, the first among equals."""
        return int(np.argmax(self.merits))

    @property
    def any_feasible(self) -> bool:
        """Whether any of them keeps the limits."""
        return bool(np.isfinite(self.merits).any())

    def ranked(self) -> list[int]:
        """Indices from the best to the worst, the first among equals first."""
        return [int(index) for index in np.argsort(-self.merits, kind="stable")]

    def single(self, index: int) -> "Designs":
        """One of them."""
        one = slice(index, index + 1)
        return Designs(self.rows[one], self.merits[one], take(self.best, one))

    @property
    def deployment(self) -> Deployment:
        """Of the first of them."""
        return take(self.best.deployment, 0)


@dataclass
class Evaluator:
    """Finds what the architectures of a problem are worth, and counts."""

    problem: DesignProblem
    admission: Admission
    scorer: Scorer
    dense: DenseSide = field(init=False)
    curve: Curve | None = None
    """The dense side between its exact points, good enough to choose what is looked at in every
    layout.
    """

    def __post_init__(self) -> None:
        self.dense = DenseSide(self.problem.reference, self.problem.service, self.problem.kind)

    @classmethod
    def for_problem(cls, problem: DesignProblem) -> "Evaluator":
        """The evaluator of a problem."""
        return cls(problem, Admission(problem), Scorer.for_problem(problem))

    @property
    def evaluations(self) -> int:
        """Exact evaluations so far, both sides."""
        return self.scorer.evaluations + self.dense.evaluations

    def designs(self, rows: Rows, layouts: Deployment | None = None) -> Designs:
        """Admissible rows in the best of all layouts; or of some, with the dense side from the
        curve, to choose among the rows.
        """
        best = self.scorer.best(rows, layouts)
        throughput = np.asarray(best.throughput)
        feasible = throughput > 0
        logs = np.where(feasible, np.log(np.where(feasible, throughput, 1.0)), -np.inf)
        if self.problem.objective != "advantage":
            return Designs(rows, logs, best)
        dense = self._dense(self.admission.sizes(rows).match, roughly=layouts is not None)
        both = feasible & (dense > 0)
        advantage = logs - np.log(np.where(dense > 0, dense, 1.0))
        sense = -1.0 if self.problem.minimize else 1.0
        return Designs(rows, np.where(both, sense * np.where(both, advantage, 0.0), -np.inf), best)

    def _dense(self, sizes: Float[np.ndarray, " n"], roughly: bool) -> Float[np.ndarray, " n"]:
        """Throughputs of the matches, by the curve or exactly, 0 where none fits [tokens/s]."""
        if not roughly or self.curve is None:
            return self.dense.exact_throughputs(sizes)
        logs = np.interp(np.log(sizes), self.curve.log_size, self.curve.log_throughput)
        return np.where(sizes <= float(self.curve.largest), np.exp(logs), 0.0)
