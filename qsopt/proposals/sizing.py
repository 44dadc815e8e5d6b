"""The width at which an architecture has the quality asked for.

By bisection in its log, for thousands of architectures in one call; then the least multiple of the
step at which the goal is met. Nothing is left to a penalty: every design that is looked at is as
good as the goal by its law.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from qsopt.deployments.batches import in_batches
from qsopt.programs import compiled
from qsopt.proposals.architecture import COLUMNS, built, from_rows
from qsopt.proposals.bodies import Body
from qsopt.proposals.boxes import Table
from qsopt.proposals.goals import Counted, Goal, Quality, counted, quality

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
    narrow, wide = (_counts(_with_width(rows, width), body) for width in _WIDTHS)
    widths, found = in_batches(
        lambda part: _sized(*part, goal, np.float64(step)), (narrow, wide, factors), AT_ONCE
    )
    return Sized(_with_width(rows, widths), found)


def judged(rows: Table, goal: Goal, body: Body) -> Quality:
    """How architectures are judged as they are."""
    return in_batches(lambda part: _judged(part, goal), _counts(rows, body), AT_ONCE)


_WIDTHS = (1024.0, 2048.0)
"""Widths at which architectures are counted: all counts are linear in the width."""


def _with_width(rows: Table, width: Any) -> Table:
    changed = np.array(rows, float)
    changed[:, WIDTH] = width
    return changed


def _counts(rows: Table, body: Body) -> Counted:
    """What a law sees of each, whatever the law."""
    return in_batches(lambda part: _counted(part, body), np.asarray(rows, float), AT_ONCE)


@partial(compiled, static=("body",))
def _counted(rows: Any, body: Body) -> Counted:
    return jax.vmap(lambda row: counted(built(from_rows(row), body)))(rows)


@compiled
def _judged(designs: Counted, goal: Goal) -> Quality:
    return jax.vmap(lambda one: quality(one, goal))(designs)


@compiled
def _sized(narrow: Counted, wide: Counted, factors: Any, goal: Goal, step: Any):
    def one(first: Counted, second: Counted, factor: Array) -> tuple[Array, Quality]:
        wanted = goal.scaled(factor)

        def at(width: Array) -> Quality:
            share = (width - _WIDTHS[0]) / (_WIDTHS[1] - _WIDTHS[0])
            line = jax.tree.map(lambda a, b: a + share * (b - a), first, second)
            return quality(line, wanted)

        def narrowed(_: int, span: tuple[Array, Array]) -> tuple[Array, Array]:
            middle = 0.5 * (span[0] + span[1])
            enough = at(jnp.exp(middle)).margin >= 0.0
            return jnp.where(enough, span[0], middle), jnp.where(enough, middle, span[1])

        bracket = jnp.log(jnp.asarray(LOWEST)), jnp.log(jnp.asarray(HIGHEST))
        _, high = lax.fori_loop(0, HALVINGS, narrowed, bracket)
        width = jnp.exp(high)
        width = jnp.maximum(jnp.ceil(width / step * (1.0 - _ROUNDING)), 1.0) * step
        return width, at(width)

    return jax.vmap(one)(narrow, wide, factors)


_ROUNDING = 1e-9
"""Relative excess of a width over a step that counts as rounding."""
