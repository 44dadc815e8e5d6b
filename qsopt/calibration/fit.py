"""The fit: pooled values for each family (kind, backend, format), deviations of generations of
accelerators from them, and of accelerators from their generation, all by one descent.

    loss = sum over rows of w huber(log predicted - log measured)/RELATED + sum
    (deviation/spread)^2/2 + weak prior on the pool

Positive parameters move in log space and shares in logit space, where they stay below 1. A row
counts 1/RELATED, as rows of one series are no independent witnesses. The deviation of an
accelerator without rows stays at 0: it is predicted by its generation, and where that has no rows
either by the pool. Splits and bootstrap draws are weights of rows, one descent each.
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from qsopt.arrays import Scalar
from qsopt.calibration.descent import minimiser
from qsopt.calibration.form import Form, seconds
from qsopt.calibration.points import Points, unlabelled
from qsopt.fitted.generations import generation

KNEE = 0.15
"""Log error beyond which the loss grows linearly: about the noise between repeats of one
measurement.
"""

RELATED = 30.0
"""Rows that count as one independent witness."""

SHARES = ("bandwidth", "compute", "softness")
"""Parameters between 0 and 1: no kernel is faster than its device, even where a table says so."""

SPREAD = {"launch": 0.4, "bandwidth": 0.8, "compute": 0.8, "softness": 1.0, "step": 0.7}
"""Prior standard deviation of a generation's deviation from the pool, in log, or in logit for
`SHARES`.
"""

_OTHER_SPREAD = 0.6
_SIBLINGS = 0.5
"""Prior standard deviation of an accelerator's deviation from its generation, over that."""
_POOL_SPREAD = 6.0
"""The pool's prior about its start is that many times wider."""

STEPS, RATE = 300, 0.08


class Membership(eqx.Module):
    """Which family and which accelerator each row belongs to."""

    families: tuple[str, ...] = eqx.field(static=True)
    accelerators: tuple[str, ...] = eqx.field(static=True)
    generations: tuple[str, ...] = eqx.field(static=True)
    family: np.ndarray
    accelerator: np.ndarray
    generation: np.ndarray
    """Of each accelerator, not of each row."""


def membership(points: Points) -> Membership:
    """Families, accelerators and generations of some rows."""
    families, family = np.unique(points.labels.family, return_inverse=True)
    gpus, gpu = np.unique(points.labels.gpu, return_inverse=True)
    generations, place = np.unique([generation(str(name)) for name in gpus], return_inverse=True)
    return Membership(
        tuple(map(str, families)),
        tuple(map(str, gpus)),
        tuple(map(str, generations)),
        family,
        gpu,
        place,
    )


class Theta(eqx.Module):
    """Unconstrained parameters."""

    pool: Float[Array, "families parameters"]
    generation: Float[Array, "families generations parameters"]
    own: Float[Array, "families accelerators parameters"]

    def rows(self, member: Membership) -> Float[Array, "rows parameters"]:
        """The parameters of each row."""
        generation = member.generation[member.accelerator]
        return (
            self.pool[member.family]
            + self.generation[member.family, generation]
            + self.own[member.family, member.accelerator]
        )


class Fit(eqx.Module):
    """Parameters after the descent, and the predicted log times, for each set of weights."""

    form: Form = eqx.field(static=True)
    membership: Membership
    theta: Theta
    log_seconds: Float[np.ndarray, "sets rows"]

    def values(
        self, family: int, accelerator: int | None = None, chosen: int = 0
    ) -> dict[str, float]:
        """Parameters of a family: the pool's, or an accelerator's own."""
        if accelerator is None:
            return self._named(self.theta.pool[chosen, family])
        own = self.theta.own[chosen, family, accelerator]
        generation = int(self.membership.generation[accelerator])
        return self._named(self._siblings(family, generation, chosen) + own)

    def generation_values(self, family: int, generation: int, chosen: int = 0) -> dict[str, float]:
        """Parameters of a family for accelerators of a generation that were not measured."""
        return self._named(self._siblings(family, generation, chosen))

    def _siblings(self, family: int, generation: int, chosen: int) -> Float[Array, " parameters"]:
        return self.theta.pool[chosen, family] + self.theta.generation[chosen, family, generation]

    def _named(self, free: Float[Array, " parameters"]) -> dict[str, float]:
        return {name: float(value) for name, value in constrained(self.form, free).items()}


def constrained(form: Form, free: Float[Array, "*rows parameters"]) -> dict[str, Scalar]:
    """Physical parameters from unconstrained ones."""
    return {
        name: jax.nn.sigmoid(free[..., place]) if name in SHARES else jnp.exp(free[..., place])
        for place, name in enumerate(form.names)
    }


def fit(points: Points, form: Form, weights: Float[np.ndarray, "sets rows"] | None = None) -> Fit:
    """Fit a form to points of one kind.

    Args:
        points: of one kind; families share nothing but the form.
        form: which parameters are fitted.
        weights: of the rows, one descent for each set; all ones if left out.
    """
    member = membership(points)
    sets = np.ones((1, len(points))) if weights is None else weights
    theta, log_seconds = _descend(unlabelled(points), member, form, jnp.asarray(sets, dtype=float))
    return Fit(form, member, theta, np.asarray(log_seconds))


@partial(jax.jit, static_argnums=2)
def _descend(
    points: Points, member: Membership, form: Form, weights: Float[Array, "sets rows"]
) -> tuple[Theta, Float[Array, "sets rows"]]:
    measured = jnp.log(points.seconds)
    start = jnp.array(
        [_free(name, value) for name, value in zip(form.names, form.start, strict=True)]
    )
    spread = jnp.array([SPREAD.get(name, _OTHER_SPREAD) for name in form.names])
    families, width = len(member.families), len(start)
    first = Theta(
        jnp.tile(start, (families, 1)),
        jnp.zeros((families, len(member.generations), width)),
        jnp.zeros((families, len(member.accelerators), width)),
    )

    def predicted(theta: Theta) -> Float[Array, " rows"]:
        return jnp.log(seconds(points, constrained(form, theta.rows(member))))

    def loss(theta: Theta, weight: Float[Array, " rows"]) -> Scalar:
        misfit = (
            jnp.sum(weight * optax.losses.huber_loss(predicted(theta), measured, delta=KNEE))
            / KNEE**2
            / RELATED
        )
        prior = (
            jnp.sum((theta.generation / _like(spread, theta.generation)) ** 2)
            + jnp.sum((theta.own / _like(spread * _SIBLINGS, theta.own)) ** 2)
            + jnp.sum(((theta.pool - first.pool) / _like(spread * _POOL_SPREAD, theta.pool)) ** 2)
        )
        return misfit + 0.5 * prior

    def descend(weight: Float[Array, " rows"]) -> tuple[Theta, Float[Array, " rows"]]:
        theta = minimiser(lambda theta: loss(theta, weight), first, RATE, STEPS)
        return theta, predicted(theta)

    return jax.lax.map(descend, weights)


def _like(spread: Float[Array, " parameters"], values: Array) -> Array:
    """The spread of each of some values, whose last axis is that of the parameters."""
    return jnp.broadcast_to(spread, values.shape)


def _free(name: str, value: float) -> float:
    return float(np.log(value / (1.0 - value)) if name in SHARES else np.log(value))
