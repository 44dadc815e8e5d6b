"""The fewest devices that serve a load: as many whole replicas of one layout, or of two pools, as
the load needs.
"""

import math
from typing import NamedTuple

import numpy as np

from qsopt.errors import InputError, exactly
from qsopt.serving.candidates import ALTERNATING, WRITER, Candidates, Groups
from qsopt.serving.optimum import Found
from qsopt.serving.pairs import Pairs
from qsopt.serving.replica import Served
from qsopt.serving.ways import searched


class Fewest(NamedTuple):
    """What serves a load."""

    way: str
    devices: int
    replicas: int
    """Of the one pool, or those that write answers."""
    prefill_replicas: int
    """Those that read prompts; the same where one pool does both."""


def fewest_devices(
    served: Served, every: Candidates, groups: Groups, requests: float
) -> Fewest | None:
    """The fewest devices, in replicas no larger than the cluster of the service; None where no
    replica keeps the limits.

    Args:
        served: model, service and draft.
        every: from `ways.lists`.
        groups: from `ways.lists`.
        requests: the load [1/s].

    Raises:
        InputError: if the load is not positive.
    """
    if not 0.0 < requests < math.inf:
        raise InputError(
            f"requests_per_s = {exactly(requests)}: give a positive number of requests"
        )
    result = searched(served, every, groups, 0.0)
    rates, devices = _per_replica(served, every, result.found), result.found.seen.devices
    one, two = (
        _one_pool(every, rates, devices, requests),
        _two_pools(groups, result.pairs, rates, devices, requests),
    )
    best = min(one, two, key=lambda choice: choice[0])
    return None if math.isinf(best[0]) else Fewest(best[1], int(best[0]), *map(int, best[2:]))


Choice = tuple[float, str, float, float]
"""Devices, way, and replicas that write and that read."""


def _one_pool(every: Candidates, rates: np.ndarray, devices: np.ndarray, requests: float) -> Choice:
    count = np.where(every.kind >= WRITER, np.inf, _needed(requests, rates))
    total = count * devices
    index = int(np.argmin(total))
    way = "alternating" if every.kind[index] == ALTERNATING else "mixed"
    return float(total[index]), way, float(count[index]), float(count[index])


def _two_pools(
    groups: Groups, pairs: Pairs, rates: np.ndarray, devices: np.ndarray, requests: float
) -> Choice:
    last = len(rates) - 1  # groups without members name none
    readers = np.minimum(np.take_along_axis(np.asarray(pairs.reader), groups.pair, axis=1), last)
    writers = np.minimum(np.broadcast_to(np.asarray(pairs.writer), readers.shape), last)
    possible = np.asarray(pairs.requests) > 0.0
    reading, writing = (
        np.where(possible, _needed(requests, rates)[rows], np.inf) for rows in (readers, writers)
    )
    total = reading * devices[readers] + writing * devices[writers]
    place = np.unravel_index(int(np.argmin(total)), total.shape)
    return float(total[place]), "disaggregated", float(writing[place]), float(reading[place])


def _needed(requests: float, rates: np.ndarray) -> np.ndarray:
    """Whole replicas that serve the load."""
    some = rates > 0.0
    return np.where(some, np.ceil(requests / np.where(some, rates, 1.0) * (1.0 - 1e-9)), np.inf)


def _per_replica(served: Served, every: Candidates, found: Found) -> np.ndarray:
    """Requests that one replica of each candidate serves [1/s]."""
    answers = np.maximum(found.seen.replicas, 1.0) * np.asarray(served.service.workload.answer)
    return np.where(every.kind >= WRITER, found.value, found.value / answers)
