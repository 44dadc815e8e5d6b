"""What one operator costs on one device, and the time it takes: the roofline with a soft knee.

    t = launches * t0 + norm(FLOPs (1 + m0/m + c0/w + r0/r) / (peak * eta_f), (bytes + weight bytes
    * w0/w + s * rest) / (bandwidth * eta_b)) (1 + b0/b)

with t0, eta_f, eta_b the launch time and achieved shares of `efficiency`; m rows and w columns of a
product on the device (for attention w is the head size, and r its rows: tokens times heads); b
tokens that attend at once; m0, w0, c0, r0, b0 where half is reached; and s how much kernels of
experts move of the activations whose experts are elsewhere, the rest. The norm is a p-norm between
max(x, y) (perfect overlap) and x + y (none). Ignored: caches, and kernels smaller than these.
"""

import operator
from collections.abc import Iterable

import jax

from qsopt.arrays import EXACT, Scalar, Softness, number
from qsopt.physics import smooth
from qsopt.programs import traced_once
from qsopt.record import Record
from qsopt.spec.efficiency import OperatorEfficiency


class Cost(Record):
    """Work of one operator on one device. Costs add."""

    flops: Scalar = number(0.0)
    """Arithmetic [FLOP]."""
    bytes: Scalar = number(0.0)
    """Memory traffic [byte]."""
    launches: Scalar = number(0.0)
    """Kernels started."""
    narrow: Scalar = number(0.0)
    """Weights that each product reads over its columns, summed [byte/column]: the bandwidth that
    narrow shards lose grows with it.
    """
    narrow_flops: Scalar = number(0.0)
    """Arithmetic of each product over its columns, for attention over the head size, summed
    [FLOP/column]: what narrow products and small heads lose of the peak grows with it.
    """
    row_flops: Scalar = number(0.0)
    """Arithmetic of one row of attention, a token of one head [FLOP]: what few rows leave idle."""
    elsewhere: Scalar = number(0.0)
    """Activations of gathered token rows whose experts are on other ranks [byte]."""

    def __add__(self, other: "Cost") -> "Cost":
        return jax.tree.map(operator.add, self, other)

    def times(self, factor: Scalar | float) -> "Cost":
        """The same work `factor` times over."""
        return jax.tree.map(lambda each: each * factor, self)


class Spent(Record):
    """Time of one operator and what it is made of. Times of operators add; the parts of one may
    overlap.
    """

    seconds: Scalar = number(0.0)
    """Time taken [s]."""
    compute: Scalar = number(0.0)
    """Time if only arithmetic counted [s]."""
    memory: Scalar = number(0.0)
    """Time if only memory traffic counted [s]."""
    latency: Scalar = number(0.0)
    """Launches and message latencies [s]."""
    link: Scalar = number(0.0)
    """Time on the links [s]."""
    flops: Scalar = number(0.0)
    """Arithmetic on one device [FLOP]."""
    bytes: Scalar = number(0.0)
    """Memory traffic of one device, or what it sends [byte]."""

    def __add__(self, other: "Spent") -> "Spent":
        return jax.tree.map(operator.add, self, other)

    def times(self, factor: Scalar | float) -> "Spent":
        """The same work `factor` times over."""
        return jax.tree.map(lambda each: each * factor, self)


def summed(spent: Iterable[Spent]) -> Spent:
    """Times of operators together."""
    return sum(spent, start=Spent())


class Work(Record):
    """One kind of operator in a stage: its cost, how often it runs, and what it runs at."""

    cost: Cost
    efficiency: OperatorEfficiency
    peak: Scalar = number()
    """Peak of its arithmetic [FLOP/s]."""
    count: Scalar = number()
    """Times that it runs for a microbatch."""
    tokens: Scalar = number(1.0)
    """Rows of its products."""
    batch: Scalar = number(1.0)
    """Tokens that attend at once."""


@traced_once
def roofline(
    cost: Cost,
    peak: Scalar,
    bandwidth: Scalar,
    efficiency: OperatorEfficiency,
    softness: Softness = EXACT,
    tokens: Scalar | float = 1.0,
    batch: Scalar | float = 1.0,
) -> Spent:
    """Time of `cost` on a device.

    Args:
        cost: work of the operator.
        peak: peak of its arithmetic [FLOP/s].
        bandwidth: memory bandwidth [byte/s].
        efficiency: of its kind and format.
        softness: smoothing of the relaxed model; the larger of it and the efficiency's own applies.
        tokens: rows of each product, for tile quantisation: eta_f * m / (m + half_tokens).
        batch: tokens that attend at once, for kernels that few leave half idle: times (1 +
            half_batch / batch).
    """
    idle = 1.0 + efficiency.half_batch / batch
    arithmetic = (
        cost.flops * (1.0 + efficiency.half_tokens / tokens)
        + efficiency.half_columns * cost.narrow_flops
        + efficiency.half_rows * cost.row_flops
    )
    compute = arithmetic / (peak * efficiency.compute) * idle
    memory = (
        (cost.bytes + efficiency.half_width * cost.narrow + efficiency.elsewhere * cost.elsewhere)
        / (bandwidth * efficiency.bandwidth)
        * idle
    )
    latency = cost.launches * efficiency.launch
    own = efficiency.softness
    knee = own if softness is EXACT else smooth.maximum(own, softness)
    seconds = latency + smooth.maximum(compute, memory, knee)
    return Spent(seconds, compute, memory, latency, 0.0 * seconds, cost.flops, cost.bytes)
