"""The exact optimum of many cases at once, where anything may differ between them: model, hardware,
workload, load.

Beside the limits of a deployment a case may cap the sequences that decode at once in the whole
cluster. Throughput never falls with the batch, so under a cap the best batch is the smaller of the
largest that the limits allow and the cap's share of a replica; where the cap is smaller than the
replicas' least, some replicas idle.
"""

from operator import itemgetter

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qsopt.arrays import Scalar, number
from qsopt.deployments.optimum import CHUNK, Best, at_largest_batch, pick
from qsopt.physics import placement
from qsopt.physics.evaluate import timing
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service

NO_CAP = 1e15
"""A cap that nothing reaches [sequences]."""

BATCH = 16
"""Cases that one call of the compiled search takes."""


class ServedModel(eqx.Module):
    """A model and what it is deployed for."""

    model: Model
    service: Service
    cap: Scalar = number(NO_CAP)
    """Sequences that may decode at once in the whole cluster."""


def best_throughputs(cases: ServedModel, layouts: Deployment) -> Float[np.ndarray, " cases"]:
    """Throughput of each case of a batch in its best layout, 0 where infeasible [tokens/s].

    Args:
        cases: a batch, of any length.
        layouts: legal layouts of all cases; a layout larger than a case's cluster has no replica
            there and is passed over.
    """
    count = cases.cap.shape[0]
    filled = jax.tree.map(
        lambda leaf: np.concatenate([leaf, np.repeat(leaf[-1:], -count % BATCH, axis=0)]), cases
    )
    best = [
        _in_chunks(jax.tree.map(itemgetter(slice(at, at + BATCH)), filled), layouts)
        for at in range(0, count, BATCH)
    ]
    return np.concatenate(best)[:count]


def _in_chunks(cases: ServedModel, layouts: Deployment) -> Float[np.ndarray, " batch"]:
    length = layouts.tensor.shape[0]
    chunks = [
        jax.tree.map(itemgetter(slice(at, at + CHUNK)), layouts) for at in range(0, length, CHUNK)
    ]
    return np.max([np.asarray(_best(cases, chunk)) for chunk in chunks], axis=0)


@jax.jit
def _best(cases: ServedModel, layouts: Deployment) -> Float[Array, " batch"]:
    def of(case: ServedModel) -> Scalar:
        return pick(jax.vmap(lambda layout: within_cap(case, layout))(layouts)).throughput

    return jax.lax.map(of, cases)


def within_cap(case: ServedModel, layout: Deployment) -> Best:
    """A layout at the best whole batch that its limits and the cap allow."""
    free = at_largest_batch(case.model, case.service, layout)
    cluster, unit = case.service.cluster, layout.pipeline * layout.data
    replicas = placement.replicas(cluster, layout, case.service.rules.whole_domains)
    used = jnp.minimum(replicas, jnp.floor(case.cap / unit))
    share = jnp.floor(case.cap / (jnp.maximum(used, 1.0) * unit)) * unit
    batch = jnp.minimum(free.deployment.batch, jnp.maximum(share, unit))
    capped = eqx.tree_at(lambda d: d.batch, free.deployment, batch)
    time = timing(case.model, case.service, capped)
    throughput = jnp.where(free.feasible, used * batch / time.tpot, 0.0)
    return Best(capped, throughput, throughput > 0.0)
