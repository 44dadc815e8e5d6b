"""The best legal deployment of a model, exactly: every layout with its largest admissible batch.

Throughput never falls with the batch (every operator's compute, memory and message time, divided by
the batch, never rises, and their norm keeps that order), and memory and TPOT never fall either. So
the best batch of a layout is the largest that keeps the limits: memory gives it in closed form, a
TPOT limit by evaluations at whole batches, few of them as most layouts cannot win (see `contest`).
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from qsopt import xp
from qsopt.arrays import Scalar, is_concrete
from qsopt.deployments.batches import (
    CHUNK,
    Tree,
    chunks,
    length,
    mapped,
    pad_to,
    take,
)
from qsopt.deployments.best import Best, best_of_parts, pick
from qsopt.deployments.contest import AT_ONCE, CLOSE, TIED, Entry, contest
from qsopt.physics import placement
from qsopt.physics.evaluate import timing, whole_units
from qsopt.physics.memory import memory
from qsopt.precision import same_precision
from qsopt.programs import compiled
from qsopt.record import Record
from qsopt.spec.counterfactual import ACTUAL, Counterfactual
from qsopt.spec.deployment import Deployment
from qsopt.spec.efficiency import Efficiency
from qsopt.spec.model import Model
from qsopt.spec.service import Service

CASES = 8
"""Models that one call of the compiled search takes."""


Found = TypeVar("Found")


class Searched(Record):
    """A list of layouts searched for each of a batch of models."""

    best: Best
    throughputs: Float[Array, "models layouts"]
    """In every layout at its largest batch, 0 where infeasible and where a list is only filled up;
    of layouts that are not near the best what they do not exceed [tokens/s].
    """


def things_first(count: int) -> Float[np.ndarray, " models"]:
    """`near` for several models or worlds, of the first of which layouts close to the best are
    wanted too.
    """
    return np.array([CLOSE, *[TIED] * (count - 1)])


def best_of_each(
    models: Model,
    service: Service,
    layouts: Deployment,
    worlds: Counterfactual | None = None,
    efficiencies: Efficiency | None = None,
) -> Best:
    """The best deployment of each of a batch of models; arguments are those of `searched`."""
    return searched(models, service, layouts, worlds, efficiencies, TIED).best


def searched(
    models: Model,
    service: Service,
    layouts: Deployment,
    worlds: Counterfactual | None = None,
    efficiencies: Efficiency | None = None,
    near: float | Float[np.ndarray, " models"] = 0.0,
) -> Searched:
    """Every layout at its largest batch, for each of a batch of models.

    Args:
        models: a batch of models of one structure.
        service: what they are deployed for.
        layouts: legal layouts as one batched `Deployment` (see `layouts`); their batch is not used.
        worlds: as many worlds as models; things as they are if left out.
        efficiencies: as many efficiency sets as models; the service's own if left out.
        near: share of the best throughput from which on that of a layout is wanted exactly, 0 for
            all of them (see `contest`); for each model where they differ.
    """
    shares = np.broadcast_to(np.asarray(near, float), (models.hidden.shape[0],))
    cases = models, worlds, efficiencies, shares
    if len(shares) <= CASES:
        return _of_few(cases, service.priced, layouts)
    return _joined([_of_few(part, service.priced, layouts) for part in chunks(cases, CASES)])


Cases = tuple[Model, Counterfactual | None, Efficiency | None, Float[np.ndarray, " models"]]
"""Models, worlds, efficiencies, and the shares of the best throughput that are near it."""


def _of_few(cases: Cases, service: Service, layouts: Deployment) -> Searched:
    """At most `CASES` models."""
    count = len(cases[3])
    models, worlds, efficiencies, near = cases if count == CASES else pad_to(cases, CASES)
    filled = (
        models,
        of_each_case(ACTUAL) if worlds is None else worlds,
        of_each_case(service.efficiency) if efficiencies is None else efficiencies,
    )
    lists = chunks(layouts, CHUNK)
    full, some = length(lists[0]), np.asarray(count, np.int32)

    def search(each: Deployment, ahead: Float[Array, " models"]) -> Searched:
        return _of_chunk(filled, service, pad_to(each, full), some, ahead, near)

    parts = in_waves(search, lists, jnp.zeros(CASES), lambda part: part.best.throughput)
    if len(parts) == 1 and count == CASES:
        return parts[0]
    cut = [take(part, slice(0, count)) for part in parts]
    best = best_of_parts([part.best for part in cut])
    throughputs = _array(cut).concatenate([part.throughputs for part in cut], axis=1)
    return Searched(best, throughputs[:, : length(layouts)])


WAVE = 16
"""Parts of a list that are searched side by side; those after them know the best of these."""


def in_waves(
    search: Callable[[Deployment, Float[Array, " cases"]], Found],
    lists: list[Deployment],
    ahead: Float[Array, " cases"],
    throughput: Callable[[Found], Float[Array, " cases"]],
) -> list[Found]:
    """All parts of a list of layouts; on a CPU on all cores, the first alone, as it compiles.

    Args:
        search: of a part, given what each case is known to reach [tokens/s].
        lists: the parts.
        ahead: what is known before the first.
        throughput: of what is found.
    """
    parts = [search(lists[0], ahead)]
    beside = is_concrete(parts[0]) and len(lists) > 2 and jax.default_backend() == "cpu"
    threads = os.cpu_count() if beside else 1
    with ThreadPoolExecutor(threads, initializer=same_precision()) as pool:
        each = pool.map if beside else map
        for start in range(1, len(lists), WAVE):
            known = [ahead, *map(throughput, parts[-WAVE:])]
            ahead = _array(known).max(_array(known).stack(known), axis=0)
            parts += each(lambda part, best=ahead: search(part, best), lists[start:][:WAVE])
    return parts


def _joined(parts: list[Searched]) -> Searched:
    """Of more cases than one call takes."""
    return jax.tree.map(lambda *leaves: _array(leaves).concatenate(leaves), *parts)


def _array(tree: object) -> Any:
    return np if is_concrete(tree) else jnp


def of_each_case(record: Tree) -> Tree:
    """A record as a batch of as many as one call of the search takes."""
    return _of_each_case(record)


@compiled
def _of_each_case(record: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (CASES, *jnp.shape(leaf))), record)


@compiled
def _of_chunk(
    cases: tuple[Model, Counterfactual, Efficiency],
    service: Service,
    layouts: Deployment,
    count: Int[Array, ""],
    ahead: Float[Array, " models"],
    near: Float[Array, " models"],
) -> Searched:
    """The first `count` of the cases; of the others nothing is computed."""

    def one(index: Int[Array, ""], promise: Float[Array, " layouts"]) -> Searched:
        model, world, efficiency = take(cases, index)
        served = with_efficiency(service, efficiency)
        return of_case(model, served, layouts, promise, ahead[index], near[index], world)

    def add(index: Int[Array, ""], state: tuple[Searched, Array]) -> tuple[Searched, Array]:
        found, promise = state
        own = one(index, promise)
        found = jax.tree.map(lambda every, each: every.at[index].set(each), found, own)
        return found, own.throughputs  # cases are alike: their best come first

    start = _nothing(layouts), jnp.zeros(length(layouts))
    return lax.fori_loop(0, count, add, start)[0]


def with_efficiency(service: Service, efficiency: Efficiency) -> Service:
    """The service with another efficiency set."""
    return eqx.tree_at(lambda s: s.efficiency, service, efficiency)


def of_case(
    model: Model,
    service: Service,
    layouts: Deployment,
    promise: Float[Array, " layouts"],
    ahead: Scalar,
    near: Scalar,
    world: Counterfactual,
    at_once: int = AT_ONCE,
) -> Searched:
    """One model in some layouts; arguments from `promise` on are those of `contest`."""
    beside = model, service, world
    entry = mapped(lambda layout: entry_of(model, service, layout, world), layouts, beside)
    return best_layout(model, service, layouts, entry, promise, ahead, near, world, at_once)


def best_layout(
    model: Model,
    service: Service,
    layouts: Deployment,
    entry: Entry,
    promise: Float[Array, " layouts"],
    ahead: Scalar = 0.0,
    near: Scalar = TIED,
    world: Counterfactual = ACTUAL,
    at_once: int = AT_ONCE,
) -> Searched:
    """The best of some layouts for one model; arguments from `entry` on are those of `contest`."""

    def evaluate(places: Array, batches: Array) -> tuple[Array, Array]:
        designs = at_batches(take(layouts, places), batches)
        tpot = mapped(
            lambda design: timing(model, service, design, world).tpot,
            designs,
            (model, service, world),
        )
        return entry.replicas[places] * batches / tpot, tpot

    filling = is_filling(layouts)
    entry = eqx.tree_at(lambda e: e.most, entry, xp.where(filling, 0.0, entry.most))
    standing = contest(entry, evaluate, promise, ahead, near, at_once)
    designs = at_batches(layouts, xp.maximum(standing.units, 1.0) * entry.unit)
    best = pick(Best(designs, standing.throughput, standing.throughput > 0.0))
    return Searched(best, standing.at_most)


def is_filling(layouts: Deployment) -> Bool[Array, " layouts"]:
    """Which of some layouts only fill a list up (see `pad_to`), so that they need no look."""
    same = [leaf == leaf[0] for leaf in jax.tree.leaves(layouts)]
    return xp.all(xp.stack(same), axis=0) & (xp.arange(length(layouts)) > 0)


def at_batches(layouts: Deployment, batches: Float[Array, " layouts"]) -> Deployment:
    """The layouts, each at a batch."""
    return eqx.tree_at(lambda d: d.batch, layouts, batches)


def entry_of(
    model: Model, service: Service, layout: Deployment, world: Counterfactual = ACTUAL
) -> Entry:
    """A layout with what bounds its batch."""
    unit = layout.pipeline * layout.data
    replicas = placement.replicas(service.cluster, layout, service.rules.whole_domains)
    held = memory(model, service, at_batches(layout, unit), world)
    most = xp.where(replicas >= 1.0, whole_units(held, xp.ones_like(unit)), 0.0)
    return Entry(most, unit, replicas, service.workload.tpot_limit, xp.ones_like(unit))


def _nothing(layouts: Deployment) -> Searched:
    """Of as many cases as one call takes, none of them searched."""
    throughputs = jnp.zeros((CASES, length(layouts)))
    deployments = jax.tree.map(lambda leaf: jnp.zeros(CASES, leaf.dtype), layouts)
    return Searched(Best(deployments, throughputs[:, 0], jnp.zeros(CASES, bool)), throughputs)
