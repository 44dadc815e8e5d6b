"""The best pair of pools: every group of readers with every group of writers, each with its best
whole split.

Groups of one layout's sizes take the same devices, so the best replica of a group stands for all of
it. Of readers that is the one that serves most among those in time: how long the cache takes to
move depends on the devices that hold it in the smaller of both pools, of which there are few
numbers.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from qsopt.arrays import Scalar
from qsopt.deployments.optimum import EQUAL
from qsopt.record import Record
from qsopt.serving.candidates import READER, WRITER, Candidates, Groups
from qsopt.serving.disaggregated import split_of, taken, transfer
from qsopt.serving.optimum import Best, Found, at
from qsopt.serving.plan import Plan
from qsopt.serving.replica import Served
from qsopt.serving.trial import layout_at, tokens_of


class Pairs(Record):
    """What pairs of groups of readers and writers serve with their best split."""

    requests: Float[Array, "readers writers"]
    """Requests of the cluster [1/s]."""
    reader: Int[Array, "readers holders"]
    """The best candidate of a group of readers, by the devices that the cache moves between."""
    writer: Int[Array, " writers"]
    """The best candidate of a group of writers."""


def pairs_of(served: Served, every: Candidates, groups: Groups, found: Found) -> Pairs:
    """Every pair of groups with its best split."""
    reads, writes = (jnp.asarray(every.kind) == kind for kind in (READER, WRITER))
    group = jnp.asarray(every.group)
    workload = served.service.workload
    first = jax.vmap(lambda pace: pace.ttft(workload))(found.pace)

    counts, limit = groups.pair.shape, workload.ttft_limit * (1.0 + EQUAL)

    def best_readers(holders: Scalar) -> tuple[Array, Array]:
        in_time = reads & (first + transfer(served, holders) <= limit)
        return _best_of_groups(jnp.where(in_time, found.value, 0.0), group, reads, counts[0])

    rates, readers = jax.vmap(best_readers, out_axes=1)(jnp.asarray(groups.holders))
    writing, writers = _best_of_groups(
        jnp.where(writes, found.value, 0.0), group, writes, counts[1]
    )
    devices = jax.vmap(lambda layout: taken(served, layout))(every.layout)
    read_devices, write_devices = (
        jax.ops.segment_max(jnp.where(member, devices, 1.0), jnp.where(member, group, 0), count)
        for member, count in ((reads, counts[0]), (writes, counts[1]))
    )
    reading = jnp.take_along_axis(rates, jnp.asarray(groups.pair), axis=1)
    requests = _split_all(
        served.service.cluster.devices, reading, read_devices, writing, write_devices
    )
    return Pairs(requests, readers, writers)


def _split_all(devices, reading, read_devices, writing, write_devices) -> Array:
    """Requests of every pair, 0 where a side has no candidate in time."""

    def of(read, read_device, write, write_device) -> Scalar:
        possible = (read > 0.0) & (write > 0.0)
        rates = jnp.where(possible, read, 1.0), jnp.where(possible, write, 1.0)
        split = split_of(devices, rates[0], read_device, rates[1], write_device)
        return jnp.where(possible, split.requests, 0.0)

    over_writers = jax.vmap(of, in_axes=(0, None, 0, 0))
    return jax.vmap(over_writers, in_axes=(0, 0, None, None))(
        reading, read_devices, writing, write_devices
    )


def _best_of_groups(
    value: Float[Array, " candidates"],
    group: Int[Array, " candidates"],
    member: Bool[Array, " candidates"],
    groups: int,
) -> tuple[Float[Array, " groups"], Int[Array, " groups"]]:
    """The best value of each group and the first candidate that has it."""
    index = jnp.where(member, group, groups)
    best = jax.ops.segment_max(value, index, groups + 1)
    first = jnp.where(member & (value >= best[index]), jnp.arange(len(value)), len(value) - 1)
    return best[:groups], jax.ops.segment_min(first, index, groups + 1)[:groups]


def best_disaggregated(
    served: Served, every: Candidates, groups: Groups, found: Found, pairs: Pairs
) -> Best:
    """The best pair of pools."""
    best = jnp.max(pairs.requests)
    index = jnp.argmax(pairs.requests >= best * (1.0 - EQUAL))
    return plan_of_pair(served, every, groups, found, pairs, index)


def members(
    groups: Groups, pairs: Pairs, index: Int[Array, ""]
) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """Candidates that read and that write in one pair of groups, by its place in the flattened
    table.
    """
    reader, writer = jnp.unravel_index(index, pairs.requests.shape)
    return pairs.reader[reader, jnp.asarray(groups.pair)[reader, writer]], pairs.writer[writer]


def plan_of_pair(
    served: Served,
    every: Candidates,
    groups: Groups,
    found: Found,
    pairs: Pairs,
    index: Int[Array, ""],
) -> Best:
    """The plan of one pair of groups, by its place in the flattened table."""
    reads, writes = members(groups, pairs, index)
    one, other = at(every, reads), at(every, writes)
    layout = layout_at(one, jnp.ones(()))
    decode = layout_at(other, jnp.maximum(found.units[writes], 1.0))
    plan = Plan(decode, layout, tokens_of(served, one, layout), one.sharing)
    requests = pairs.requests.reshape(-1)[index]
    throughput = requests * jnp.asarray(served.service.workload.answer)
    return Best(plan, throughput, requests > 0.0)
