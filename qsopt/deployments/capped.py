"""The exact optimum of many cases at once, where anything may differ between them: model, hardware,
workload, load.

Beside the limits of a deployment a case may cap the sequences that decode at once in the whole
cluster. Throughput never falls with the batch, so under a cap the best batch is the smaller of the
largest that the limits allow and the cap's share of a replica; where the cap is smaller than the
replicas' least, some replicas idle.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qsopt.arrays import Scalar, number
from qsopt.deployments.batches import (
    CHUNK,
    chunks,
    in_batches,
    in_numpy,
    length,
    pad_to,
    stack,
    take,
)
from qsopt.deployments.best import Best
from qsopt.deployments.contest import Entry
from qsopt.deployments.layouts import legal_layouts
from qsopt.deployments.legality import splits
from qsopt.deployments.optimum import best_layout, entry_of, in_waves
from qsopt.physics.evaluate import Metrics, metrics, timing
from qsopt.programs import compiled
from qsopt.record import Record
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.rules import LayoutRules
from qsopt.spec.service import Service

NO_CAP = 1e15
"""A cap that nothing reaches [sequences]."""

BATCH = 16
"""Cases that one call of the compiled search takes."""


class ServedModel(Record):
    """A model and what it is deployed for."""

    model: Model
    service: Service
    cap: Scalar = number(NO_CAP)
    """Sequences that may decode at once in the whole cluster."""


def best_throughputs(cases: ServedModel, layouts: Deployment) -> Float[np.ndarray, " cases"]:
    """Throughput of each case of a batch in its best layout, 0 where infeasible [tokens/s].

    Args:
        cases: a batch, of any length.
        layouts: legal layouts of any of the cases; one that a case's model cannot be split into,
            or that is larger than its cluster, is passed over there.
    """
    return in_batches(lambda part: _best_by_chunk(part, layouts), cases, BATCH)


def _best_by_chunk(cases: ServedModel, layouts: Deployment) -> Float[np.ndarray, " batch"]:
    parts = _best_of_parts(cases, chunks(layouts, CHUNK))
    return np.max([np.asarray(part.throughput) for part in parts], axis=0)


def _best_of_parts(cases: ServedModel, parts: list[Deployment]) -> list[Best]:
    """The best of each part of a list of layouts, where it is better than those before it."""
    none = jnp.zeros(length(cases))
    return in_waves(
        lambda part, ahead: _best(cases, part, ahead), parts, none, lambda best: best.throughput
    )


@compiled
def _best(cases: ServedModel, layouts: Deployment, ahead: Float[Array, " cases"]) -> Best:
    """The best of some layouts for each case of a batch, where it is better than what is reached
    already.
    """

    def best(promise: Array, one: tuple[ServedModel, Scalar]) -> tuple[Array, Best]:
        case, reached = one
        entry = jax.vmap(lambda layout: capped_entry(case, layout))(layouts)
        found = best_layout(case.model, case.service, layouts, entry, promise, reached)
        return found.throughputs, found.best  # cases are alike

    return jax.lax.scan(best, jnp.zeros(length(layouts)), (cases, ahead))[1]


def capped_entry(case: ServedModel, layout: Deployment) -> Entry:
    """A layout with what bounds its batch, the cap included; out where the model cannot be split
    so.
    """
    free = entry_of(case.model, case.service, layout)
    used = jnp.minimum(free.replicas, jnp.floor(case.cap / free.unit))
    share = jnp.floor(case.cap / (jnp.maximum(used, 1.0) * free.unit))
    possible = splits(case.model, layout) & (used >= 1.0)
    most = jnp.where(possible, jnp.minimum(free.most, jnp.maximum(share, 1.0)), 0.0)
    return eqx.tree_at(lambda e: (e.most, e.replicas), free, (most, used))


def within_cap(case: ServedModel, layout: Deployment) -> Best:
    """A layout at the best whole batch that its limits and the cap allow; infeasible where the
    model cannot be split so. A derivative is that at the batch.
    """
    alone = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], layout)
    fixed = jax.tree.map(jax.lax.stop_gradient, case)
    entry = jax.vmap(lambda each: capped_entry(fixed, each))(alone)
    best = best_layout(fixed.model, fixed.service, alone, entry, jnp.zeros(1)).best
    time = timing(case.model, case.service, best.deployment)
    reached = entry.replicas[0] * best.deployment.batch / time.tpot
    return Best(best.deployment, jnp.where(best.feasible, reached, 0.0), best.feasible)


# ---- optima with their metrics -------------------------------------------------------------------

LAYOUTS = 512
"""Layouts that one call of `optima` evaluates: one compilation for clusters of all sizes."""

CASES = 8
"""Cases that one call of `optima` takes: often few differ on a cluster of one size."""


class Optimum(Record):
    """A served model in its best deployment, with the metrics of it (of the first layout at its
    smallest batch where none is feasible).
    """

    best: Best
    metrics: Metrics

    @property
    def sequences(self) -> Scalar:
        """Sequences that decode at once in the whole cluster, 0 where nothing is feasible."""
        decoding = self.best.deployment.batch * self.metrics.replicas
        return jnp.where(self.best.feasible, decoding, 0.0)


def optima(cases: Sequence[ServedModel], like: Model) -> list[Optimum]:
    """The best legal deployment of each of several cases, in their order, in NumPy.

    Args:
        cases: concrete, their models of one structure (see `comparison.twin.aligned`), on clusters
            of any kind and size.
        like: a model that splits as all of them do; it decides which layouts are legal.

    Raises:
        InputError: if a cluster is too large for its layouts to be listed.
    """
    members: dict[tuple[float, float, LayoutRules], list[int]] = defaultdict(list)
    for place, case in enumerate(cases):
        members[_what_layouts_depend_on(case.service)].append(place)
    optimum: dict[int, Optimum] = {}
    for places in members.values():
        service = cases[places[0]].service
        layouts = legal_layouts(like, service.cluster, service.rules)
        batch = stack([cases[place] for place in places])
        solved = in_batches(partial(_optima, layouts), batch, CASES)
        optimum |= {place: take(solved, row) for row, place in enumerate(places)}
    return [optimum[place] for place in range(len(cases))]


def _what_layouts_depend_on(service: Service) -> tuple[float, float, LayoutRules]:
    """Devices, the size of a domain, and the rules."""
    cluster = service.cluster
    return float(cluster.devices), float(cluster.accelerator.scale_up_devices), service.rules


def _optima(layouts: Deployment, cases: ServedModel) -> Optimum:
    """The best of all layouts for each case of a batch."""
    lists = [pad_to(chunk, LAYOUTS) for chunk in chunks(layouts, LAYOUTS)]
    parts = stack([in_numpy(best) for best in _best_of_parts(cases, lists)])
    winner = np.argmax(parts.throughput, axis=0)
    best = take(parts, (winner, np.arange(len(winner))))
    return in_numpy(Optimum(best, _metrics(cases, best.deployment)))


@compiled
def _metrics(cases: ServedModel, deployments: Deployment) -> Metrics:
    return jax.vmap(lambda case, at: metrics(case.model, case.service, at))(cases, deployments)
