"""Gradient descent with Adam and a cosine schedule, from start to end as one loop that JAX
compiles.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import optax

from qsopt.arrays import Scalar

Tree = TypeVar("Tree")


def minimiser(loss: Callable[[Tree], Scalar], start: Tree, rate: float, steps: int) -> Tree:
    """The tree with the least loss that a descent from `start` reaches in so many steps."""
    optimiser = optax.adam(optax.cosine_decay_schedule(rate, steps, 0.02))

    def step(carry: tuple[Any, optax.OptState], _: None) -> tuple[tuple[Any, optax.OptState], None]:
        tree, state = carry
        slope = jax.grad(loss)(tree)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes its step count with floats
            updates, state = optimiser.update(slope, state)
            return (optax.apply_updates(tree, updates), state), None

    (tree, _), _ = jax.lax.scan(step, (start, optimiser.init(start)), None, length=steps)  # pyright: ignore[reportArgumentType]
    return tree
