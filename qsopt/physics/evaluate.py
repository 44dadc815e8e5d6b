"""The waist of qsopt: one design in, its metrics out. Everything above sees only this.

A pure function of traced numbers: it works inside `jax.jit`, `jax.grad` and `jax.vmap`, and designs
of one structure (the same kinds of layers) share one compilation.
"""

import equinox as eqx
from jaxtyping import Array, Bool

from qsopt import xp
from qsopt.arrays import EXACT, Scalar, Softness, number
from qsopt.physics import placement, smooth
from qsopt.physics.load import Load
from qsopt.physics.memory import Memory, memory
from qsopt.physics.roofline import Spent
from qsopt.physics.room import UNBOUNDED
from qsopt.physics.routing import experts_hit
from qsopt.physics.server import served, served_parts
from qsopt.physics.stage import Stage
from qsopt.physics.step import Parts, by_operator, microbatch, whole
from qsopt.programs import evaluated
from qsopt.record import Record, Result
from qsopt.spec.counterfactual import ACTUAL, Counterfactual
from qsopt.spec.deployment import Deployment
from qsopt.spec.efficiency import Efficiency
from qsopt.spec.model import Model, moe_group
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

TOLERANCE = 1e-9
"""Relative excess over a limit that counts as rounding."""


class Metrics(Result, Record):
    """What a design reaches, all as traced numbers."""

    memory: Memory
    """Memory of the fullest device."""
    breakdown: Spent
    """Time of one decode step: every field has one entry for each of `step.OPERATORS`; the seconds
    add up to `step`, the host's part included.
    """
    fits_memory: Bool[Array, ""]
    """Whether the fullest device holds what it must."""
    meets_tpot: Bool[Array, ""]
    """Whether the time per output token is within the workload's limit."""
    fits_devices: Bool[Array, ""]
    """Whether the cluster holds at least one replica."""
    throughput: Scalar = number()
    """Output tokens of the whole cluster [tokens/s]."""
    per_device: Scalar = number()
    """Output tokens per device, idle devices counted [tokens/s]."""
    per_user: Scalar = number()
    """Output tokens of one sequence [tokens/s]."""
    tpot: Scalar = number()
    """Time per output token [s]."""
    step: Scalar = number()
    """Time of one decode step of a sequence through all stages [s]."""
    replicas: Scalar = number()
    """Replicas in the cluster."""
    largest_batch: Scalar = number()
    """Largest batch of a replica that fits the memory, a multiple of pipeline * data [sequences].
    """
    reuse: Scalar = number()
    """Tokens that share one read of a feed-forward weight: T k/E over all routed experts, T for a
    dense model.
    """
    experts_hit: Scalar = number()
    """Experts of a routed layer hit by one microbatch; 0 for a dense model."""

    @property
    def feasible(self) -> Bool[Array, ""]:
        """Whether every limit is kept."""
        return self.fits_memory & self.meets_tpot & self.fits_devices


class Timing(Record):
    """What the time of a step makes of a deployment, memory aside."""

    tpot: Scalar = number()
    """Time per output token [s]."""
    replicas: Scalar = number()
    """Replicas in the cluster."""
    throughput: Scalar = number()
    """Output tokens of the whole cluster [tokens/s]."""


@evaluated
def timing(
    model: Model,
    service: Service,
    deployment: Deployment,
    world: Counterfactual = ACTUAL,
    softness: Softness = EXACT,
) -> Timing:
    """Time of a decode step and the throughput that follows, without looking at memory."""
    stage = _decoding(model, service, deployment, world, softness)
    return _timing(stage, microbatch(stage), service)


@evaluated
def timing_by_operator(
    model: Model,
    service: Service,
    deployment: Deployment,
    world: Counterfactual = ACTUAL,
    softness: Softness = EXACT,
) -> tuple[Timing, Spent]:
    """The same, and the time of one decode step by operator (see `Metrics.breakdown`)."""
    stage = _decoding(model, service, deployment, world, softness)
    parts = microbatch(stage)
    spent = by_operator(served_parts(parts, stage)).times(deployment.pipeline)
    return _timing(stage, parts, service), spent


def _decoding(
    model: Model,
    service: Service,
    deployment: Deployment,
    world: Counterfactual,
    softness: Softness,
) -> Stage:
    load, accelerator = _decode_load(service.workload, deployment), service.cluster.accelerator
    return Stage(model, accelerator, load, deployment, service.efficiency, world, softness)


def _timing(stage: Stage, parts: Parts, service: Service) -> Timing:
    deployment, whole_domains = stage.deployment, service.rules.whole_domains
    step = served(whole(parts).seconds, stage) * deployment.pipeline
    tpot = step / service.workload.tokens_per_step
    replicas = placement.replicas(service.cluster, deployment, whole_domains, stage.softness)
    return Timing(tpot, replicas, replicas * deployment.batch / tpot)


def meets(tpot: Scalar, workload: Workload) -> Bool[Array, ""]:
    """Whether a time per output token is within the limit."""
    return tpot <= workload.tpot_limit * (1.0 + TOLERANCE)


def metrics(
    model: Model,
    service: Service,
    deployment: Deployment,
    world: Counterfactual = ACTUAL,
    softness: Softness = EXACT,
) -> Metrics:
    """Metrics of one design: throughput, latency, memory, reuse, and the breakdown of a step.

    A design that breaks a limit still has numbers; `feasible` says that it does.

    Args:
        model: what is served.
        service: cluster, workload and efficiencies.
        deployment: parallel sizes, batch and way.
        world: counterfactual without one of the penalties; things as they are by default.
        softness: 0 for the exact model, above 0 for the relaxed one (see `smooth`).
    """
    cluster, workload = service.cluster, service.workload
    time, spent = timing_by_operator(model, service, deployment, world, softness)
    held = memory(model, service, deployment, world, softness)
    unit = deployment.pipeline * deployment.data
    return Metrics(
        memory=held,
        breakdown=spent,
        fits_memory=held.total <= held.capacity * (1.0 + TOLERANCE),
        meets_tpot=meets(time.tpot, workload),
        fits_devices=time.replicas >= 1.0 - TOLERANCE,
        throughput=time.throughput,
        per_device=time.throughput / cluster.devices,
        per_user=1.0 / time.tpot,
        tpot=time.tpot,
        step=time.tpot * workload.tokens_per_step,
        replicas=time.replicas,
        largest_batch=whole_units(held, deployment.batch / unit, softness) * unit,
        **_reuse(model, _decode_load(workload, deployment).tokens, service.efficiency),
    )


compiled_metrics = evaluated(metrics)
"""The same, compiled once for all designs of one structure."""


def whole_units(held: Memory, units: Scalar, softness: Softness = EXACT) -> Scalar:
    """Largest whole number of batch units (pipeline * data sequences) that fits, from the memory of
    `units` of them that decode.
    """
    roomy = eqx.tree_at(lambda m: m.capacity, held, held.capacity * (1.0 + TOLERANCE))
    most = xp.maximum(roomy.largest_batch * units, 0.0)
    return smooth.floor(xp.minimum(most, UNBOUNDED), softness)


def _decode_load(workload: Workload, deployment: Deployment) -> Load:
    sequences = deployment.batch / deployment.pipeline
    new = workload.tokens_per_step
    return Load(sequences, new, workload.context, workload.encoder_tokens, logits=new)


def _reuse(model: Model, tokens: Scalar, efficiency: Efficiency) -> dict[str, Scalar]:
    group = moe_group(model)
    if group is None:
        return {"reuse": tokens, "experts_hit": 0.0 * tokens}
    routed, moe = group.count > 0.0, group.kind
    hit = experts_hit(tokens, moe.experts, moe.top_k, efficiency.popularity_cv2)
    reuse = xp.where(routed, tokens * moe.top_k / moe.experts, tokens)
    return {"reuse": reuse, "experts_hit": xp.where(routed, hit, 0.0)}
