"""What a replica keeps up: how long its work takes, and how soon a prompt's first token is there,
before any is counted over a cluster.
"""

from typing import NamedTuple

from jaxtyping import Array, Bool

from qsopt import xp
from qsopt.arrays import Scalar, number
from qsopt.physics.evaluate import TOLERANCE
from qsopt.physics.memory import Occupancy
from qsopt.record import Record
from qsopt.serving.queue import busiest, waiting
from qsopt.serving.span import Span
from qsopt.spec.workload import Workload


class Pace(Record):
    """One replica at work."""

    unit: Span
    """For one more token of all its sequences: TPOT; where it only reads, for one prompt."""
    first: Scalar = number()
    """From the start of a prompt's reading to its first token [s]."""
    service: Scalar = number()
    """What one prompt takes of the server that reads prompts, which others wait for [s]."""
    reading: Scalar = number()
    """Share of the steps, or of the time, in which prompts are read."""
    finished: Scalar = number()
    """Prompts that one forward finishes."""

    def ttft(self, workload: Workload) -> Scalar:
        """Time to first token with the wait for prompts before it [s]."""
        return self.first + waiting(workload.load, self.service)

    def keeps_up(self, workload: Workload) -> Bool[Array, ""]:
        """Whether prompts are read as fast as they come, at the load allowed."""
        return self.reading <= busiest(workload.load) * (1.0 + TOLERANCE)


class AtWork(NamedTuple):
    """A replica's pace, and what it holds meanwhile."""

    pace: Pace
    occupancy: Occupancy


def end_to_end(ttft: Scalar, tpot: Scalar, answer: Scalar) -> Scalar:
    """From a request's arrival to the last token of its answer: the first token comes from the
    prompt [s].
    """
    return ttft + xp.maximum(answer - 1.0, 0.0) * tpot
