"""The best ways of serving side by side: of every way and layout the best chunk and batch, ranked
by throughput.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qsopt.deployments.batches import take
from qsopt.serving.candidates import ALTERNATING, WRITER, Candidates, Groups
from qsopt.serving.optimum import one_pool_plan
from qsopt.serving.pairs import plan_of_pair
from qsopt.serving.plan import Plan
from qsopt.serving.replica import Served
from qsopt.serving.ways import Searched, searched

SHARES = (1.0, 0.9, 0.6, 0.0)
"""Shares of the best throughput down to which candidates are settled, until enough are."""


class Ranked(NamedTuple):
    """One way of serving with one layout, or one pair of layouts."""

    way: str
    plan: Plan
    throughput: float
    """Output tokens of the cluster [tokens/s]."""


def ranked(served: Served, every: Candidates, groups: Groups, count: int) -> list[Ranked]:
    """The best plans of different ways or layouts, best first.

    Args:
        served: model, service and draft.
        every: from `ways.lists`.
        groups: from `ways.lists`.
        count: how many at most.
    """
    plans: list[Ranked] = []
    for share in SHARES[0 if count == 1 else 1 :]:
        result = searched(served, every, groups, share)
        plans = list(_best_first(served, every, groups, result, count, share))
        if len(plans) >= count or not plans:
            break
    return plans


def _best_first(
    served: Served,
    every: Candidates,
    groups: Groups,
    result: Searched,
    count: int,
    share: float,
) -> Iterator[Ranked]:
    """Plans that reach the share of the best, as only they are settled."""
    value, pairs = np.asarray(result.found.value), np.asarray(result.pairs.requests)
    single = np.where(np.asarray(every.kind) >= WRITER, 0.0, value)
    answer = float(served.service.workload.answer)
    both = np.concatenate([single, pairs.reshape(-1) * answer])
    least = max(share * float(np.max(both)), np.finfo(float).tiny)
    seen: set[tuple] = set()
    for index in np.argsort(-both, kind="stable"):
        if both[index] < least or len(seen) == count:
            return
        one = _plan(served, every, groups, result, int(index))
        key = (one.way, *_sizes(one.plan))
        if key not in seen:
            seen.add(key)
            yield one


def _plan(
    served: Served, every: Candidates, groups: Groups, result: Searched, index: int
) -> Ranked:
    size = len(every.kind)
    if index < size:
        way = "alternating" if every.kind[index] == ALTERNATING else "mixed"
        best = _one_pool(served, take(every, index), result.found.units[index])
        return Ranked(way, best, float(result.found.value[index]))
    best = _pair(served, every, groups, result, jnp.asarray(index - size))
    return Ranked("disaggregated", best.plan, float(best.throughput))


_one_pool = jax.jit(one_pool_plan)


@jax.jit
def _pair(served, every, groups, result, index):
    return plan_of_pair(served, every, groups, result.found, result.pairs, index)


def _sizes(plan: Plan) -> tuple[float, ...]:
    """What tells layouts apart: all of a deployment but its batch."""
    sizes = []
    for layout in (plan.decode, plan.prefill):
        numbers = jax.tree.map(float, layout)
        sizes += [getattr(numbers, name) for name in layout.__dataclass_fields__ if name != "batch"]
    return tuple(sizes)
