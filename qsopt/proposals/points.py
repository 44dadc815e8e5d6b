"""What a search looks for, and what it knows."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from qsopt.proposals.fields import Choices, Task
from qsopt.proposals.goals import Quality
from qsopt.serving.candidates import Candidates

BETTER = 1e-9
"""Relative gain below which nothing is better."""


@dataclass(frozen=True)
class Target:
    """What the best architecture is wanted for."""

    family: str
    limit: float
    """On the time per token [s]."""
    factor: float = 1.0
    """On the size of the dense model whose quality is asked for."""
    track: int = 0
    """Which of several descents, each from another beginning; 0 also has the best of all."""

    @property
    def base(self) -> "Target":
        """The first track."""
        return replace(self, track=0)


@dataclass(frozen=True)
class Point:
    """One architecture in the best deployment that is known for it."""

    family: str
    row: np.ndarray
    throughput: float
    """Output tokens of the cluster, 0 where nothing is feasible [tokens/s]."""
    limit: float
    factor: float
    units: float
    """Batch of the pool that writes, in units of pipeline * data."""
    tpot: float
    quality: Quality = field(repr=False)
    candidate: Candidates | None = field(repr=False, default=None)
    """Of one pool, or the pool that writes."""
    reader: Candidates | None = field(repr=False, default=None)
    """Of the pool that reads."""

    @property
    def key(self) -> tuple[float, ...]:
        """Of the architecture."""
        return tuple(self.row.tolist())


@dataclass
class State:
    """What is known so far."""

    task: Task
    choices: dict[str, Choices] = field(default_factory=dict)
    points: dict[tuple, Point] = field(default_factory=dict)
    """The best of every architecture, limit and factor that was tried."""
    best: dict[Target, Point] = field(default_factory=dict)
    evaluations: int = 0
    """Rows that were scored."""

    def note(self, target: Target, point: Point) -> bool:
        """Keep a point; whether it is the target's best."""
        key = (target.base, point.key)
        known = self.points.get(key)
        if known is None or point.throughput > known.throughput:
            self.points[key] = point
        old = self.best.get(target)
        better = old is None or point.throughput > old.throughput * (1.0 + BETTER)
        if better and point.throughput > 0:
            self.best[target] = point
            if target.track:
                self.note(target.base, point)
        return better and point.throughput > 0


Progress = Callable[[str], None]


def silent(_: str) -> None:
    """Tells nobody."""
