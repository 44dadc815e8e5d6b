"""The best pair of pools: every group of readers with every group of writers, each with its best
whole split.

Groups of one layout's sizes take the same devices, so the best replica of a group stands for all of
it. Of readers that is the one that serves most among those in time: how long the cache takes to
move depends on the devices that hold it in the smaller of both pools, of which there are few
numbers.
"""

from typing import TypeAlias

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from qsopt.arrays import Scalar
from qsopt.deployments.batches import pad_to, take
from qsopt.deployments.best import EQUAL
from qsopt.programs import compiled
from qsopt.record import Record
from qsopt.serving.candidates import READER, WRITER, Candidates, Groups
from qsopt.serving.disaggregated import split_of, transfer
from qsopt.serving.optimum import Best, Found
from qsopt.serving.plan import Plan
from qsopt.serving.replica import Served
from qsopt.serving.trial import layout_at

MANY, FEW = 2048, 64
"""Pairs, and numbers of devices that hold a cache, that one call of the compiled functions takes.
"""

SLACK = 1e-6
"""Relative excess at which a bound still counts."""


class Pairs(Record):
    """What pairs of groups of readers and writers serve with their best split."""

    requests: Float[np.ndarray, "readers writers"]
    """Requests of the cluster [1/s]."""
    reader: Int[np.ndarray, "readers holders"]
    """The best candidate of a group of readers, by the devices that the cache moves between."""
    writer: Int[np.ndarray, " writers"]
    """The best candidate of a group of writers."""


def no_pairs(groups: Groups) -> Pairs:
    """Where no pair is looked for."""
    readers, writers = groups.pair.shape
    none = np.zeros((readers, len(groups.holders)), dtype=int)
    return Pairs(np.zeros((readers, writers)), none, np.zeros(writers, dtype=int))


def pairs_of(
    served: Served, every: Candidates, groups: Groups, found: Found, least: float = 0.0
) -> Pairs:
    """Every pair of groups with its best split.

    Args:
        served: model, service and draft.
        every: candidates.
        groups: of them.
        found: what is known of them.
        least: no split is looked for of pairs that cannot reach it, which count as 0 [1/s].
    """
    reads, writes = (np.flatnonzero(every.kind == kind) for kind in (READER, WRITER))
    counts = groups.pair.shape
    limit = served.service.workload.ttft_limit * (1.0 + EQUAL)
    moved = _transfers(served, groups.holders)
    best = [
        _best_of_groups(
            np.where(found.seen.ttft[reads] + seconds <= limit, found.value[reads], 0.0),
            every.group[reads],
            reads,
            counts[0],
        )
        for seconds in moved
    ]
    rates, readers = (np.stack(column, axis=1) for column in zip(*best, strict=True))
    writing, writers = _best_of_groups(found.value[writes], every.group[writes], writes, counts[1])
    read_devices, write_devices = (
        _devices(found.seen.devices[rows], every.group[rows], count)
        for rows, count in ((reads, counts[0]), (writes, counts[1]))
    )
    reading = np.take_along_axis(rates, groups.pair, axis=1)
    devices = served.service.cluster.devices
    requests = _splits(devices, (reading, read_devices), (writing, write_devices), least)
    return Pairs(requests, readers, writers)


def _transfers(
    served: Served, holders: Float[np.ndarray, " holders"]
) -> Float[np.ndarray, " holders"]:
    """What the cache's way over so many devices adds to the time to first token [s]."""
    padded = pad_to(holders, -(-len(holders) // FEW) * FEW)
    return np.asarray(_each_transfer(served, padded))[: len(holders)]


@compiled
def _each_transfer(served: Served, holders: Float[Array, " holders"]) -> Float[Array, " holders"]:
    return jax.vmap(lambda each: transfer(served, each))(holders)


def _devices(devices: np.ndarray, group: np.ndarray, groups: int) -> Float[np.ndarray, " groups"]:
    """Devices of a replica of each group, 1 for groups without members."""
    most = np.ones(groups)
    np.maximum.at(most, group, devices)
    return most


Pool = tuple[np.ndarray, np.ndarray]
"""Rates of groups of replicas [1/s], and the devices that each takes."""


def _splits(
    devices: Scalar, reads: Pool, writes: Pool, least: float
) -> Float[np.ndarray, "readers writers"]:
    """Requests of every pair with its best split; 0 where a side has no candidate in time, and
    where even real numbers of replicas do not reach `least`.
    """
    reading, writing = reads[0], np.broadcast_to(writes[0], reads[0].shape)
    possible = (reading > 0.0) & (writing > 0.0)
    shares = (
        taken / np.where(possible, rates, 1.0)
        for taken, rates in ((reads[1][:, None], reading), (writes[1][None, :], writing))
    )
    rows = np.nonzero(possible & (devices * (1.0 + SLACK) >= least * sum(shares)))
    columns = reading[rows], reads[1][rows[0]], writing[rows], writes[1][rows[1]]
    requests = np.zeros(reading.shape)
    for start in range(0, len(rows[0]), MANY):
        some = slice(start, start + MANY)
        each = _each_split(devices, *(pad_to(column[some], MANY) for column in columns))
        place = tuple(index[some] for index in rows)
        requests[place] = np.asarray(each)[: len(place[0])]
    return requests


@compiled
def _each_split(devices, read, read_devices, write, write_devices) -> Array:
    """Requests of each pair [1/s]."""
    each = jax.vmap(split_of, in_axes=(None, 0, 0, 0, 0))
    return each(devices, read, read_devices, write, write_devices).requests


def _best_of_groups(
    value: Float[np.ndarray, " rows"],
    group: Int[np.ndarray, " rows"],
    candidate: Int[np.ndarray, " rows"],
    groups: int,
) -> tuple[Float[np.ndarray, " groups"], Int[np.ndarray, " groups"]]:
    """The best value of each group, 0 without members, and the first candidate that has it."""
    best, first = np.zeros(groups), np.full(groups, 0)
    np.maximum.at(best, group, value)
    equal = np.flatnonzero(value >= best[group])[::-1]
    first[group[equal]] = candidate[equal]
    return best, first


def best_disaggregated(
    served: Served, every: Candidates, groups: Groups, found: Found, pairs: Pairs
) -> Best:
    """The best pair of pools."""
    best = np.max(pairs.requests)
    index = int(np.argmax(pairs.requests >= best * (1.0 - EQUAL)))
    requests = pairs.requests.reshape(-1)[index]
    throughput = requests * np.asarray(served.service.workload.answer)
    return Best(plan_of_pair(every, groups, found, pairs, index), throughput, requests > 0.0)


Index: TypeAlias = int | Int[np.ndarray, " pairs"]


def members(groups: Groups, pairs: Pairs, index: Index) -> tuple[Index, Index]:
    """Candidates that read and that write in one pair of groups or several, by place in the
    flattened table.
    """
    reader, writer = np.unravel_index(index, pairs.requests.shape)
    return pairs.reader[reader, groups.pair[reader, writer]], pairs.writer[writer]


def plan_of_pair(every: Candidates, groups: Groups, found: Found, pairs: Pairs, index: int) -> Plan:
    """The plan of one pair of groups, by its place in the flattened table."""
    reads, writes = members(groups, pairs, index)
    one, other = take(every, reads), take(every, writes)
    decode = layout_at(other, np.maximum(found.units[writes], 1.0))
    return Plan(decode, layout_at(one, np.ones(())), found.seen.tokens[reads], one.sharing)
