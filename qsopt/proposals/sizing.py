"""The width at which an architecture has the quality asked for.

By bisection in its log, for thousands of architectures in one call; then the least multiple of the
step at which the goal is met. Nothing is left to a penalty: every design that is looked at is as
good as the goal by its law.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from qsopt.deployments.batches import in_batches
from qsopt.proposals.architecture import COLUMNS, Architecture, built, from_rows
from qsopt.proposals.bodies import Body
from qsopt.proposals.boxes import Table
from qsopt.proposals.goals import Goal, Quality, quality

AT_ONCE = 1024
"""Architectures of a call."""

LOWEST, HIGHEST = 1e-1, 1e7
"""Between which a width is looked for."""

HALVINGS = 48
"""To 1e-13 of the bracket's 18 e-folds."""

WIDTH = COLUMNS.index("width")


class Sized(NamedTuple):
    """Architectures with their widths, and how they are judged."""

    rows: Table
    quality: Quality
    """Of each, at its width."""


def sized(
    rows: Table,
    goal: Goal,
    body: Body,
    step: float,
    factor: Float[np.ndarray, " designs"] | None = None,
) -> Sized:
    """The architectures at the least width that meets the goal.

    Args:
        rows: architectures; their widths are not used.
        goal: what is asked of quality.
        body: what they keep of the reference.
        step: widths are multiples of it.
        factor: of the size of the goal, for each; 1 if left out.
    """
    factors = np.ones(len(rows)) if factor is None else factor
    widths, judged = in_batches(
        lambda part: _sized(part, goal, np.float64(step), body), (rows, factors), AT_ONCE
    )
    with_width = np.array(rows, float)
    with_width[:, WIDTH] = widths
    return Sized(with_width, judged)


def judged(rows: Table, goal: Goal, body: Body) -> Quality:
    """How architectures are judged as they are."""
    return in_batches(lambda part: _judged(part, goal, body), np.asarray(rows, float), AT_ONCE)


@eqx.filter_jit
def _judged(rows: Array, goal: Goal, body: Body) -> Quality:
    return jax.vmap(lambda row: quality(built(from_rows(row), body), goal))(rows)


@eqx.filter_jit
def _sized(part: tuple[Array, Array], goal: Goal, step: Array, body: Body):
    def one(row: Array, factor: Array):
        wanted = goal.scaled(factor)

        def at(width: Array) -> Quality:
            return quality(built(_with_width(row, width), body), wanted)

        def narrowed(_: int, span: tuple[Array, Array]) -> tuple[Array, Array]:
            middle = 0.5 * (span[0] + span[1])
            enough = at(jnp.exp(middle)).margin >= 0.0
            return jnp.where(enough, span[0], middle), jnp.where(enough, middle, span[1])

        bracket = jnp.log(jnp.asarray(LOWEST)), jnp.log(jnp.asarray(HIGHEST))
        _, high = lax.fori_loop(0, HALVINGS, narrowed, bracket)
        width = jnp.exp(high)
        width = jnp.maximum(jnp.ceil(width / step * (1.0 - _ROUNDING)), 1.0) * step
        return width, at(width)

    return jax.vmap(one)(*part)


_ROUNDING = 1e-9
"""Relative excess of a width over a step that counts as rounding."""


def _with_width(row: Array, width: Array) -> Architecture:
    return eqx.tree_at(lambda one: one.width, from_rows(row), width)
