"""The best way to serve requests where a user has named sizes, a batch, or nothing: one pool, whose
layout both phases share, with the best chunk.
"""

import numpy as np
from jaxtyping import Float

from qsopt.deployments.batches import length, take
from qsopt.serving.answer import closest, option
from qsopt.serving.candidates import ALTERNATING, Candidates
from qsopt.serving.plan import Plan
from qsopt.serving.ranking import Option, ranked
from qsopt.serving.replica import Served
from qsopt.serving.trial import Trial, layout_at
from qsopt.serving.trials import Rows, asked_once, asking
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
    places = np.arange(length(every))
    ask = asking(served, asked_once(served), every, capped=False)
    tried = ask(Rows(0 * places, places), units).trial
    score = np.where(tried.allowed, tried.value, 0.0)
    excess = _excess(served, tried)
    index = int(np.argmax(score)) if tried.allowed.any() else int(np.argmin(excess))
    one = take(every, index)
    way = "alternating" if one.kind == ALTERNATING else "mixed"
    layout = layout_at(one, units[index])
    return option(served, Plan(layout, layout, tried.tokens[index]), way)


def _excess(served: Served, tried: Trial) -> Float[np.ndarray, " candidates"]:
    """By how much each exceeds the limit that it breaks most."""
    workload, pace = served.service.workload, tried.pace
    broken = (
        tried.memory.total / tried.memory.capacity,
        pace.unit.seconds / workload.tpot_limit,
        tried.ttft / workload.ttft_limit,
        pace.reading,
    )
    return np.max(np.stack(broken), axis=0)
