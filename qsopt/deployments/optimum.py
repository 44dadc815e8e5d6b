"""The best legal deployment of a model, exactly: every layout with its largest admissible batch,
evaluated in one batch.

Throughput never falls with the batch (every operator's compute, memory and message time, divided by
the batch, never rises, and their norm keeps that order), and memory and TPOT never fall either. So
the best batch of a layout is the largest that keeps the limits: memory gives it in closed form, a
TPOT limit by bisection on whole batches.
"""

from operator import itemgetter
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from qsopt.arrays import Scalar, is_concrete, number
from qsopt.physics.evaluate import meets, timing, whole_units
from qsopt.physics.memory import memory
from qsopt.record import Record
from qsopt.spec.counterfactual import ACTUAL, Counterfactual
from qsopt.spec.deployment import Deployment
from qsopt.spec.efficiency import Efficiency
from qsopt.spec.hardware import Cluster
from qsopt.spec.model import Model
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

EQUAL = 1e-9
"""Relative difference in throughput below which the simpler layout is taken."""


Tree = TypeVar("Tree")

CHUNK = 4096
"""Layouts evaluated at once, to bound memory."""


class Best(Record):
    """The best deployment of a model."""

    deployment: Deployment
    """The layout with its batch; the first layout at its smallest batch where nothing is feasible.
    """
    throughput: Scalar = number()
    """What it reaches, 0 where nothing is feasible [tokens/s]."""
    feasible: Bool[Array, ""] = False  # pyright: ignore[reportAssignmentType]
    """Whether any layout keeps the limits."""


def best_of_each(
    models: Model,
    service: Service,
    layouts: Deployment,
    worlds: Counterfactual | None = None,
    efficiencies: Efficiency | None = None,
) -> Best:
    """The best deployment of each of a batch of models.

    Args:
        models: a batch of models of one structure.
        service: what they are deployed for.
        layouts: legal layouts as one batched `Deployment` (see `layouts`); their batch is not used.
        worlds: as many worlds as models; things as they are if left out.
        efficiencies: as many efficiency sets as models; the service's own if left out.
    """
    parts = [best for best, _ in _by_chunk(models, service, layouts, worlds, efficiencies)]
    return parts[0] if len(parts) == 1 else _best_of_parts(parts)


def throughputs_of_each(
    models: Model, service: Service, layouts: Deployment
) -> Float[Array, "models layouts"]:
    """Throughput of each of a batch of models in every layout at its largest batch, 0 where
    infeasible [tokens/s].
    """
    return jnp.concatenate(
        [reached for _, reached in _by_chunk(models, service, layouts, None, None)], axis=1
    )


def _by_chunk(
    models: Model,
    service: Service,
    layouts: Deployment,
    worlds: Counterfactual | None,
    efficiencies: Efficiency | None,
) -> list[tuple[Best, Float[Array, "models chunk"]]]:
    count, length = models.hidden.shape[0], layouts.tensor.shape[0]
    worlds = repeated(ACTUAL, count) if worlds is None else worlds
    efficiencies = repeated(service.efficiency, count) if efficiencies is None else efficiencies
    chunks = [
        jax.tree.map(itemgetter(slice(start, start + CHUNK)), layouts)
        for start in range(0, length, CHUNK)
    ]
    return [
        _best_of_chunk((models, worlds, efficiencies), service.cluster, service.workload, chunk)
        for chunk in chunks
    ]


@jax.jit
def _best_of_chunk(
    cases: tuple[Model, Counterfactual, Efficiency],
    cluster: Cluster,
    workload: Workload,
    layouts: Deployment,
) -> tuple[Best, Float[Array, "models chunk"]]:
    def of(case: tuple[Model, Counterfactual, Efficiency]) -> tuple[Best, Float[Array, " chunk"]]:
        model, world, efficiency = case
        service = Service(cluster, workload, efficiency)
        designs = jax.vmap(lambda layout: at_largest_batch(model, service, layout, world))(layouts)
        return pick(designs), designs.throughput

    return lax.map(of, cases)


@jax.jit
def _best_of_parts(parts: list[Best]) -> Best:
    return jax.vmap(pick)(jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1), *parts))


def repeated(tree: Tree, count: int) -> Tree:
    """A record as a batch of `count` equal ones."""

    def batch(leaf: Array) -> Array:
        library: Any = np if is_concrete(leaf) else jnp
        return library.broadcast_to(leaf, (count, *np.shape(leaf)))

    return jax.tree.map(batch, tree)


def same_length(*layouts: Deployment, at_least: int = 64) -> tuple[Deployment, ...]:
    """Lists of layouts filled up with their first one to one length, so that they share a
    compilation.

    The length is a power of two, or a multiple of `CHUNK` beyond it.
    """
    longest = max(layout.tensor.shape[0] for layout in layouts)
    length = (
        -(-longest // CHUNK) * CHUNK
        if longest > CHUNK
        else max(at_least, 1 << (longest - 1).bit_length())
    )

    def filled(leaf: Array) -> Array:
        return np.concatenate([leaf, np.full(length - len(leaf), leaf[0])])  # pyright: ignore[reportReturnType]

    return tuple(jax.tree.map(filled, layout) for layout in layouts)


def pick(designs: Best) -> Best:
    """The first of a batch of designs whose throughput is within `EQUAL` of the best."""
    index = jnp.argmax(designs.throughput >= jnp.max(designs.throughput) * (1.0 - EQUAL))
    return jax.tree.map(lambda leaf: leaf[index], designs)


def at_largest_batch(
    model: Model, service: Service, layout: Deployment, world: Counterfactual = ACTUAL
) -> Best:
    """A layout with the largest whole batch that memory and the TPOT limit allow, or its smallest
    where none is allowed.
    """
    unit = layout.pipeline * layout.data

    def at(units: Scalar) -> Deployment:
        return eqx.tree_at(lambda d: d.batch, layout, units * unit)

    def reached(units: Scalar) -> tuple[Scalar, Bool[Array, ""]]:
        time = timing(model, service, at(units), world)
        return time.throughput, meets(time.tpot, service.workload)

    one = jnp.ones_like(unit)
    most = whole_units(memory(model, service, at(one), world), one)
    search = _Search(most, one, one, 0.0 * one, jnp.zeros((), bool))
    found = lax.while_loop(
        lambda state: state.low <= state.high,
        lambda state: state.narrowed(*reached(state.next)),
        search,
    )
    return Best(at(found.units), found.throughput, found.throughput > 0.0)


class _Search(eqx.Module):
    """Bisection on whole batch units for the largest that meets the limit; the largest that fits is
    tried first.
    """

    high: Scalar
    low: Scalar
    units: Scalar
    throughput: Scalar
    tried: Bool[Array, ""]

    @property
    def next(self) -> Scalar:
        return jnp.where(self.tried, jnp.floor((self.low + self.high) / 2.0), self.high)

    def narrowed(self, throughput: Scalar, allowed: Bool[Array, ""]) -> "_Search":
        units = self.next
        one = jnp.maximum(1.0, units * jnp.finfo(units.dtype).eps)  # what float32 tells apart
        return _Search(
            high=jnp.where(allowed, self.high, units - one),
            low=jnp.where(allowed, units + one, self.low),
            units=jnp.where(allowed, units, self.units),
            throughput=jnp.where(allowed, throughput, self.throughput),
            tried=jnp.ones((), bool),
        )
