"""The best way of serving requests, exactly: every candidate with its largest batch that keeps the
limits.

With a chunk given, throughput does not fall with the batch while prompts keep up, and time per
token, time to first token and memory do not fall either. For a marginal decode token costs in a
step with prompts no more than the mean one in a step without: of a roofline with any soft knee,
(x^(p-1) x' + y^(p-1) y')/norm^(p-1) <= norm(x', y') <= norm(x, y)/b by Hoelder's inequality. So a
candidate's best batch is its largest, found by bisection, and what it serves at any batch bounds
what it serves below. Best first: candidates are tried by their bound, some at once, and one whose
bound does not beat the best so far is dropped. What is left is proved, not guessed.

The pools of the disaggregated way meet in `pairs`.
"""

from dataclasses import fields
from functools import partial
from operator import itemgetter

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from qsopt.arrays import Scalar
from qsopt.deployments.batches import Tree
from qsopt.deployments.optimum import EQUAL
from qsopt.physics.memory import Memory
from qsopt.record import Record
from qsopt.serving.candidates import ALTERNATING, WRITER, Candidates
from qsopt.serving.pace import Pace
from qsopt.serving.plan import Plan
from qsopt.serving.replica import Served
from qsopt.serving.span import Span
from qsopt.serving.trial import layout_at, most_units, tokens_of, trial

AT_ONCE = 1024
"""Candidates that are tried at once."""

_UNTRIED = 1e30
"""A bound above all."""


class Found(Record):
    """What is known of each candidate."""

    low: Float[Array, " candidates"]
    """Batch units below which nothing need be tried."""
    high: Float[Array, " candidates"]
    """Batch units that are too many."""
    units: Float[Array, " candidates"]
    """The largest allowed batch units, 0 if none are."""
    value: Float[Array, " candidates"]
    """What it serves with them: tokens/s of the cluster, or requests/s of a pool's replica."""
    bound: Float[Array, " candidates"]
    """What it could serve at best with fewer than `high`."""
    pace: Pace
    """Of each with its units; of one where nothing was allowed, with the last units tried."""
    memory: Memory
    """The same."""


def search(served: Served, every: Candidates, keep: Scalar | float = 1.0) -> Found:
    """The largest allowed batch of every candidate that is not beaten.

    Args:
        served: model, service and draft; the relaxed model is not searched.
        every: candidates.
        keep: one-pool candidates are dropped that cannot reach this share of the best of their
            way; all candidates of pools are kept.
    """
    most = jax.vmap(lambda one: most_units(served, one))(every)
    none, count = jnp.zeros_like(most), min(AT_ONCE, most.shape[0])
    start = Found(
        low=none,
        high=most + 1.0,
        units=none,
        value=none,
        bound=jnp.full_like(most, _UNTRIED),
        pace=Pace(Span(none, none, none), none, none, none, none),
        memory=Memory(*[none] * len(fields(Memory))),
    )
    return lax.while_loop(
        lambda found: jnp.any(_active(found, every, keep)),
        partial(_narrowed, served, every, keep, count),
        start,
    )


def _narrowed(
    served: Served, every: Candidates, keep: Scalar | float, count: int, found: Found
) -> Found:
    """The most urgent candidates tried once more."""
    _, rows = lax.top_k(_urgency(found, every, keep), count)
    some, known = (jax.tree.map(itemgetter(rows), tree) for tree in (every, found))
    best = _best(found, every)[_class(some.kind)]
    units = _next(known, best, served, some)
    active = _active(found, every, keep)[rows]
    tried = jax.vmap(lambda one, at: trial(served, one, at))(some, units)
    up, first = tried.allowed | tried.too_small, known.units == 0.0
    pace, memory = jax.tree.map(
        lambda new, old: jnp.where(tried.allowed | first, new, old),
        (tried.pace, tried.memory),
        (known.pace, known.memory),
    )
    after = Found(
        low=jnp.where(up, units, known.low),
        high=jnp.where(up, known.high, units),
        units=jnp.where(tried.allowed, units, known.units),
        value=jnp.where(tried.allowed, tried.value, known.value),
        bound=jnp.where(up, known.bound, tried.value),
        pace=pace,
        memory=memory,
    )
    kept = jax.tree.map(lambda new, old: jnp.where(active, new, old), after, known)
    return jax.tree.map(lambda leaf, new: leaf.at[rows].set(new), found, kept)


def _class(kind: Int[Array, " rows"]) -> Int[Array, " rows"]:
    """Candidates that compete: mixed, alternating, and none for pools."""
    return jnp.where(kind >= WRITER, 2, jnp.where(kind == ALTERNATING, 1, 0))


def _best(found: Found, every: Candidates) -> Float[Array, "3"]:
    """The best so far of mixed and of alternating candidates; 0 for pools, which all stay."""
    of = _class(jnp.asarray(every.kind))
    mixed, alternating = (jnp.max(jnp.where(of == place, found.value, 0.0)) for place in (0, 1))
    return jnp.stack([mixed, alternating, jnp.zeros_like(mixed)])


def _active(found: Found, every: Candidates, keep: Scalar | float) -> Bool[Array, " candidates"]:
    """Candidates that are not settled and may still matter."""
    best = _best(found, every)[_class(jnp.asarray(every.kind))]
    return (found.high - found.low > 1.0) & (found.bound > best * keep * (1.0 - EQUAL))


def _urgency(found: Found, every: Candidates, keep: Scalar | float) -> Float[Array, " candidates"]:
    """What is tried first: what may serve most."""
    return jnp.where(_active(found, every, keep), found.bound, -1.0)


def _next(
    known: Found, best: Float[Array, " rows"], served: Served, some: Candidates
) -> Float[Array, " rows"]:
    """Batch units to try: at first the most; then, if nothing was allowed yet, the fewest that
    could beat the best within the limit on time per token; else the middle.
    """
    layout = jax.vmap(layout_at)(some, jnp.ones_like(known.low))
    replicas = jnp.floor(served.service.cluster.devices / layout.replica_devices)
    limit = served.service.workload.tpot_limit
    beats = jnp.floor(best * limit / (jnp.maximum(replicas, 1.0) * layout.batch))
    middle = jnp.floor((known.low + known.high) / 2.0)
    test = (known.units == 0.0) & (beats > known.low) & (beats < known.high)
    later = jnp.where(test, beats, middle)
    return jnp.where(known.bound >= _UNTRIED, known.high - 1.0, later)


# ---- the best of each way ------------------------------------------------------------------------


class Best(Record):
    """The best plan of one way."""

    plan: Plan
    throughput: Scalar
    """Output tokens of the cluster, 0 where nothing is feasible [tokens/s]."""
    feasible: Bool[Array, ""]


def at(every: Tree, index: Int[Array, ""]) -> Tree:
    """One candidate, or what is known of it."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], every)


def best_one_pool(served: Served, every: Candidates, found: Found, place: int) -> Best:
    """The best of the mixed (0) or of the alternating (1) candidates."""
    mine = jnp.where(_class(jnp.asarray(every.kind)) == place, found.value, 0.0)
    index = jnp.argmax(mine >= jnp.max(mine) * (1.0 - EQUAL))
    plan = one_pool_plan(served, at(every, index), found.units[index])
    return Best(plan, jnp.max(mine), jnp.max(mine) > 0.0)


def one_pool_plan(served: Served, one: Candidates, units: Scalar) -> Plan:
    """The plan of a mixed or alternating candidate with so many batch units, one at least."""
    layout = layout_at(one, jnp.maximum(units, 1.0))
    return Plan(layout, layout, tokens_of(served, one, layout))
