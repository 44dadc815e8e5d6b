"""Batches: cut, filled up and put together again they are what they were, traced or not."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from qsopt.arrays import Scalar, Table
from qsopt.deployments.batches import (
    CHUNK,
    chunks,
    in_batches,
    length,
    pad_to,
    repeat,
    same_length,
    stack,
    take,
)


class Pair(eqx.Module):
    number: Scalar
    table: Table


def pairs(count: int) -> Pair:
    draw = np.random.default_rng(count)
    return Pair(draw.random(count), draw.random((count, 3)))


def assert_equal(one: Pair, other: Pair) -> None:
    for first, second in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("size", [1, 3, 7, 8, 100])
def test_a_function_in_batches_is_the_function(size):
    """Of every length about the size, each call sees exactly `size` entries."""
    lengths = []

    def summed(batch: Pair) -> tuple[Float[Array, " n"], Pair]:
        lengths.append(length(batch))
        return batch.number + batch.table.sum(axis=1), batch

    for count in (1, 6, 7, 8, 21):
        batch = pairs(count)
        total, same = in_batches(summed, batch, size)
        np.testing.assert_array_equal(total, batch.number + batch.table.sum(axis=1))
        assert_equal(same, batch)
    assert set(lengths) == {size}


def test_taking_undoes_stacking_and_repeating():
    records = [take(pairs(5), index) for index in range(5)]
    assert_equal(stack(records), pairs(5))
    assert stack(records, axis=-1).table.shape == (3, 5)
    for index in range(4):
        assert_equal(take(repeat(records[1], 4), index), records[1])
    assert_equal(
        take(pairs(5), np.array([True, False, False, True, False])), take(pairs(5), [0, 3])
    )


def test_filling_up_repeats_the_first_and_never_cuts():
    filled = pad_to(pairs(3), 5)
    assert_equal(take(filled, slice(0, 3)), pairs(3))
    assert_equal(take(filled, [3, 4]), take(pairs(3), [0, 0]))
    assert_equal(pad_to(pairs(5), 3), pairs(5))
    assert [length(part) for part in chunks(pairs(7), 3)] == [3, 3, 1]
    assert chunks(take(pairs(3), slice(0, 0)), 3) == []


def test_lengths_are_few():
    """Powers of two from the least, then multiples of a chunk."""
    assert {length(same_length(pairs(count))[0]) for count in range(1, 65)} == {64}
    assert length(same_length(pairs(3), at_least=2)[0]) == 4
    assert length(same_length(pairs(CHUNK + 1))[0]) == 2 * CHUNK
    one, other = same_length(pairs(65), pairs(3))
    assert length(one) == length(other) == 128


def test_traced_records_work_too():
    def totals(record: Pair) -> Float[Array, ""]:
        batch = stack([take(repeat(record, 3), 1), record])
        return jnp.sum(take(batch, 0).table * take(batch, jnp.asarray(1)).number)

    record = take(pairs(1), 0)
    expected = record.table.sum() * record.number
    assert float(jax.jit(totals)(record)) == pytest.approx(expected, rel=1e-15)
    slope = jax.grad(totals)(jax.tree.map(jnp.asarray, record))
    assert float(slope.number) == pytest.approx(record.table.sum(), rel=1e-15)
