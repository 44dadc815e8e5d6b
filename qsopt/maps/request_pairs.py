"""Pairs of pools of a map over requests: what one candidate that reads and one that writes serve
with their best split.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from qsopt.arrays import Scalar
from qsopt.deployments.batches import pad_to, take
from qsopt.deployments.best import EQUAL
from qsopt.programs import compiled
from qsopt.record import Record
from qsopt.serving.disaggregated import split_of, transfer
from qsopt.serving.replica import Served
from qsopt.serving.trials import Asked

AT_ONCE = 4096
"""Pairs that one call of the compiled function takes."""


class Pool(Record):
    """One replica of each of many rows."""

    rate: Scalar
    """Requests [1/s]."""
    devices: Scalar
    """Devices that it takes."""
    holders: Scalar
    """Devices that hold the cache of a sequence."""
    ttft: Scalar
    """Of one that reads: time to first token without the transfer [s]."""


class PairRows(NamedTuple):
    """Pairs, by their places among rows that read and rows that write."""

    point: Int[np.ndarray, " pairs"]
    reader: Int[np.ndarray, " pairs"]
    writer: Int[np.ndarray, " pairs"]


def pair_values(
    served: Served, questions: Asked, readers: Pool, writers: Pool, pairs: PairRows
) -> Float[np.ndarray, " pairs"]:
    """Requests of the cluster that each pair serves, 0 where it is too late [1/s]."""
    count = len(pairs.point)
    parts = []
    for start in range(0, count, AT_ONCE):
        point, reader, writer = (
            pad_to(column[start : start + AT_ONCE], AT_ONCE) for column in pairs
        )
        rows = take(questions, point), take(readers, reader), take(writers, writer)
        parts.append(_values(served, *rows))
    return np.concatenate([np.zeros(0), *map(np.asarray, parts)])[:count]


@compiled
def _values(served: Served, questions: Asked, readers: Pool, writers: Pool) -> Array:
    def value(question: Asked, reads: Pool, writes: Pool) -> Scalar:
        here = eqx.tree_at(
            lambda s: (s.service.cluster, s.service.workload),
            served,
            (question.cluster, question.workload),
        )
        moved = transfer(here, jnp.minimum(reads.holders, writes.holders))
        possible = (reads.rate > 0.0) & (writes.rate > 0.0)
        possible &= reads.ttft + moved <= question.workload.ttft_limit * (1.0 + EQUAL)
        rates = (jnp.where(pool.rate > 0.0, pool.rate, 1.0) for pool in (reads, writes))
        read, write = rates
        split = split_of(question.cluster.devices, read, reads.devices, write, writes.devices)
        return jnp.where(possible, split.requests, 0.0)

    return jax.vmap(value)(questions, readers, writers)


def at_same_points(
    point: Int[np.ndarray, " rows"],
    reads: Int[np.ndarray, " readers"],
    writes: Int[np.ndarray, " writers"],
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """Every pair of a row that reads and one that writes at the same point."""
    reads = reads[np.argsort(point[reads], kind="stable")]
    start = np.searchsorted(point[reads], point[writes], "left")
    counts = np.searchsorted(point[reads], point[writes], "right") - start
    writer = np.repeat(writes, counts)
    place = np.arange(len(writer)) - np.repeat(np.cumsum(counts) - counts, counts)
    return (reads[np.repeat(start, counts) + place] if len(writer) else writer), writer
