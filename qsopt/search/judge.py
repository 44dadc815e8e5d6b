"""What an architecture is worth, exactly: its best deployment, and for an advantage that of its
dense twin.
"""

from dataclasses import dataclass, field

import jax
import numpy as np
from jaxtyping import Float

from qsopt.deployments.optimum import Best
from qsopt.search.admission import Admission, Rows
from qsopt.search.dense import Curve, DenseSide
from qsopt.search.exact import Scorer
from qsopt.search.problem import DesignProblem
from qsopt.spec.deployment import Deployment


@dataclass(frozen=True)
class Verdicts:
    """Judged architectures."""

    rows: Rows
    merits: Float[np.ndarray, " n"]
    """Log of what is wanted, its negative for the worst architecture: the larger, the better; -inf
    where infeasible.
    """
    best: Best
    """The deployments."""

    @property
    def index(self) -> int:
        """The best of them, the first among equals."""
        return int(np.argmax(self.merits))

    def one(self, index: int) -> "Verdicts":
        """One of them."""
        return Verdicts(
            self.rows[index : index + 1],
            self.merits[index : index + 1],
            jax.tree.map(lambda leaf: np.asarray(leaf)[index : index + 1], self.best),
        )


@dataclass
class Judge:
    """Judges the architectures of a problem."""

    problem: DesignProblem
    admission: Admission
    scorer: Scorer
    dense: DenseSide = field(init=False)
    curve: Curve | None = None
    """The dense side between its exact points, good enough to choose what is looked at in every
    layout.
    """

    def __post_init__(self) -> None:
        self.dense = DenseSide(self.problem.reference, self.problem.service)

    @classmethod
    def of(cls, problem: DesignProblem) -> "Judge":
        """The judge of a problem."""
        return cls(problem, Admission(problem), Scorer.of(problem))

    @property
    def evaluations(self) -> int:
        """Exact evaluations so far, both sides."""
        return self.scorer.evaluations + self.dense.evaluations

    def judge(self, rows: Rows, layouts: Deployment | None = None) -> Verdicts:
        """Admissible rows, judged in all layouts; or in some, with the dense side from the curve,
        to choose among them.
        """
        best = self.scorer.best(rows, layouts)
        reached = np.asarray(best.throughput)
        logs = np.where(reached > 0, np.log(np.where(reached > 0, reached, 1.0)), -np.inf)
        if self.problem.objective != "advantage":
            return Verdicts(rows, logs, best)
        dense = self._dense(self.admission.sizes(rows)[:, 4], roughly=layouts is not None)
        known = (reached > 0) & (dense > 0)
        advantage = logs - np.log(np.where(dense > 0, dense, 1.0))
        sense = -1.0 if self.problem.minimize else 1.0
        return Verdicts(
            rows, np.where(known, sense * np.where(known, advantage, 0.0), -np.inf), best
        )

    def _dense(self, widths: Float[np.ndarray, " n"], roughly: bool) -> Float[np.ndarray, " n"]:
        if not roughly or self.curve is None:
            return self.dense.of_exact(widths)
        logs = np.interp(
            np.log(np.maximum(widths, 1.0)), self.curve.log_width, self.curve.log_throughput
        )
        return np.where(widths <= float(self.curve.widest), np.exp(logs), 0.0)
