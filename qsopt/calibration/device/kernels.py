"""Kernels of a decode step in JAX, and their times on whatever device JAX sees.

An MoE layer is run in two ways: with `jax.lax.ragged_dot`, and as a loop over the experts that are
hit, which reads no other. On a CPU `ragged_dot` computes every expert on every row and masks, so
only the loop shows what routing costs there.
"""

import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

REPEATS = 9
"""Timed runs of a kernel; the fastest counts, as others use the machine too."""


def timed(kernel: Callable[..., jax.Array], *arguments: jax.Array) -> float:
    """Shortest time of a kernel after one run that compiles it [s]."""
    jax.block_until_ready(kernel(*arguments))
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(kernel(*arguments))
        times.append(time.perf_counter() - start)
    return min(times)


@jax.jit
def dense_ffn(x: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
    """A gated feed-forward layer: gate and up as one product, then down."""
    gate, value = jnp.split(x @ up, 2, axis=-1)
    return (jax.nn.silu(gate) * value) @ down


@jax.jit
def ragged_moe(rows: jax.Array, sizes: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
    """Routed experts on rows sorted by expert, as grouped products."""
    gate, value = jnp.split(jax.lax.ragged_dot(rows, up, sizes), 2, axis=-1)
    return jax.lax.ragged_dot(jax.nn.silu(gate) * value, down, sizes)


@partial(jax.jit, static_argnums=5)
def looped_moe(
    rows: jax.Array, hit: jax.Array, starts: jax.Array, up: jax.Array, down: jax.Array, most: int
) -> jax.Array:
    """Routed experts as a loop over those hit: `most` rows from where the expert's rows start."""

    def expert(number: jax.Array, out: jax.Array) -> jax.Array:
        start = starts[number]
        mine = jax.lax.dynamic_slice_in_dim(rows, start, most)
        done = dense_ffn(mine, up[hit[number]], down[hit[number]])
        return jax.lax.dynamic_update_slice_in_dim(out, done, start, 0)

    return jax.lax.fori_loop(0, hit.shape[0], expert, jnp.zeros_like(rows))


@jax.jit
def decode_attention(query: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
    """One token of each sequence over its cache: query [b, K, g, d], keys and values [b, K, S,
    d].
    """
    scores = jnp.einsum("bkgd,bksd->bkgs", query, keys)
    return jnp.einsum("bkgs,bksd->bkgd", jax.nn.softmax(scores, axis=-1), values)


def routing(tokens: int, experts: int, top_k: int, seed: int) -> np.ndarray:
    """Rows of each expert when every token picks `top_k` of them at random."""
    generator = np.random.default_rng([seed, tokens])
    picks = [generator.choice(experts, top_k, replace=False) for _ in range(tokens)]
    return np.bincount(np.concatenate(picks), minlength=experts)


def run_ragged(width: tuple[int, int], sizes: np.ndarray, up: jax.Array, down: jax.Array) -> float:
    """Time of the grouped products [s]."""
    rows = jnp.ones((int(sizes.sum()), width[0]), up.dtype)
    return timed(ragged_moe, rows, jnp.asarray(sizes, jnp.int32), up, down)


def run_looped(width: tuple[int, int], sizes: np.ndarray, up: jax.Array, down: jax.Array) -> float:
    """Time of the loop over the experts hit [s]."""
    hit = np.flatnonzero(sizes)
    starts = np.concatenate([[0], np.cumsum(sizes)])[hit]
    rows = jnp.ones((int(sizes.sum() + sizes.max()), width[0]), up.dtype)
    kernel = partial(looped_moe, most=int(sizes.max()))
    return timed(
        kernel, rows, jnp.asarray(hit, jnp.int32), jnp.asarray(starts, jnp.int32), up, down
    )


def bandwidth(megabytes: int) -> float:
    """Bytes read and written in a second by adding to an array in place [byte/s]."""
    size = megabytes * 2**20 // 4
    passes = 4

    @jax.jit
    def added(array: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, passes, lambda _, held: held + 1.0, array)

    array = jnp.ones(size, jnp.float32)
    return passes * 2.0 * array.nbytes / timed(added, array)


def peak(size: int, dtype: jnp.dtype) -> float:
    """FLOP/s of a large square product [FLOP/s]."""
    square = jnp.ones((size, size), dtype)
    return 2.0 * size**3 / timed(jax.jit(jnp.matmul), square, square)
