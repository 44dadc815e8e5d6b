"""The best way to serve requests by one objective: throughput (and with it the cost of a token) is
the exact optimum of `serving`; here are the others.

* **Time per token and time to first token.** With its chunk given neither falls with the batch (see
  `serving.optimum`), so the best of a candidate is at one sequence a rank and stage; steps whose
  chunk grows with the batch count at that batch too. Of two pools the readers that are first and
  the writers that are quickest stand for their group.
* **Energy.** Of every candidate of one pool at its largest batch, where idle draw and weights are
  shared by most tokens, and of every pair of groups of pools, each group by the replica that serves
  most.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from qsopt.arrays import Scalar
from qsopt.deployments.batches import pad_to, take
from qsopt.deployments.best import EQUAL
from qsopt.physics.energy import PowerLaw, energy
from qsopt.physics.evaluate import TOLERANCE
from qsopt.programs import compiled
from qsopt.serving.candidates import ALTERNATING, READER, WRITER, Candidates, Groups
from qsopt.serving.disaggregated import transfer
from qsopt.serving.metrics import RequestMetrics, of_pools, request_energy
from qsopt.serving.pairs import MANY, members
from qsopt.serving.peak import peak
from qsopt.serving.plan import Plan
from qsopt.serving.ranking import Option, at, foremost, of_one, of_two
from qsopt.serving.replica import Served
from qsopt.serving.trial import Trial, layout_at
from qsopt.serving.trials import Rows, asked_once, asking
from qsopt.serving.ways import Settled, searched
from qsopt.spec.deployment import Deployment

Times = Float[np.ndarray, " rows"]


class Wanted(NamedTuple):
    """By what ways of serving are compared."""

    objective: str
    power: PowerLaw
    """Of devices."""

    def value(self, served: Served, reached: RequestMetrics) -> float:
        """The objective of a plan, a cost as its throughput; the larger, the better, in logs."""
        if self.objective == "per_user":
            return float(-np.log(reached.tpot))
        if self.objective == "ttft":
            return float(-np.log(reached.ttft))
        if self.objective == "energy":
            return float(-np.log(joules(served, reached, self.power)))
        return float(np.log(reached.throughput))


def best_option(
    served: Served, every: Candidates, groups: Groups, wanted: Wanted, least: float = 0.0
) -> Option | None:
    """The best plan that keeps the limits, or None.

    Args:
        served: model, service and draft.
        every: from `ways.lists`.
        groups: from `ways.lists`.
        wanted: by what.
        least: throughput below which no plan matters, where that is the objective [tokens/s].
    """
    if wanted.objective in ("per_user", "ttft"):
        found = _quickest(served, every, groups, wanted.objective == "ttft")
    elif wanted.objective == "energy":
        found = _thrifty(served, every, groups, wanted.power)
    else:
        return foremost(served, every, groups, peak(served, every, groups, least=least))
    return max(found, key=lambda one: wanted.value(served, one.reached), default=None)


# ---- energy --------------------------------------------------------------------------------------


def joules(served: Served, reached: RequestMetrics, law: PowerLaw) -> float:
    """Energy of the cluster for an output token [J]."""
    return float(request_energy(served.service.cluster, law, reached).joules_per_token)


def _thrifty(served: Served, every: Candidates, groups: Groups, law: PowerLaw) -> Iterator[Option]:
    """The candidate of one pool that takes the least energy, and the two pools that do."""
    result = searched(served, every, groups, keep=0.0)
    for first, least in (
        (0, _joules_alone(served, every, result, law)),
        (len(every.kind), _joules_of_pairs(served, every, groups, result, law)),
    ):
        if np.isfinite(least).any():
            yield at(served, every, groups, result, first + int(np.argmin(least)))


def _joules_alone(
    served: Served, every: Candidates, result: Settled, law: PowerLaw
) -> Float[np.ndarray, " rows"]:
    """Energy of an output token of every candidate of one pool [J]."""
    seen, value = result.found.seen, np.where(every.kind < WRITER, result.found.value, 0.0)
    unit = seen.pace.unit
    seconds = np.where(unit.seconds > 0, unit.seconds, 1.0)
    drawn = energy(
        served.service.cluster,
        law,
        unit.compute / seconds,
        unit.memory / seconds,
        seen.replicas * every.layout.replica_devices,
        value,
    )
    return np.asarray(drawn.joules_per_token)


def _joules_of_pairs(
    served: Served, every: Candidates, groups: Groups, result: Settled, law: PowerLaw
) -> Float[np.ndarray, " pairs"]:
    """Energy of an output token of every pair of groups of pools, in the order of the flattened
    table; infinite where it serves nothing [J].
    """
    requests = result.pairs.requests.reshape(-1)
    least, serve = np.full(requests.shape, np.inf), np.flatnonzero(requests > 0.0)
    for start in range(0, len(serve), MANY):
        some = serve[start : start + MANY]
        reads, writes = members(groups, result.pairs, pad_to(some, MANY))
        writers = layout_at(take(every, writes), result.found.units[writes])
        tried = (take(result.found.seen, rows) for rows in (reads, writes))
        found = _joules_of_each(served, law, writers, take(every, reads), *tried)
        least[some] = np.asarray(found)[: len(some)]
    return least


@compiled
def _joules_of_each(
    served: Served, law: PowerLaw, writers: Deployment, readers: Candidates, *tried: Trial
) -> Float[Array, " pairs"]:
    def one(writer: Deployment, reader: Candidates, reads: Trial, writes: Trial) -> Scalar:
        plan = Plan(writer, layout_at(reader, jnp.ones(())), reads.tokens, reader.sharing)
        paces, memories = (reads.pace, writes.pace), (writes.memory, reads.memory)
        reached = of_pools(served, plan, paces, memories)
        return request_energy(served.service.cluster, law, reached).joules_per_token

    return jax.vmap(one)(writers, readers, *tried)


# ---- time ----------------------------------------------------------------------------------------


def _quickest(served: Served, every: Candidates, groups: Groups, first: bool) -> Iterator[Option]:
    """The quickest of one pool, and of two.

    Args:
        served: model, service and draft.
        every: candidates.
        groups: of pools.
        first: whether time to first token counts, not that per token.
    """
    places = np.arange(len(every.kind))
    ask = asking(served, asked_once(served), every)
    tried = ask(Rows(0 * places, places), np.ones(len(places))).trial
    single = tried.allowed & (every.kind < WRITER)
    spent = tried.ttft if first else tried.pace.unit.seconds
    if single.any():
        index = int(np.argmin(np.where(single, spent, np.inf)))
        layout = layout_at(take(every, index), np.ones(()))
        way = "alternating" if every.kind[index] == ALTERNATING else "mixed"
        plan = Plan(layout, layout, tried.tokens[index])
        yield of_one(served, plan, way, take(tried, index))
    pair = _quickest_pair(served, every, groups, tried, first)
    if pair is not None:
        reads, writes = (take(every, place) for place in pair)
        layouts = layout_at(writes, np.ones(())), layout_at(reads, np.ones(()))
        plan = Plan(*layouts, tried.tokens[pair[0]], reads.sharing)
        yield of_two(served, plan, *(take(tried, place) for place in pair))


def _quickest_pair(
    served: Served, every: Candidates, groups: Groups, tried: Trial, first: bool
) -> tuple[int, int] | None:
    """The candidates that read and that write in the quickest pair of pools; None where no pair
    keeps the limits.
    """
    reads = _first_of_groups(tried.ttft, tried.allowed & (every.kind == READER), every.group)
    writes = _first_of_groups(
        tried.pace.unit.seconds, tried.allowed & (every.kind == WRITER), every.group
    )
    if not len(reads) or not len(writes):
        return None
    holders = groups.pair[np.ix_(every.group[reads], every.group[writes])]
    moving = np.array([float(transfer(served, each)) for each in groups.holders])
    ttft = tried.ttft[reads][:, None] + moving[holders]
    devices = tried.devices[reads][:, None] + tried.devices[writes][None, :]
    cluster, limit = served.service.cluster, served.service.workload.ttft_limit
    kept = (devices <= cluster.devices * (1.0 + TOLERANCE)) & (ttft <= limit * (1.0 + EQUAL))
    if not kept.any():
        return None
    tpot = np.broadcast_to(tried.pace.unit.seconds[writes][None, :], ttft.shape)
    wanted, other = (ttft, tpot) if first else (tpot, ttft)
    wanted = np.where(kept, wanted, np.inf)
    near = wanted <= np.min(wanted) * (1.0 + EQUAL)
    place = np.unravel_index(int(np.argmin(np.where(near, other, np.inf))), ttft.shape)
    return int(reads[place[0]]), int(writes[place[1]])


def _first_of_groups(
    spent: Times, allowed: Bool[np.ndarray, " rows"], group: np.ndarray
) -> np.ndarray:
    """The allowed candidate of each group that takes the least time, groups without one left
    out.
    """
    rows = np.flatnonzero(allowed)
    ordered = rows[np.lexsort((spent[rows], group[rows]))]
    return ordered[np.unique(group[ordered], return_index=True)[1]]
