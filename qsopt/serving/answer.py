"""The answer to how a model's requests are best served: ranked plans, the front over the speed that
a user sees, and, where nothing keeps the limits, the plan that comes closest.
"""

from typing import Any

import equinox as eqx
import numpy as np

from qsopt.deployments.batches import in_numpy
from qsopt.record import Record, Result
from qsopt.serving.candidates import Candidates, Groups
from qsopt.serving.front import front
from qsopt.serving.metrics import compiled_request_metrics, within
from qsopt.serving.plan import Plan
from qsopt.serving.ranking import Option, ranked
from qsopt.serving.replica import Served
from qsopt.spec.workload import NO_LIMIT

LOOSER = 1.25
"""Limits that nothing keeps are loosened by this factor until something does."""

MOST_TIMES = 60
"""1.25^60 = 650,000 times: then time is not what is short."""


class Serving(Result, Record):
    """How a model's requests are best served."""

    ranked: tuple[Option, ...]
    """The best plans of different ways or layouts, best first; none where nothing keeps the
    limits.
    """
    front: tuple[Option, ...]
    """Plans that no other beats in both tokens/s per device and per user, without the limit on time
    per token.
    """
    closest: Option | None
    """Where nothing keeps the limits, the best plan under limits on time that are loosened alike
    until one does; None if something does, or if even then memory or devices do not suffice.
    """

    @property
    def feasible(self) -> bool:
        """Whether any plan keeps the limits."""
        return len(self.ranked) > 0

    @property
    def best(self) -> Option | None:
        """The plan with the most throughput that keeps the limits."""
        return self.ranked[0] if self.ranked else None


def serving(
    served: Served, every: Candidates, groups: Groups, count: int, with_front: bool = True
) -> Serving:
    """The best plans, the front, and the closest plan where there is no other.

    Args:
        served: model, service and draft.
        every: from `ways.lists`.
        groups: from `ways.lists`.
        count: plans at most.
        with_front: whether the front is wanted.
    """
    best = tuple(ranked(served, every, groups, count))
    points = tuple(front(served, every, groups)) if with_front else ()
    return Serving(best, points, None if best else closest(served, every, groups))


def option(served: Served, plan: Plan, way: str) -> Option:
    """A plan with what it reaches."""
    return Option(in_numpy(plan), in_numpy(compiled_request_metrics(served, plan, way)), way)


def closest(served: Served, every: Candidates, groups: Groups) -> Option | None:
    """The best plan under the tightest limits on time, loosened alike, that something keeps."""
    if not ranked(_loosened(served, LOOSER**MOST_TIMES), every, groups, 1):
        return None
    low, high = 0, MOST_TIMES
    while high - low > 1:
        middle = (low + high) // 2
        kept = ranked(_loosened(served, LOOSER**middle), every, groups, 1)
        low, high = (low, middle) if kept else (middle, high)
    near = ranked(_loosened(served, LOOSER**high), every, groups, 1)[0]
    return judged(served, near)


def judged(served: Served, near: Option) -> Option:
    """A plan that was found under other limits, by those of the question."""
    workload, reached = served.service.workload, near.reached
    kept = (
        np.asarray(within(reached.ttft, workload.ttft_limit)),
        np.asarray(within(reached.tpot, workload.tpot_limit)),
    )
    return eqx.tree_at(lambda o: (o.reached.meets_ttft, o.reached.meets_tpot), near, kept)


def _loosened(served: Served, factor: float) -> Served:
    def limits(tree: Any) -> tuple:
        return tree.service.workload.ttft_limit, tree.service.workload.tpot_limit

    looser = (np.asarray(min(float(limit) * factor, NO_LIMIT)) for limit in limits(served))
    return eqx.tree_at(limits, served, tuple(looser))
