"""Time of a device, and how much of it the arithmetic and the memory are busy: what spans of work
add up to.
"""

from qsopt.arrays import Scalar, number
from qsopt.record import Record


class Span(Record):
    """Some work of a device. Spans add."""

    seconds: Scalar = number(0.0)
    """Time taken [s]."""
    compute: Scalar = number(0.0)
    """Of it, time that the matrix units work [s]."""
    memory: Scalar = number(0.0)
    """Of it, time that the memory works [s]."""

    def __add__(self, other: "Span") -> "Span":
        return Span(
            self.seconds + other.seconds, self.compute + other.compute, self.memory + other.memory
        )

    def times(self, factor: Scalar | float) -> "Span":
        """The same work `factor` times over."""
        return Span(self.seconds * factor, self.compute * factor, self.memory * factor)
