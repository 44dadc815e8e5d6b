"""The roofline of a whole cluster as one device: which side of a comparison it favours, without a
search.

The cluster becomes one device of its whole memory, bandwidth and arithmetic, without communication.
A server's host does not count. There a side decodes B = min(cap, (memory - all weights) / cache of
a sequence) sequences and reads for each token

    (weights that B tokens hit) / B + cache of a sequence

The ratio of these bytes, MoE over dense, and the ratio of the times of all operators at the
efficiencies of the case are criteria of who wins. With every expert hit, as many sequences on both
sides and no cache, the ratio of bytes is 1/(q s): the criterion of arXiv 2603.08960.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp

from qsopt.arrays import Scalar, number
from qsopt.deployments.batches import in_batches, stack, take
from qsopt.deployments.capped import ServedModel, within_cap
from qsopt.physics.evaluate import metrics
from qsopt.physics.step import OPERATORS
from qsopt.programs import compiled
from qsopt.spec.deployment import Deployment
from qsopt.spec.efficiency import Server
from qsopt.spec.hardware import Cluster
from qsopt.spec.model import moe_layers
from qsopt.spec.service import Service

CASES = 8
"""Cases that one call of `merged_rooflines` takes."""


class MergedRoofline(eqx.Module):
    """A served model on the merged device."""

    throughput: Scalar = number()
    """0 where its weights do not fit [tokens/s]."""
    bytes_per_token: Scalar = number()
    """Memory traffic of a step over its tokens [byte]."""
    experts_hit: Scalar = number()
    """Share of the routed experts that a step hits; 1 for a dense model."""
    attention: Scalar = number()
    """Share of the traffic that attention makes, cache and its activations."""
    weights: Scalar = number()
    """Share of the usable memory that the weights take."""
    compute_over_memory: Scalar = number()
    """Time of arithmetic over time of memory traffic."""


class Criteria(eqx.Module):
    """Ratios that speak for the dense side where they are above 1."""

    bytes_per_token: Scalar = number()
    """MoE over dense."""
    throughput: Scalar = number()
    """Dense over MoE; infinite where only the dense side fits, NaN where neither does."""


def merged(cluster: Cluster) -> Cluster:
    """The cluster as one device of its whole memory, bandwidth and arithmetic."""
    accelerator, devices = cluster.accelerator, cluster.devices
    whole = eqx.tree_at(
        lambda a: (a.peak_flops, a.memory_bytes, a.bandwidth),
        accelerator,
        replace_fn=lambda value: value * devices,
    )
    return Cluster(whole, jnp.ones_like(devices))


def merged_roofline(case: ServedModel) -> MergedRoofline:
    """A case on its merged device, with kernels as efficient as they are."""
    kernels = eqx.tree_at(lambda e: e.server, case.service.efficiency, Server())
    service = Service(merged(case.service.cluster), case.service.workload, kernels)
    alone = jax.tree.map(jnp.asarray, Deployment())
    best = within_cap(ServedModel(case.model, service, case.cap), alone)
    reached = metrics(case.model, service, best.deployment)
    step, routed = reached.breakdown, moe_layers(case.model)
    traffic = jnp.sum(step.bytes)
    experts = 1.0 if routed is None else routed.experts
    return MergedRoofline(
        throughput=best.throughput,
        bytes_per_token=traffic / (best.deployment.batch * service.workload.tokens_per_step),
        experts_hit=jnp.where(reached.experts_hit > 0, reached.experts_hit / experts, 1.0),
        attention=step.bytes[OPERATORS.index("attention core")] / traffic,
        weights=reached.memory.weights / reached.memory.capacity,
        compute_over_memory=jnp.sum(step.compute) / jnp.sum(step.memory),
    )


def criteria(moe: MergedRoofline, dense: MergedRoofline) -> Criteria:
    """What the merged rooflines of both sides say of who wins."""
    fits = moe.throughput > 0.0
    ratio = dense.throughput / jnp.where(fits, moe.throughput, 1.0)
    alone = jnp.where(dense.throughput > 0.0, jnp.inf, jnp.nan)
    return Criteria(moe.bytes_per_token / dense.bytes_per_token, jnp.where(fits, ratio, alone))


def merged_rooflines(cases: Sequence[ServedModel]) -> list[MergedRoofline]:
    """Each of several cases on its merged device, in their order, in NumPy; their models are of one
    structure (see `twin.aligned`).
    """
    rooflines = in_batches(_merged_rooflines, stack(cases), CASES)
    return [take(rooflines, place) for place in range(len(cases))]


@compiled
def _merged_rooflines(cases: ServedModel) -> MergedRoofline:
    return jax.vmap(merged_roofline)(cases)
