"""The relaxed search: many starts at once, gradient steps in scaled log space under an augmented
Lagrangian.

    inner(x) = -log objective + sum_i (max(0, l_i + r g_i)^2 - l_i^2) / 2r

over the deployment constraints g_i <= 0, and outer(x) is the same sum over the architecture
constraints. Every variable goes down on inner + outer; where the worst architecture is asked for,
architecture variables go up on `inner` while the deployment still goes down. After each round of
steps l_i <- max(0, l_i + r g_i), and the smoothing shrinks. A start ends at its best point that
keeps the constraints; a point that is not a number is never it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Bool, Float

from qsopt.arrays import Scalar
from qsopt.programs import compiled
from qsopt.search.constraints import ARCHITECTURE_LIMITS, DEPLOYMENT_LIMITS
from qsopt.search.relaxed import Relaxed, Terms, terms

SOFTNESS = (0.3, 0.01)
"""Smoothing of the first and of the last round (see `smooth`: a maximum is at most 2**softness too
large).
"""

RATE = (0.05, 0.004)
"""Step of the first and of the last round, of the way between a variable's bounds."""

STRENGTH = 20.0
"""r of the augmented Lagrangian."""

ROUNDS, STEPS = 12, 30
"""Rounds of the multipliers, and steps of each."""

BROKEN = 1e6
"""Cost from which on a point breaks a constraint."""

KEPT = 5e-3
"""Excess of a log ratio that counts as kept in the relaxed search."""


@dataclass(frozen=True)
class Optimiser:
    """A rule of optax, made anew where it is used."""

    make: Callable[[], optax.GradientTransformation]
    own_steps: bool = False
    """Whether it finds the length of its steps itself; such a rule starts afresh when the
    multipliers change.
    """


def _adam() -> optax.GradientTransformation:
    return optax.scale_by_adam(b1=0.8, b2=0.95)


ADAM = Optimiser(_adam)
"""Chosen by measurement (docs/search.md): of rules that take one gradient a step it comes nearest
to the best optimum.
"""


class Start(NamedTuple):
    """State of one start."""

    point: Float[Array, " free"]
    """Where it is, in the unit cube."""
    optimiser: optax.OptState
    """What the optimiser remembers."""
    multipliers: tuple[Float[Array, " limits"], Float[Array, " limits"]]
    """Of the deployment and of the architecture constraints."""
    best_point: Float[Array, " free"]
    """The best point of this round."""
    best_cost: Scalar
    """What it costs (see `Ends`)."""


class StepSettings(NamedTuple):
    """What changes from step to step."""

    softness: Scalar
    """Smoothing of the model."""
    rate: Scalar
    """Length of the step, of the way between a variable's bounds."""
    last: Scalar
    """1 at the last step of a round, when the multipliers are renewed."""
    first: Scalar
    """1 at the first, when the best of the softer round before is forgotten."""


class Ends(eqx.Module):
    """Where the starts end."""

    points: Float[Array, "starts free"]
    """Points of the unit cube."""
    costs: Float[Array, " starts"]
    """The negative of the log objective, or itself where the worst architecture is asked for: the
    smaller, the better; `BROKEN` and more where a constraint is broken.
    """

    @property
    def best_index(self) -> int:
        """The start that ends best (concrete values only)."""
        return int(np.argmin(np.asarray(self.costs)))


@partial(compiled, static=("optimiser",))
def descend(
    relaxed: Relaxed,
    points: Float[Array, "starts free"],
    ways: Float[Array, " starts"],
    optimiser: Optimiser = ADAM,
) -> Ends:
    """All starts through all rounds."""

    def one(point: Float[Array, " free"], way: Scalar) -> Ends:
        step = partial(_step, relaxed, way, optimiser)
        end, _ = lax.scan(
            lambda state, settings: (step(state, settings), None),
            _fresh(optimiser, point),
            _schedule(),
        )
        return Ends(end.best_point, end.best_cost)

    return jax.vmap(one)(points, ways)


def _schedule() -> StepSettings:
    """Smoothing and step shrink from round to round."""
    part = jnp.repeat(jnp.linspace(0.0, 1.0, ROUNDS), STEPS)
    place = jnp.arange(ROUNDS * STEPS) % STEPS
    softness, rate = (first * (last / first) ** part for first, last in (SOFTNESS, RATE))
    return StepSettings(
        softness, rate, jnp.where(place == STEPS - 1, 1.0, 0.0), jnp.where(place == 0, 1.0, 0.0)
    )


def _fresh(optimiser: Optimiser, point: Float[Array, " free"]) -> Start:
    multipliers = (jnp.zeros(len(DEPLOYMENT_LIMITS)), jnp.zeros(len(ARCHITECTURE_LIMITS)))
    return Start(point, optimiser.make().init(point), multipliers, point, jnp.asarray(jnp.inf))


def _step(
    relaxed: Relaxed, way: Scalar, optimiser: Optimiser, state: Start, settings: StepSettings
) -> Start:
    def parts(point: Float[Array, " free"]) -> tuple[tuple[Scalar, Scalar], Terms]:
        """inner and outer."""
        at = terms(relaxed, point, way, settings.softness)
        deployment, architecture = (
            _penalty(multipliers, ratios)
            for multipliers, ratios in zip(state.multipliers, at[1:], strict=True)
        )
        return (deployment - at.log_objective, architecture), at

    inner, outer, at = _gradients(parts, state.point)
    gradient = jnp.where(relaxed.is_architecture, relaxed.sense, 1.0) * inner + outer
    gradient = jnp.where(jnp.isfinite(gradient), gradient, jnp.zeros_like(gradient))
    move, memory = _moved(
        optimiser,
        gradient,
        state,
        settings,
        lambda point: sum(parts(point)[0]),  # pyright: ignore[reportArgumentType]
    )
    better, cost = _is_better(relaxed, state, at, settings)
    return Start(
        jnp.clip(state.point + move, 0.0, 1.0),
        memory,
        tuple(  # pyright: ignore[reportArgumentType]
            _renewed(*pair, settings.last) for pair in zip(state.multipliers, at[1:], strict=True)
        ),
        jnp.where(better, state.point, state.best_point),
        jnp.where(better, cost, state.best_cost),
    )


def _moved(
    optimiser: Optimiser,
    gradient: Float[Array, " free"],
    state: Start,
    settings: StepSettings,
    value: Callable[[Float[Array, " free"]], Scalar],
) -> tuple[Float[Array, " free"], optax.OptState]:
    """The step that an optimiser takes, and what it remembers."""
    rule, memory = optax.with_extra_args_support(optimiser.make()), state.optimiser
    with jax.numpy_dtype_promotion("standard"):  # optax counts steps in integers
        if not optimiser.own_steps:
            updates, memory = rule.update(gradient, memory)
            return -settings.rate * jnp.asarray(updates), memory
        fresh = rule.init(state.point)
        memory = jax.tree.map(
            lambda new, old: jnp.where(settings.first > 0.0, new, old), fresh, memory
        )
        line_search = {"value": value(state.point), "grad": gradient, "value_fn": value}
        updates, memory = rule.update(gradient, memory, state.point, **line_search)
    return jnp.asarray(updates), memory


def _is_better(
    relaxed: Relaxed, state: Start, at: Terms, settings: StepSettings
) -> tuple[Bool[Array, ""], Scalar]:
    """Whether the point beats the best of this round, and its cost. Of the worst architecture the
    last point counts.

    There a bad deployment of any architecture would look better than a good one of the worst.
    """
    excess = jnp.maximum(jnp.max(at.deployment), jnp.max(at.architecture))
    cost = jnp.where(excess <= KEPT, -relaxed.sense * at.log_objective, BROKEN + excess)
    beaten = (cost < state.best_cost) | (settings.first > 0.0) | (relaxed.sense < 0.0)
    return jnp.isfinite(cost) & beaten, cost


def _renewed(
    multipliers: Float[Array, " limits"], ratios: Float[Array, " limits"], last: Scalar
) -> Float[Array, " limits"]:
    pushed = jnp.maximum(0.0, multipliers + STRENGTH * ratios)
    return jnp.where((last > 0.0) & jnp.isfinite(pushed), pushed, multipliers)


def _gradients(
    parts: Callable[[Float[Array, " free"]], tuple[tuple[Scalar, Scalar], Terms]],
    point: Float[Array, " free"],
) -> tuple[Float[Array, " free"], Float[Array, " free"], Terms]:
    """Gradients of both parts from one pass forwards, and the terms that they come from."""
    _, pull, at = jax.vjp(parts, point, has_aux=True)
    inner, outer = jnp.eye(2)  # cotangents: (1, 0) pulls the gradient of inner, (0, 1) of outer
    (gradients,) = jax.vmap(pull)((inner, outer))
    return gradients[0], gradients[1], at


def _penalty(multipliers: Float[Array, " limits"], ratios: Float[Array, " limits"]) -> Scalar:
    """Of inequalities in an augmented Lagrangian (Rockafellar 1973): smooth, and without a slope
    where a constraint is kept by more than l / r.
    """
    pushed = jnp.maximum(0.0, multipliers + STRENGTH * ratios)
    return jnp.sum(pushed**2 - multipliers**2) / (2.0 * STRENGTH)


def spread(
    count: int, free: int, seed: int
) -> tuple[Float[np.ndarray, "count free"], Float[np.ndarray, " count"]]:
    """Points spread over the unit cube (Latin hypercube), and ways of communication, half of
    each.
    """
    draw = np.random.default_rng(seed)
    order = np.argsort(draw.random((free, count)), axis=1).T
    return (order + draw.random((count, free))) / count, (np.arange(count) % 2).astype(float)
