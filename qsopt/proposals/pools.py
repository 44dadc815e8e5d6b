"""The best of each architecture from what its rows reach: one pool, or the best pair of pools.

As in `serving.pairs`, for many architectures at once: of readers and of writers the best replica of
each number of devices and of holders of a cache stands for all, and every pair has its best whole
split.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from qsopt.physics.evaluate import TOLERANCE
from qsopt.proposals.scores import Designs, Scores
from qsopt.serving.candidates import READER, WRITER
from qsopt.spec.service import Service

HALVINGS = 16
"""Of the search for the number of readers; see `serving.disaggregated.whole_readers`."""

NOBODY = -1


class BestRows(NamedTuple):
    """The best of each owner."""

    throughput: Float[np.ndarray, " owners"]
    """Output tokens of the cluster, 0 where nothing is feasible [tokens/s]."""
    row: Int[np.ndarray, " owners"]
    """Of one pool, or the pool that writes; `NOBODY` where nothing is feasible."""
    reader: Int[np.ndarray, " owners"]
    """The row of the pool that reads; `NOBODY` in one pool."""


def best_rows(
    owner: Int[np.ndarray, " rows"],
    count: int,
    designs: Designs,
    scores: Scores,
    service: Service,
    decode_alone: bool = False,
) -> BestRows:
    """The best of every owner of rows."""
    kind = np.asarray(designs.candidate.kind)
    one_pool = (kind < WRITER) | decode_alone
    best, row = _largest(owner, np.where(one_pool, scores.value, 0.0), count)
    reader = np.full(count, NOBODY)
    if not decode_alone:
        pairs = _pairs(owner, designs, scores, service)
        rates = _split(
            float(service.cluster.devices),
            scores.value[pairs.reader],
            scores.devices[pairs.reader],
            scores.value[pairs.writer],
            scores.devices[pairs.writer],
        )
        served = rates * float(service.workload.answer)  # pyright: ignore[reportArgumentType]
        answers = served * designs.factors[pairs.writer, _ANSWER]
        pooled, place = _largest(owner[pairs.writer], answers, count)
        better = pooled > best
        best = np.where(better, pooled, best)
        row = np.where(better, pairs.writer[place], row) if len(pairs.writer) else row
        reader = np.where(better, pairs.reader[place], reader) if len(pairs.reader) else reader
    return BestRows(best, np.where(best > 0, row, NOBODY), np.where(best > 0, reader, NOBODY))


_ANSWER = 6
"""Place of the answer among the inputs of a row."""


def _largest(
    owner: np.ndarray, value: np.ndarray, count: int
) -> tuple[Float[np.ndarray, " owners"], Int[np.ndarray, " owners"]]:
    """The largest value of each owner, 0 where it has none, and the first place that has it."""
    best = np.zeros(count)
    np.maximum.at(best, owner, value)
    place = np.zeros(count, int)
    order = np.flatnonzero((value > 0) & (value >= best[owner]))[::-1]
    place[owner[order]] = order
    return best, place


class _Pairs(NamedTuple):
    reader: Int[np.ndarray, " pairs"]
    writer: Int[np.ndarray, " pairs"]


def _pairs(owner: np.ndarray, designs: Designs, scores: Scores, service: Service) -> _Pairs:
    """Pairs of the best readers and writers of each owner that are in time."""
    kind, layout = np.asarray(designs.candidate.kind), designs.candidate.layout
    sharing = np.asarray(designs.candidate.sharing)
    holders = np.asarray(layout.tensor) * np.asarray(layout.pipeline)
    holders = np.where(kind == READER, holders * sharing, holders)
    limits = float(service.workload.ttft_limit) * designs.factors[:, _TTFT] * (1.0 + TOLERANCE)

    def in_time(rows: np.ndarray, held: np.ndarray | float) -> np.ndarray:
        moved = scores.moving[rows] / np.minimum(holders[rows], held)
        return scores.ttft[rows] + moved <= limits[rows]

    every, rows = np.arange(len(kind)), scores.value > 0
    writes = _best_of_groups(owner, scores.devices, holders, scores.value, rows & (kind == WRITER))
    reads = [
        _best_of_groups(
            owner,
            scores.devices,
            holders,
            scores.value,
            rows & (kind == READER) & in_time(every, h),
        )
        for h in np.unique(holders[writes])
    ]
    read = np.unique(np.concatenate([writes[:0], *reads]))
    read, writes = (some[np.argsort(owner[some], kind="stable")] for some in (read, writes))
    left, right = _crossed(owner[read], owner[writes])
    reader, writer = read[left], writes[right]
    soon = in_time(reader, holders[writer])
    return _Pairs(reader[soon], writer[soon])


_TTFT = 7


def _best_of_groups(
    owner: np.ndarray,
    devices: np.ndarray,
    holders: np.ndarray,
    value: np.ndarray,
    member: Bool[np.ndarray, " rows"],
) -> Int[np.ndarray, " best"]:
    """The best row of each owner, number of devices and number of holders."""
    rows = np.flatnonzero(member)
    order = rows[np.lexsort((rows, -value[rows], holders[rows], devices[rows], owner[rows]))]
    columns = np.stack([owner[order], devices[order], holders[order]], axis=1)
    first = np.ones(len(order), bool)
    first[1:] = (columns[1:] != columns[:-1]).any(axis=1)
    return order[first]


def _crossed(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of all pairs of equal entries of two sorted lists."""
    starts = np.searchsorted(right, left, "left")
    counts = np.searchsorted(right, left, "right") - starts
    first = np.repeat(np.arange(len(left)), counts)
    offset = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
    return first, np.repeat(starts, counts) + offset


def _split(
    devices: float,
    read_rate: np.ndarray,
    read_devices: np.ndarray,
    write_rate: np.ndarray,
    write_devices: np.ndarray,
) -> Float[np.ndarray, " pairs"]:
    """Requests of each pair with its best whole split [1/s]."""
    room = devices * (1.0 + TOLERANCE)

    def written(readers: np.ndarray) -> np.ndarray:
        left = np.maximum(room - readers * read_devices, 0.0)
        return np.floor(left / write_devices) * write_rate

    low = np.zeros_like(read_rate)
    high = np.floor(room / read_devices) + 1.0
    for _ in range(HALVINGS):
        middle = np.floor((low + high) / 2.0)
        behind = middle * read_rate <= written(middle)
        low, high = np.where(behind, middle, low), np.where(behind, high, middle)
    both = [np.minimum(n * read_rate, written(n)) for n in (np.maximum(low, 1.0), low + 1.0)]
    return np.maximum(*both)
