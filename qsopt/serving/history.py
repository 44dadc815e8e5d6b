"""What a model's answers to easier questions say about harder ones.

Harder are longer prompts and answers, less of a prompt that is cached, tighter limits, slower or
smaller devices, and a world with penalties that take time or memory of a batch and give nothing
back. What a candidate serves with its largest batch, in requests/s, is no more there than where the
question is easier: the trends by which maps are searched (see `maps.request_bounds`), with the
chunk the same share of the prompt. Longer answers let more sequences share the reading of prompts,
which for whole batch units is worth a factor of (u + 1)/u at most. A world without imbalance is not
easier, as its experts run with the efficiency of dense products.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from qsopt.deployments.best import EQUAL
from qsopt.serving.candidates import (
    ALTERNATING,
    CHUNKS,
    MIXED,
    READER,
    UNIFORM,
    WRITER,
    Candidates,
    Groups,
    doubles,
)
from qsopt.serving.metrics import fits
from qsopt.serving.narrowing import upper_between
from qsopt.serving.peak import Bounds, Peak, peak
from qsopt.serving.replica import Served

MOST = 64
"""Answers that are remembered."""

HARDER: tuple[tuple[float, Callable[[Served], Any]], ...] = (
    (1.0, lambda served: served.service.workload.prompt),
    (1.0, lambda served: served.service.workload.answer),
    (-1.0, lambda served: served.service.workload.cached),
    (-1.0, lambda served: served.service.workload.ttft_limit),
    (-1.0, lambda served: served.service.workload.tpot_limit),
    (-1.0, lambda served: served.service.cluster.accelerator.bandwidth),
    (-1.0, lambda served: served.service.cluster.accelerator.memory_bytes),
    (-1.0, lambda served: served.service.cluster.accelerator.scale_up_bandwidth),
    (-1.0, lambda served: served.service.cluster.accelerator.scale_out_bandwidth),
    (1.0, lambda served: served.world.reuse),
    (1.0, lambda served: served.world.residency),
    (1.0, lambda served: served.world.communication),
)
"""Numbers that make a question harder as they grow (1) or as they fall (-1)."""

Values = Float[np.ndarray, " candidates"]


class Answered(NamedTuple):
    """A question, and what is known of it."""

    moved: Float[np.ndarray, " numbers"]
    """The numbers of `HARDER`, larger where it is harder."""
    rest: tuple[bytes, ...]
    """All else, which must be the same."""
    doubles: float
    """Of the largest chunk (see `candidates.doubles`)."""
    answer: float
    """Length of an answer [tokens]."""
    whole: Values
    """What each candidate serves at most with whole batch units: requests/s of the cluster, or of a
    pool's replica.
    """
    between: Values
    """The same with any batch."""
    devices: Values
    """That a replica takes."""


class History:
    """The answers that one list of candidates has given."""

    def __init__(self, every: Candidates, groups: Groups) -> None:
        self._every, self._groups = every, groups
        self._answered: deque[Answered] = deque(maxlen=MOST)

    def peak(self, served: Served) -> Peak:
        """The best way of serving; in less time where an easier question was asked before.

        Args:
            served: model, service and draft, concrete.
        """
        moved, rest = _question(served)
        workload = served.service.workload
        most, answer = float(doubles(workload)), float(np.asarray(workload.answer))
        easier = [
            self._carried(one, most, answer)
            for one in self._answered
            if one.rest == rest and (one.moved <= moved).all()
        ]
        found = peak(served, self._every, self._groups, easier)
        self._answered.append(Answered(moved, rest, most, answer, *self._uppers(served, found)))
        return found

    def _uppers(self, served: Served, found: Peak) -> tuple[Values, Values, Values]:
        """The last fields of `Answered`."""
        known, seen, kind = found.found.known, found.found.seen, self._every.kind
        workload = served.service.workload
        late = (seen.ttft > workload.ttft_limit * (1.0 + EQUAL)) & (kind != UNIFORM)
        between = upper_between(known, found.bounds.upper, fits(seen.memory) & ~late)
        # what was carried here, and no trial replaced, is known of whole batch units alone
        carried = known.unsettled & np.isinf(known.slow)
        between = np.where(carried, np.inf, between)
        between = np.where(kind < WRITER, between, found.bounds.upper)
        scale = np.where(kind < WRITER, float(np.asarray(workload.answer)), 1.0)
        return found.bounds.upper / scale, between / scale, found.bounds.devices

    def _carried(self, known: Answered, most: float, answer: float) -> Bounds:
        """Bounds for a harder question: of every candidate, of the one whose chunk is the same
        share of the prompt, and none where there is no such chunk.
        """
        upper = known.whole if known.answer == answer else known.between
        kind, chunk = self._every.kind, self._every.chunk
        chunked = np.isin(kind, (MIXED, ALTERNATING, READER))
        step = np.where(chunked, int(known.doubles - most), 0)
        there = (chunk + step >= 0) & (chunk + step < CHUNKS)
        rows = np.where(there, np.arange(len(kind)) + step, 0)
        bound = np.where(there, upper[rows], np.inf)
        return Bounds(np.where(kind < WRITER, bound * answer, bound), known.devices)


def _question(served: Served) -> tuple[Float[np.ndarray, " numbers"], tuple[bytes, ...]]:
    """The numbers of `HARDER`, larger where a question is harder, and all others."""
    moved = np.array([sign * float(number(served)) for sign, number in HARDER])
    same = eqx.tree_at(
        lambda s: tuple(number(s) for _, number in HARDER), served, (np.zeros(()),) * len(HARDER)
    )
    leaves, structure = jax.tree.flatten(same)
    return moved, (repr(structure).encode(), *(np.asarray(leaf).tobytes() for leaf in leaves))
