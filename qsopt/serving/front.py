"""The front of throughput per device against the speed that a user sees: the best plan for each of
some limits on time per token, from none to the tightest that can be kept.

Each point is an exact optimum of one way; those that another one beats in both are left out.
"""

import equinox as eqx
import numpy as np

from qsopt.serving.candidates import Candidates, Groups
from qsopt.serving.optimum import tightened
from qsopt.serving.ranking import Option, best_of_each_way
from qsopt.serving.replica import Served
from qsopt.serving.ways import searched
from qsopt.spec.workload import NO_LIMIT

STEP = 0.7
"""A limit over the time per token of the point before it."""

MOST_POINTS = 24
"""Limits that are tried at most: a factor of 0.7^24 = 1/5,000 between first and last."""


def front(served: Served, every: Candidates, groups: Groups) -> list[Option]:
    """Plans that no other beats in both tokens/s per device and tokens/s per user, the most
    throughput first; the limit on time to first token stands, that on time per token does not.
    """
    points: list[Option] = []
    limit, known = NO_LIMIT, None
    for _ in range(MOST_POINTS):
        within = eqx.tree_at(
            lambda s: s.service.workload.tpot_limit, served, np.asarray(limit, dtype=float)
        )
        known = None if known is None else tightened(within, every, known)
        result = searched(within, every, groups, found=known)
        known = result.found
        found = list(best_of_each_way(within, every, groups, result))
        if not found:
            break
        points += found
        best = max(found, key=lambda point: float(point.reached.throughput))
        limit = STEP * float(best.reached.tpot)
    return not_beaten(points)


def not_beaten(points: list[Option]) -> list[Option]:
    """Points that no other equals or beats in both measures, the most throughput first."""
    ordered = sorted(
        points,
        key=lambda point: (-float(point.reached.per_device), -float(point.reached.per_user)),
    )
    kept: list[Option] = []
    for point in ordered:
        if not kept or float(point.reached.per_user) > float(kept[-1].reached.per_user):
            kept.append(point)
    return kept
