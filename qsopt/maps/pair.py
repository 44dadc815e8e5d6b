"""An MoE and its dense match, of which something is moved, and what both then reach."""

from collections.abc import Callable
from dataclasses import dataclass

from qsopt.arrays import scalar
from qsopt.comparison.dense import SAME_BODY, MatchKind, dense_match
from qsopt.spec.model import Model
from qsopt.spec.service import Service

Samples = dict[float, tuple[float, float]]
"""Throughputs of MoE and dense by value of the input, 0 where infeasible [tokens/s]."""

Measure = Callable[[list[float]], Samples]
"""From values of an input to both throughputs."""


@dataclass(frozen=True)
class MatchedPair:
    """An MoE and its dense match, and what both are deployed for."""

    model: Model
    """The MoE."""
    service: Service
    """Cluster, workload and efficiencies of both."""
    q: float
    """Size of the match over the active parameters of the MoE."""
    kind: MatchKind = SAME_BODY
    """Which match."""
    named: Model | None = None
    """The match itself where it is a model that exists."""

    @property
    def on_requests(self) -> bool:
        """Whether whole requests are asked about."""
        return self.service.workload.prompt is not None

    @property
    def dense(self) -> Model:
        """The match.

        Raises:
            InputError: if q leaves it no feed-forward layers.
        """
        return (
            dense_match(self.model, scalar(self.q), self.kind) if self.named is None else self.named
        )
