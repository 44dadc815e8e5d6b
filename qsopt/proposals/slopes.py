"""The gradient of a design's throughput in its own numbers at equal quality, in its deployment.

Sizes are real here, the width follows from the goal, and the batch from the limit that binds:

    d log T / dx = f_x + f_w w_x - f_B (g_x + g_w w_x) / g_B,      w_x = -m_x / m_w

with f the log throughput, g the log of what is used over the limit that binds, m the margin of
quality, w the width and B the batch (implicit function theorem, twice). Of two pools the time per
request adds, so slopes of their rates are weighted by the time that each takes.
"""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qsopt.deployments.legality import with_places
from qsopt.programs import compiled
from qsopt.proposals.architecture import COLUMNS, built, from_rows
from qsopt.proposals.bodies import Body
from qsopt.proposals.fields import Task
from qsopt.proposals.goals import Goal, counted, quality
from qsopt.proposals.points import Point
from qsopt.proposals.sizing import WIDTH
from qsopt.serving.candidates import Candidates
from qsopt.serving.replica import Served
from qsopt.serving.trial import trial
from qsopt.spec.service import Service
from qsopt.spec.workload import NO_LIMIT


def slopes(point: Point, task: Task) -> dict[str, float]:
    """d log throughput / d of each number of a design, the width following from the quality."""
    if point.candidate is None:
        return dict.fromkeys(COLUMNS[:-1], float("nan"))
    service = _at_limit(point, task)
    goal = task.goal.scaled(np.float64(point.factor))
    found = [
        _of_pool(np.asarray(point.row), one, np.float64(units), service, goal, task.body)
        for one, units in _pools(point)
    ]
    return dict(zip(COLUMNS[:-1], map(float, _together(found)), strict=True))


def slope_towards(point: Point, task: Task, here: Served, there: Served) -> float:
    """d log throughput along a straight line from how a design is served to how it could be: the
    derivative, at its beginning, over the whole way. The design's own width and deployment stay.

    Args:
        point: the design.
        task: what it was found for.
        here: how it is served now.
        there: of the same structure, with other numbers.
    """
    if point.candidate is None:
        return float("nan")
    limited = _at_limit(point, task)
    here, there = (
        eqx.tree_at(lambda s: s.service.workload.tpot_limit, each, limited.workload.tpot_limit)
        for each in (here, there)
    )
    found = [
        _along(here, _difference(here, there), one, np.float64(units))
        for one, units in _pools(point)
    ]
    return float(_together(found)[0])


def _at_limit(point: Point, task: Task) -> Service:
    """The service with the limit that the design was found for."""
    return eqx.tree_at(
        lambda s: s.workload.tpot_limit, task.service, np.float64(min(point.limit, NO_LIMIT))
    )


def _pools(point: Point) -> list[tuple[Candidates, float]]:
    """The pools of a design with their batches."""
    assert point.candidate is not None
    pools = [(point.candidate, point.units)]
    return pools if point.reader is None else [*pools, (point.reader, 1.0)]


def _together(found: list[tuple[Array, Array]]) -> Float[np.ndarray, " numbers"]:
    """Slopes of pools, weighted by the time that a request takes in each."""
    seconds = np.array([float(each[1]) for each in found])
    total = sum(np.asarray(each[0]) * share for each, share in zip(found, seconds, strict=True))
    return np.asarray(total) / seconds.sum()


def _difference(here: Served, there: Served) -> Served:
    """What real numbers change by; 0 where nothing does, and for what is no real number."""

    def one(a: Any, b: Any) -> np.ndarray:
        first, second = np.asarray(a), np.asarray(b)
        if not np.issubdtype(first.dtype, np.floating) or np.array_equal(first, second, True):
            return np.zeros(first.shape)
        return second - first

    return jax.tree.map(one, here, there)


@partial(compiled, static=("body",))
def _of_pool(
    row: Any, one: Candidates, units: Any, service: Service, goal: Goal, body: Body
) -> tuple[Float[Array, " numbers"], Array]:
    """Slopes of the log rate of one pool, and what a request takes of its devices."""

    def margin(numbers: Array) -> Array:
        return quality(counted(built(from_rows(numbers), body)), goal).margin

    def outputs(moved: Array) -> Float[Array, " outputs"]:
        return _used(Served(built(from_rows(moved[:-1]), body), service), one, moved[-1])

    numbers = jnp.asarray(row)
    grown = jax.grad(margin)(numbers)
    follows = -grown[:WIDTH] / grown[WIDTH]
    at = jnp.concatenate([numbers, jnp.log(units)[None]])
    values, tangents = outputs(at), jax.jacfwd(outputs)(at)
    moved = tangents[:, :WIDTH] + jnp.outer(tangents[:, WIDTH], follows)
    return _at_the_limit(values, moved, tangents[:, -1]), jnp.exp(-values[0])


@compiled
def _along(
    here: Served, change: Served, one: Candidates, units: Any
) -> tuple[Float[Array, " one"], Array]:
    """The slope of the log rate of one pool along a change of how it is served, and what a request
    takes of its devices.
    """

    def outputs(moved: Array) -> Float[Array, " outputs"]:
        served = jax.tree.map(
            lambda a, d: (
                a + moved[0] * d if jnp.issubdtype(jnp.result_type(a), jnp.floating) else a
            ),
            here,
            change,
        )
        return _used(served, one, moved[1])

    at = jnp.stack([jnp.zeros(()), jnp.log(units)])
    values, tangents = outputs(at), jax.jacfwd(outputs)(at)
    return _at_the_limit(values, tangents[:, :1], tangents[:, 1]), jnp.exp(-values[0])


def _used(served: Served, one: Candidates, log_units: Array) -> Float[Array, " outputs"]:
    """Log of the rate of a pool, and of what it uses of its limits on memory and on time."""
    placed = one._replace(layout=with_places(served.model, one.layout, served.service.rules))
    made = trial(served, placed, jnp.exp(log_units))
    used = (
        made.memory.total / made.memory.capacity,
        made.pace.unit.seconds / served.service.workload.tpot_limit,
    )
    return jnp.log(jnp.stack([made.value, *used]))


def _at_the_limit(
    values: Array, moved: Float[Array, "outputs numbers"], by_batch: Array
) -> Float[Array, " numbers"]:
    """Slopes of the rate where the batch keeps the limit that binds."""
    binds = 1 + jnp.argmax(values[1:])
    growing = by_batch[binds] > _FLAT
    batch = jnp.where(growing, -moved[binds] / jnp.where(growing, by_batch[binds], 1.0), 0.0)
    return moved[0] + by_batch[0] * batch


_FLAT = 1e-6
"""A limit that the batch moves less than this does not set it."""
