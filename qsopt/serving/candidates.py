"""Candidates of the search over ways of serving: every layout in every way with every chunk, as
lists, so that one compiled function takes them all.

Chunks are the prompt's own halves and doubles, so that none is left partly empty: of a rank, i 2^j
tokens up to 65,536, ten of them, and for mixed steps also what a mean step needs (uniform). The
pools of the disaggregated way are searched apart: writers by layout, readers by layout, chunk and
ranks that share a prompt (one, or all attention ranks).
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from qsopt import xp
from qsopt.arrays import Scalar
from qsopt.serving.plan import WAYS
from qsopt.spec.deployment import Deployment
from qsopt.spec.workload import Workload

MIXED, UNIFORM, ALTERNATING, WRITER, READER = range(5)
"""Kinds of candidates."""

KINDS = {
    "mixed": (MIXED, UNIFORM),
    "alternating": (ALTERNATING,),
    "disaggregated": (WRITER, READER),
}
"""Kinds of candidates by the way of serving that they belong to."""

CHUNKS = 10
"""Chunk sizes that are tried."""

LARGEST = 65_536.0
"""No rank is given more prompt tokens at once than this, but for the first halves of one prompt."""


class Candidates(NamedTuple):
    """A list of candidates."""

    layout: Deployment
    """Layout of each; the batch is not used."""
    kind: np.ndarray
    chunk: np.ndarray
    """Index of `chunk_length`."""
    sharing: np.ndarray
    """Attention ranks that read one prompt together."""
    group: np.ndarray
    """Of pools: candidates whose replicas take the same devices and hold caches on as many, so that
    the best of them stands for all.
    """


class Groups(NamedTuple):
    """How many devices hold the cache of a sequence in each pair of a group of readers and one of
    writers.
    """

    holders: np.ndarray
    """Different numbers of devices that a cache may move between."""
    pair: np.ndarray
    """Index into `holders` for each group of readers (rows) and of writers (columns)."""


def most_doubles(read: Scalar) -> Scalar:
    """Doublings of a prompt's tokens in the largest chunk that is tried, negative for halves.

    Args:
        read: i, tokens of a prompt that must be read.
    """
    return xp.minimum(xp.floor(xp.log2(LARGEST / read)), CHUNKS - 1.0)


def doubles(workload: Workload) -> Int[np.ndarray, "*questions"]:
    """`most_doubles` of one workload or many, in NumPy."""
    read = np.maximum(np.asarray(workload.prompt) * (1.0 - np.asarray(workload.cached)), 1.0)
    return np.minimum(np.floor(np.log2(LARGEST / read)), CHUNKS - 1.0).astype(int)


def chunk_length(read: Scalar, index: Scalar) -> Scalar:
    """Prompt tokens of a rank in one forward; the chunks that are tried have the indices 0, the
    largest, to `CHUNKS` - 1.
    """
    return read * xp.exp2(xp.stop_gradient(most_doubles(read)) - index)


def chunk_lengths(read: Scalar) -> Scalar:
    """All that are tried, largest first."""
    return chunk_length(read, xp.arange(float(CHUNKS)))


def candidates(layouts: Deployment, ways: tuple[str, ...] = WAYS) -> Candidates:
    """All candidates of some layouts in some ways."""
    rows = [_of_kind(layouts, kind) for way in ways if way in KINDS for kind in KINDS[way]]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *rows)


def _of_kind(layouts: Deployment, kind: int) -> Candidates:
    chunks = 1 if kind in (UNIFORM, WRITER) else CHUNKS
    if kind == READER:
        plain = (np.asarray(layouts.dcp) == 1) & (np.asarray(layouts.expert_slots) == 0)
        layouts = jax.tree.map(lambda leaf: np.asarray(leaf)[plain], layouts)
        alone, together = (_rows(layouts, kind, chunks, every) for every in (False, True))
        several = together.sharing > 1
        together = jax.tree.map(lambda leaf: leaf[several], together)
        return jax.tree.map(lambda *parts: np.concatenate(parts), alone, together)
    return _rows(layouts, kind, chunks, False)


def _rows(layouts: Deployment, kind: int, chunks: int, together: bool) -> Candidates:
    count = layouts.tensor.shape[0]
    every = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf), chunks), layouts)
    sharing = np.asarray(every.data) if together else np.ones(count * chunks)
    return Candidates(
        every,
        np.full(count * chunks, kind, dtype=np.int32),
        np.tile(np.arange(float(chunks)), count),
        np.asarray(sharing, dtype=float),
        np.zeros(count * chunks, dtype=np.int32),
    )


def grouped(found: Candidates) -> tuple[Candidates, Groups]:
    """The candidates with the groups of their pools; one that nobody belongs to where there are
    none.
    """
    group, held = np.zeros_like(found.kind), {}
    for kind in (READER, WRITER):
        rows = np.flatnonzero(found.kind == kind)
        sizes = (found.layout.tensor, found.layout.data, found.layout.pipeline, found.sharing)
        keys = np.stack([np.asarray(column)[rows] for column in sizes], axis=1)
        unique, index = np.unique(keys, axis=0, return_inverse=True)
        group[rows] = index.reshape(-1)
        held[kind] = unique[:, 0] * unique[:, 2] * unique[:, 3] if len(unique) else np.ones(1)
    pairs = np.minimum(held[READER][:, None], held[WRITER][None, :])
    holders, pair = np.unique(pairs, return_inverse=True)
    return found._replace(group=group), Groups(holders, pair.reshape(pairs.shape))
