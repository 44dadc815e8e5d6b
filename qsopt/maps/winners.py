"""What follows from the throughputs of both sides over a grid, whatever they are of."""

from typing import Any

import numpy as np
from jaxtyping import Float

from qsopt.comparison.compare import verdict

Grid = Float[np.ndarray, "x y"]


class Winners:
    """Who wins at every point of a map."""

    s: Any
    """Active over total parameters of the MoE."""
    q: Any
    """Size of the dense match over the active parameters of the MoE."""
    moe: Any
    """The MoE at every point, with its `throughput` [tokens/s]."""
    dense: Any
    """Its dense match."""

    @property
    def ratio(self) -> Grid:
        """Throughput of dense over MoE, NaN where a side is infeasible."""
        moe, dense = self.moe.throughput, self.dense.throughput
        both = (moe > 0.0) & (dense > 0.0)
        return np.where(both, dense / np.where(both, moe, 1.0), np.nan)

    @property
    def qs(self) -> Grid:
        """Size of the dense match over the MoE's total."""
        return self.q * self.s

    @property
    def verdicts(self) -> list[list[str]]:
        """Who wins at every point."""
        pairs = zip(self.moe.throughput, self.dense.throughput, strict=True)
        return [
            [verdict(*map(float, pair)) for pair in zip(*column, strict=True)] for column in pairs
        ]
