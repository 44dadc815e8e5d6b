"""The best way to serve requests where a user has named sizes, a batch, or nothing: one pool, whose
layout both phases share, with the best chunk.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from qsopt.arrays import Scalar
from qsopt.deployments.batches import take
from qsopt.serving.answer import closest, option
from qsopt.serving.candidates import ALTERNATING, Candidates
from qsopt.serving.optimum import one_pool_plan
from qsopt.serving.ranking import Option, ranked
from qsopt.serving.replica import Served
from qsopt.serving.trial import Trial, trial
from qsopt.serving.ways import lists
from qsopt.spec.deployment import Deployment

ONE_POOL = ("mixed", "alternating")
"""Ways in which one pool of devices does both."""


def best_given(
    served: Served,
    layouts: Deployment,
    batch: float | None = None,
    ways: tuple[str, ...] = ONE_POOL,
) -> Option:
    """The best of some layouts; where none keeps the limits, the one that comes closest.

    Args:
        served: model, service and draft.
        layouts: legal ones that are left open; of which `batch` fills all ranks and stages.
        batch: sequences that decode at once in a replica; the best if left out.
        ways: of `ONE_POOL`.
    """
    every, groups = lists(layouts, ways)
    if batch is None:
        best = ranked(served, every, groups, 1)
        if best:
            return best[0]
        near = closest(served, every, groups)
        if near is not None:
            return near
    unit = every.layout.pipeline * every.layout.data
    units = np.ones_like(unit) if batch is None else batch / unit
    return _at_units(served, every, units)


def _at_units(served: Served, every: Candidates, units: Float[np.ndarray, " candidates"]) -> Option:
    """The best candidate at given batch units; the closest where none keeps the limits."""
    allowed, value, excess = map(np.asarray, _tried(served, every, units))
    score = np.where(allowed, value, 0.0)
    index = int(np.argmax(score)) if allowed.any() else int(np.argmin(excess))
    one = take(every, index)
    way = "alternating" if one.kind == ALTERNATING else "mixed"
    return option(served, one_pool_plan(served, one, jnp.asarray(units[index])), way)


@jax.jit
def _tried(
    served: Served, every: Candidates, units: Float[Array, " candidates"]
) -> tuple[Bool[Array, " candidates"], Float[Array, " candidates"], Float[Array, " candidates"]]:
    """Whether each keeps the limits, what it serves, and by how much it exceeds the limit that it
    breaks most.
    """
    trials = jax.vmap(partial(trial, served))(every, units)
    return trials.allowed, trials.value, jax.vmap(partial(_excess, served))(trials)


def _excess(served: Served, tried: Trial) -> Scalar:
    workload, pace = served.service.workload, tried.pace
    broken = (
        tried.memory.total / tried.memory.capacity,
        pace.unit.seconds / workload.tpot_limit,
        pace.ttft(workload) / workload.ttft_limit,
        pace.reading,
    )
    return jnp.max(jnp.stack(broken))
