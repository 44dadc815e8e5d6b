"""The best ways of serving side by side: of every way and layout the best chunk and batch, ranked
by throughput.
"""

from collections.abc import Iterator

import equinox as eqx
import jax
import numpy as np

from qsopt.deployments.batches import in_numpy, take
from qsopt.programs import compiled
from qsopt.record import Record
from qsopt.serving.candidates import ALTERNATING, WRITER, Candidates, Groups
from qsopt.serving.metrics import RequestMetrics, of_one_pool, of_pools
from qsopt.serving.optimum import one_pool_plan
from qsopt.serving.pairs import members, plan_of_pair
from qsopt.serving.peak import Peak, peak
from qsopt.serving.plan import Plan
from qsopt.serving.replica import Served
from qsopt.serving.trial import Trial
from qsopt.serving.ways import Settled, searched

SHARES = (0.9, 0.6, 0.0)
"""Shares of the best throughput down to which candidates are settled, until enough are."""


class Option(Record):
    """One way of serving, and what it reaches."""

    plan: Plan
    reached: RequestMetrics
    way: str = eqx.field(static=True)


def ranked(served: Served, every: Candidates, groups: Groups, count: int) -> list[Option]:
    """The best plans of different ways or layouts, best first.

    Args:
        served: model, service and draft.
        every: from `ways.lists`.
        groups: from `ways.lists`.
        count: how many at most.
    """
    if count == 1:
        best = foremost(served, every, groups, peak(served, every, groups))
        return [] if best is None else [best]
    plans: list[Option] = []
    result = None
    for share in SHARES:
        result = searched(served, every, groups, share, None if result is None else result.found)
        plans = list(_best_first(served, every, groups, result, count, share))
        if len(plans) >= count or not plans:
            break
    return plans


def foremost(served: Served, every: Candidates, groups: Groups, best: Peak) -> Option | None:
    """The best plan of all, None where nothing keeps the limits."""
    return next(_best_first(served, every, groups, best, 1, 1.0), None)


def _best_first(
    served: Served,
    every: Candidates,
    groups: Groups,
    result: Settled,
    count: int,
    share: float,
) -> Iterator[Option]:
    """Plans that reach the share of the best, as only they are settled."""
    value, pairs = np.asarray(result.found.value), np.asarray(result.pairs.requests)
    single = np.where(np.asarray(every.kind) >= WRITER, 0.0, value)
    answer = float(np.asarray(served.service.workload.answer))
    both = np.concatenate([single, pairs.reshape(-1) * answer])
    least = max(share * float(np.max(both)), np.finfo(float).tiny)
    seen: set[tuple] = set()
    for index in np.argsort(-both, kind="stable"):
        if both[index] < least or len(seen) == count:
            return
        way, plan = plan_at(every, groups, result, int(index))
        key = (way, *_sizes(plan))
        if key not in seen:
            seen.add(key)
            yield at(served, every, groups, result, int(index))


def best_of_each_way(
    served: Served, every: Candidates, groups: Groups, result: Settled
) -> Iterator[Option]:
    """The best plan of every way that keeps the limits."""
    value, pairs = np.asarray(result.found.value), np.asarray(result.pairs.requests)
    kind = np.asarray(every.kind)
    ways = (kind < ALTERNATING, kind == ALTERNATING)
    for member in ways:
        mine = np.where(member, value, 0.0)
        if np.max(mine) > 0.0:
            yield at(served, every, groups, result, int(np.argmax(mine)))
    if np.max(pairs) > 0.0:
        yield at(served, every, groups, result, len(kind) + int(np.argmax(pairs)))


def plan_at(every: Candidates, groups: Groups, result: Settled, index: int) -> tuple[str, Plan]:
    """Way and plan of a candidate of one pool by its place, or, beyond them, of a pair of groups of
    pools.
    """
    found, size = result.found, len(every.kind)
    if index >= size:
        return "disaggregated", plan_of_pair(every, groups, found, result.pairs, index - size)
    way = "alternating" if every.kind[index] == ALTERNATING else "mixed"
    return way, one_pool_plan(every, found, index)


def at(served: Served, every: Candidates, groups: Groups, result: Settled, index: int) -> Option:
    """The same with what it reaches."""
    way, plan = plan_at(every, groups, result, index)
    seen, size = result.found.seen, len(every.kind)
    if index < size:
        return of_one(served, plan, way, take(seen, index))
    reads, writes = (take(seen, place) for place in members(groups, result.pairs, index - size))
    return of_two(served, plan, reads, writes)


def of_one(served: Served, plan: Plan, way: str, seen: Trial) -> Option:
    """A plan of one pool with what it reaches, from its trial."""
    return Option(plan, in_numpy(_of_one_pool(served, plan, seen.pace, seen.memory)), way)


def of_two(served: Served, plan: Plan, reads: Trial, writes: Trial) -> Option:
    """A plan of two pools with what it reaches, from the trials of a replica of each."""
    paces, memories = (reads.pace, writes.pace), (writes.memory, reads.memory)
    return Option(plan, in_numpy(_of_pools(served, plan, paces, memories)), "disaggregated")


_of_one_pool, _of_pools = compiled(of_one_pool), compiled(of_pools)
"""From the paces that the search has seen already."""


def _sizes(plan: Plan) -> tuple[float, ...]:
    """What tells layouts apart: all of a deployment but its batch."""
    sizes = []
    for layout in (plan.decode, plan.prefill):
        numbers = jax.tree.map(float, layout)
        sizes += [getattr(numbers, name) for name in layout.__dataclass_fields__ if name != "batch"]
    return tuple(sizes)
