"""The gradient of a design's throughput in its own numbers at equal quality, in its deployment.

Sizes are real here, the width follows from the goal, and the batch from the limit that binds:

    d log T / dx = f_x + f_w w_x - f_B (g_x + g_w w_x) / g_B,      w_x = -m_x / m_w

with f the log throughput, g the log of what is used over the limit that binds, m the margin of
quality, w the width and B the batch (implicit function theorem, twice). Of two pools the time per
request adds, so slopes of their rates are weighted by the time that each takes.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qsopt.deployments.legality import with_places
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
    service = eqx.tree_at(
        lambda s: s.workload.tpot_limit, task.service, np.float64(min(point.limit, NO_LIMIT))
    )
    goal = task.goal.scaled(np.float64(point.factor))
    pools = [(point.candidate, point.units)]
    if point.reader is not None:
        pools.append((point.reader, 1.0))
    found = [
        _of_pool(np.asarray(point.row), one, np.float64(units), service, goal, task.body)
        for one, units in pools
    ]
    seconds = np.array([float(each[1]) for each in found])
    total = sum(np.asarray(each[0]) * share for each, share in zip(found, seconds, strict=True))
    return dict(zip(COLUMNS[:-1], map(float, total / seconds.sum()), strict=True))


@eqx.filter_jit
def _of_pool(
    row: Any, one: Candidates, units: Any, service: Service, goal: Goal, body: Body
) -> tuple[Float[Array, " numbers"], Array]:
    """Slopes of the log rate of one pool, and what a request takes of its devices."""

    def margin(numbers: Array) -> Array:
        return quality(counted(built(from_rows(numbers), body)), goal).margin

    def outputs(moved: Array) -> Float[Array, " outputs"]:
        model = built(from_rows(moved[:-1]), body)
        placed = one._replace(layout=with_places(model, one.layout, service.rules))
        made = trial(Served(model, service), placed, jnp.exp(moved[-1]))
        workload = service.workload
        used = (
            made.memory.total / made.memory.capacity,
            made.pace.unit.seconds / workload.tpot_limit,
        )
        return jnp.log(jnp.stack([made.value, *used]))

    numbers = jnp.asarray(row)
    grown = jax.grad(margin)(numbers)
    follows = -grown[:WIDTH] / grown[WIDTH]
    at = jnp.concatenate([numbers, jnp.log(units)[None]])
    values, tangents = outputs(at), jax.jacfwd(outputs)(at)
    moved = tangents[:, :WIDTH] + jnp.outer(tangents[:, WIDTH], follows)
    by_batch = tangents[:, -1]
    binds = 1 + jnp.argmax(values[1:])
    growing = by_batch[binds] > _FLAT
    batch = jnp.where(growing, -moved[binds] / jnp.where(growing, by_batch[binds], 1.0), 0.0)
    return moved[0] + by_batch[0] * batch, jnp.exp(-values[0])


_FLAT = 1e-6
"""A limit that the batch moves less than this does not set it."""
