"""Numbers that trace: every numeric field of a design is a strongly typed 0-d float, so two designs
share one compilation.
"""

from typing import TYPE_CHECKING, Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float

from qsopt.xp import is_of_jax

if TYPE_CHECKING:
    Scalar: TypeAlias = Any
    """A traced number: constructors take any real number, formulas give 0-d float arrays."""
    Table: TypeAlias = Any
    """A short array of traced numbers."""
else:
    Scalar = Float[ArrayLike, ""]
    Table = Float[ArrayLike, "..."]

Softness: TypeAlias = Scalar | float | None
"""How far the exact model is relaxed (see `physics.smooth`)."""

EXACT: Softness = None
"""Not at all: what is relaxed is then left out of a program, while softness 0.0 is the same number
by the general form.
"""


def scalar(value: object) -> Any:
    """Convert numbers to strongly typed floats; traced and batched values pass through.

    A Python float is weakly typed under `jax.jit` and would compile again beside a strongly typed
    one. A NumPy scalar, not an array of no dimensions: JAX reads it anew in each precision (see
    `precision`).
    """
    if isinstance(value, jax.Array):
        return value if np.issubdtype(value.dtype, np.floating) else value.astype(float)
    return np.asarray(value, dtype=np.float64)[()]


def number(default: float | None = None) -> Any:
    """A numeric field of a specification, traced under `jit`."""
    if default is None:
        return eqx.field(converter=scalar)
    return eqx.field(converter=scalar, default=default)


def optional_number() -> Any:
    """A numeric field that may be absent: with None, what it would do is left out of a program."""
    return eqx.field(converter=lambda value: None if value is None else scalar(value), default=None)


def numbers() -> Any:
    """A field of a specification that holds a short list of numbers, traced under `jit`."""
    return eqx.field(converter=scalar)


def integer(value: object) -> Any:
    """Convert to a strongly typed 0-d int32 used as an index into a table."""
    return value if isinstance(value, jax.Array) else np.asarray(value, dtype=np.int32)


def entry(table: Table, index: Array) -> Scalar:
    """One entry of a small table at a traced index that is known to be inside it."""
    if not is_of_jax(table, index):
        return np.asarray(table)[index]
    index = jnp.asarray(index)
    return lax.dynamic_index_in_dim(
        jnp.asarray(table), index, keepdims=False, allow_negative_indices=False
    )


def is_concrete(tree: object) -> bool:
    """Whether no leaf of `tree` is being traced, so that its values may be looked at."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))
