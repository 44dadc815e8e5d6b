"""Worlds in which a penalty of Mixture-of-Experts does not exist, to measure what it costs. Dense
models are the same in all.

Each switch is a number, 1 as things are and 0 without the penalty, so that all worlds share one
compilation.
"""

from qsopt.arrays import Scalar, number
from qsopt.record import Record


class Counterfactual(Record):
    """Which penalties exist."""

    reuse: Scalar = number(1.0)
    """0: every token picks the same experts, so a step reads k of them and each weight read serves
    all T tokens.
    """
    residency: Scalar = number(1.0)
    """0: only k routed experts take memory, so the rest goes to the KV cache."""
    communication: Scalar = number(1.0)
    """0: messages take no time."""

    imbalance: Scalar = number(1.0)
    """0: expert ranks are loaded evenly, and experts run like dense products, without a router."""

    def read_experts(self, hit: Scalar, top_k: Scalar) -> Scalar:
        """Routed experts that a step reads."""
        return self.reuse * hit + (1.0 - self.reuse) * top_k

    def resident_experts(self, experts: Scalar, top_k: Scalar) -> Scalar:
        """Routed experts that take memory."""
        return self.residency * experts + (1.0 - self.residency) * top_k


ACTUAL = Counterfactual()
"""Things as they are."""
