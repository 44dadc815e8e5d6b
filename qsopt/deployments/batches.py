"""Batches: records whose arrays share a leading axis, made, cut and filled up to one length.

JAX compiles a function anew for every length, so a list of any length is cut into parts of one, and
the last is filled up. Concrete batches are kept in NumPy, where taking an entry compiles nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from qsopt import xp
from qsopt.arrays import is_concrete

Tree = TypeVar("Tree")
Result = TypeVar("Result")

CHUNK = 512
"""Layouts worked on at once: one compilation for clusters of all sizes beyond."""

SHORTEST = 64
"""Length to which `same_length` fills up short lists."""


def length(batch: object) -> int:
    """Entries of a batch."""
    return jax.tree.leaves(batch)[0].shape[0]


def in_numpy(record: Tree) -> Tree:
    """A concrete record in NumPy; one that is being traced as it is."""
    return jax.tree.map(np.asarray, record) if is_concrete(record) else record


def take(batch: Tree, index: Any) -> Tree:
    """Entries of a batch by a number, a slice, a mask or an array of indices; a number gives one
    record.
    """
    batch = in_numpy(batch) if is_concrete(index) else batch
    return jax.tree.map(lambda leaf: leaf[index], batch)


def stack(records: Sequence[Tree], axis: int = 0) -> Tree:
    """Records of one structure as a batch."""
    array = np if is_concrete(records) else jnp
    return jax.tree.map(
        lambda *leaves: array.stack([array.asarray(leaf) for leaf in leaves], axis), *records
    )


def repeat(record: Tree, count: int) -> Tree:
    """A record as a batch of `count` equal ones."""
    array = np if is_concrete(record) else jnp
    return jax.tree.map(lambda leaf: array.broadcast_to(leaf, (count, *np.shape(leaf))), record)


def mapped(function: Callable[[Tree], Result], batch: Tree, beside: object = None) -> Result:
    """A function of one record over a batch of them, side by side: numbers are broadcast where all
    are NumPy's.

    Args:
        function: made of the functions of `xp`, of numbers.
        batch: records.
        beside: what else the function takes its numbers from.
    """
    if xp.any_of_jax((batch, beside)):
        return jax.vmap(function)(batch)
    count = length(batch)
    return jax.tree.map(lambda leaf: np.broadcast_to(leaf, (count,)), function(batch))


def pad_to(batch: Tree, count: int) -> Tree:
    """A batch filled up with its first entry; as it is where it is not shorter."""
    spare = count - length(batch)
    if spare <= 0:
        return batch
    array = np if is_concrete(batch) else jnp

    def filled(leaf: Any) -> Any:
        return array.concatenate([leaf, array.repeat(leaf[:1], spare, axis=0)])

    return jax.tree.map(filled, batch)


def chunks(batch: Tree, size: int) -> list[Tree]:
    """A batch in parts of `size`; the last may be shorter."""
    if 0 < length(batch) <= size:
        return [batch]
    return [take(batch, slice(start, start + size)) for start in range(0, length(batch), size)]


def in_batches(function: Callable[[Tree], Result], batch: Tree, size: int) -> Result:
    """A function of exactly `size` entries over a batch of any length above 0, part by part.

    Returns:
        What the function returns, in NumPy, with one entry for each of the batch's.
    """
    parts = [function(pad_to(part, size)) for part in chunks(batch, size)]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: length(batch)], *parts)


def same_length(*batches: Tree, at_least: int = SHORTEST) -> tuple[Tree, ...]:
    """Batches filled up to one length, so that they share a compilation: a power of two, or a
    multiple of `CHUNK` beyond it.
    """
    longest = max(map(length, batches))
    if longest > CHUNK:
        count = -(-longest // CHUNK) * CHUNK
    else:
        count = max(at_least, 1 << (longest - 1).bit_length())
    return tuple(pad_to(batch, count) for batch in batches)


def like(tree: Tree, count: int) -> Tree:
    """Zeros of the same kinds, in NumPy, for so many rows."""
    return jax.tree.map(lambda leaf: np.zeros(count, dtype=leaf.dtype), tree)


def put(tree: Tree, rows: np.ndarray, new: Tree) -> None:
    """Write rows of a batch in NumPy that nobody else has, in place."""
    for leaf, fresh in zip(jax.tree.leaves(tree), jax.tree.leaves(new), strict=True):
        leaf[rows] = fresh
