"""The best legal deployment of a model, exactly: every layout with its largest admissible batch,
evaluated in one batch.

Throughput never falls with the batch (every operator's compute, memory and message time, divided by
the batch, never rises, and their norm keeps that order), and memory and TPOT never fall either. So
the best batch of a layout is the largest that keeps the limits: memory gives it in closed form, a
TPOT limit by bisection on whole batches.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from qsopt.arrays import Scalar, is_concrete, number
from qsopt.deployments.batches import CHUNK, Tree, chunks, length, pad_to, stack, take
from qsopt.physics.evaluate import meets, timing, whole_units
from qsopt.physics.memory import memory
from qsopt.programs import compiled
from qsopt.record import Record
from qsopt.spec.counterfactual import ACTUAL, Counterfactual
from qsopt.spec.deployment import Deployment
from qsopt.spec.efficiency import Efficiency
from qsopt.spec.model import Model
from qsopt.spec.service import Service

EQUAL = 1e-9
"""Relative difference in throughput below which the simpler layout is taken."""


CASES = 8
"""Models that one call of the compiled search takes."""


class Best(Record):
    """The best deployment of a model."""

    deployment: Deployment
    """The layout with its batch; the first layout at its smallest batch where nothing is feasible.
    """
    throughput: Scalar = number()
    """What it reaches, 0 where nothing is feasible [tokens/s]."""
    feasible: Bool[Array, ""] = False  # pyright: ignore[reportAssignmentType]
    """Whether any layout keeps the limits."""


class Searched(eqx.Module):
    """A list of layouts searched for each of a batch of models."""

    best: Best
    throughputs: Float[Array, "models layouts"]
    """In every layout at its largest batch, 0 where infeasible [tokens/s]."""


def best_of_each(
    models: Model,
    service: Service,
    layouts: Deployment,
    worlds: Counterfactual | None = None,
    efficiencies: Efficiency | None = None,
) -> Best:
    """The best deployment of each of a batch of models; arguments are those of `searched`."""
    return searched(models, service, layouts, worlds, efficiencies).best


def searched(
    models: Model,
    service: Service,
    layouts: Deployment,
    worlds: Counterfactual | None = None,
    efficiencies: Efficiency | None = None,
) -> Searched:
    """Every layout at its largest batch, for each of a batch of models.

    Args:
        models: a batch of models of one structure.
        service: what they are deployed for.
        layouts: legal layouts as one batched `Deployment` (see `layouts`); their batch is not used.
        worlds: as many worlds as models; things as they are if left out.
        efficiencies: as many efficiency sets as models; the service's own if left out.
    """
    cases = models, worlds, efficiencies
    if models.hidden.shape[0] <= CASES:
        return _of_few(cases, service.priced, layouts)
    return _joined([_of_few(part, service.priced, layouts) for part in chunks(cases, CASES)])


Cases = tuple[Model, Counterfactual | None, Efficiency | None]


def _of_few(cases: Cases, service: Service, layouts: Deployment) -> Searched:
    """At most `CASES` models."""
    count = cases[0].hidden.shape[0]
    models, worlds, efficiencies = cases if count == CASES else pad_to(cases, CASES)
    filled = (
        models,
        of_each_case(ACTUAL) if worlds is None else worlds,
        of_each_case(service.efficiency) if efficiencies is None else efficiencies,
    )
    lists = chunks(layouts, CHUNK)
    full = length(lists[0])
    parts = [
        _of_chunk(filled, service, pad_to(each, full), np.asarray(count, np.int32))
        for each in lists
    ]
    if len(parts) == 1 and count == CASES:
        return parts[0]
    some = [take(part, slice(0, count)) for part in parts]
    best = best_of_parts([part.best for part in some])
    throughputs = _array(some).concatenate([part.throughputs for part in some], axis=1)
    return Searched(best, throughputs[:, : length(layouts)])


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
) -> Searched:
    """The first `count` of the cases; of the others nothing is computed."""

    def one(index: Int[Array, ""]) -> Searched:
        model, world, efficiency = take(cases, index)
        served = eqx.tree_at(lambda s: s.efficiency, service, efficiency)
        designs = jax.vmap(lambda layout: at_largest_batch(model, served, layout, world))(layouts)
        return Searched(pick(designs), designs.throughput)

    def add(index: Int[Array, ""], found: Searched) -> Searched:
        return jax.tree.map(lambda every, own: every.at[index].set(own), found, one(index))

    return lax.fori_loop(0, count, add, _nothing(layouts))


def _nothing(layouts: Deployment) -> Searched:
    """Of as many cases as one call takes, none of them searched."""
    throughputs = jnp.zeros((CASES, length(layouts)))
    deployments = jax.tree.map(lambda leaf: jnp.zeros(CASES, leaf.dtype), layouts)
    return Searched(Best(deployments, throughputs[:, 0], jnp.zeros(CASES, bool)), throughputs)


def best_of_parts(parts: list[Best]) -> Best:
    """The best of each case of several batches of the same cases, each from a part of the
    layouts.
    """
    if len(parts) == 1:
        return parts[0]
    each = stack(parts, axis=1)
    if not is_concrete(each):
        return jax.vmap(pick)(each)
    most = each.throughput.max(axis=1, keepdims=True)
    winner = np.argmax(each.throughput >= most * (1.0 - EQUAL), axis=1)
    return take(each, (np.arange(len(winner)), winner))


def pick(designs: Best) -> Best:
    """The first of a batch of designs whose throughput is within `EQUAL` of the best."""
    index = jnp.argmax(designs.throughput >= jnp.max(designs.throughput) * (1.0 - EQUAL))
    return take(designs, index)


def at_largest_batch(
    model: Model, service: Service, layout: Deployment, world: Counterfactual = ACTUAL
) -> Best:
    """A layout with the largest whole batch that memory and the TPOT limit allow, or its smallest
    where none is allowed.
    """
    unit = layout.pipeline * layout.data

    def at(units: Scalar) -> Deployment:
        return eqx.tree_at(lambda d: d.batch, layout, units * unit)

    def throughput_and_allowed(units: Scalar) -> tuple[Scalar, Bool[Array, ""]]:
        time = timing(model, service, at(units), world)
        return time.throughput, meets(time.tpot, service.workload)

    one = jnp.ones_like(unit)
    most = whole_units(memory(model, service, at(one), world), one)
    search = _Bisection(most, one, one, 0.0 * one, jnp.zeros((), bool))
    end = lax.while_loop(
        lambda state: state.low <= state.high,
        lambda state: state.narrowed(*throughput_and_allowed(state.next)),
        search,
    )
    return Best(at(end.units), end.throughput, end.throughput > 0.0)


class _Bisection(eqx.Module):
    """Bisection on whole batch units for the largest that meets the limit; the largest that fits is
    tried first.
    """

    high: Scalar
    """Most units that may still meet the limit."""
    low: Scalar
    """One more than is known to meet it."""
    units: Scalar
    """The most that is known to meet it."""
    throughput: Scalar
    """With these units, 0 before any is known [tokens/s]."""
    tried: Bool[Array, ""]
    """Whether the largest that fits was tried."""

    @property
    def next(self) -> Scalar:
        return jnp.where(self.tried, jnp.floor((self.low + self.high) / 2.0), self.high)

    def narrowed(self, throughput: Scalar, allowed: Bool[Array, ""]) -> "_Bisection":
        units = self.next
        one = jnp.maximum(1.0, units * jnp.finfo(units.dtype).eps)  # what float32 tells apart
        return _Bisection(
            high=jnp.where(allowed, self.high, units - one),
            low=jnp.where(allowed, units + one, self.low),
            units=jnp.where(allowed, units, self.units),
            throughput=jnp.where(allowed, throughput, self.throughput),
            tried=jnp.ones((), bool),
        )
