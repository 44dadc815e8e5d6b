"""What one device must hold: its stage's weights, the cache of its sequences, activations and a
reserve.

All experts are resident, hit or not: this is the second half of the double penalty. Stages hold
ceil(L/p) average layers; the input table stands in the first stage and the head in the last.
"""

import jax.numpy as jnp

from qsopt.arrays import Scalar, number
from qsopt.physics import accounting, smooth
from qsopt.record import Record
from qsopt.spec.counterfactual import ACTUAL, Counterfactual
from qsopt.spec.deployment import Deployment
from qsopt.spec.efficiency import Efficiency
from qsopt.spec.model import DenseFfn, Ffn, Gqa, LinearAttention, Mla, Model, MoeFfn, stacks
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload


class Memory(Record):
    """Memory of the fullest device [byte]."""

    weights: Scalar = number()
    """Weights, all experts of this rank included."""
    kv_cache: Scalar = number()
    """Keys and values, latents, states of all sequences of this rank."""
    activations: Scalar = number()
    """Largest activations and workspace."""
    reserve: Scalar = number()
    """Runtime and communication buffers."""
    capacity: Scalar = number()
    """What may be used: device memory times utilization."""

    @property
    def total(self) -> Scalar:
        """Memory needed."""
        return self.weights + self.kv_cache + self.activations + self.reserve

    @property
    def largest_batch(self) -> Scalar:
        """Batch that would fill the capacity, for a record made at batch 1: cache and activations
        grow with the batch.
        """
        return (self.capacity - self.weights - self.reserve) / (self.kv_cache + self.activations)


class Occupancy(Record):
    """What a replica holds beside weights, and its largest forward."""

    sequences: Scalar = number()
    """Sequences that decode."""
    prompts: Scalar = number()
    """Prompts that are being read, each with room for all of its tokens."""
    prompt: Scalar = number()
    """Tokens of a prompt [tokens]."""
    tokens: Scalar = number()
    """Tokens of the largest forward of a microbatch [tokens]."""
    rows: Scalar = number()
    """Of them, those that pass the head [tokens]."""


def decoding(deployment: Deployment, workload: Workload) -> Occupancy:
    """A replica that decodes its batch and reads no prompts."""
    tokens = deployment.batch / deployment.pipeline * workload.tokens_per_step
    none = 0.0 * tokens
    return Occupancy(deployment.batch, none, none, tokens, tokens)


def stage_share(model: Model, deployment: Deployment, softness: Scalar | float = 0.0) -> Scalar:
    """Share of the layers in the fullest stage, ceil(L/p)/L."""
    return smooth.ceil(model.layers / deployment.pipeline, softness) / model.layers


def ends_together(deployment: Deployment) -> Scalar:
    """1 where the first stage is the last, 0 where they are two; real in between."""
    return jnp.clip(2.0 - deployment.pipeline, 0.0, 1.0)


def memory(
    model: Model,
    service: Service,
    deployment: Deployment,
    world: Counterfactual = ACTUAL,
    softness: Scalar | float = 0.0,
    occupancy: Occupancy | None = None,
) -> Memory:
    """Memory of the fullest device under a deployment.

    Args:
        model: what is served.
        service: on what and for.
        deployment: parallel sizes and batch.
        world: counterfactual without one of the penalties.
        softness: of the relaxed model.
        occupancy: sequences, prompts and largest forward; decode alone if left out.
    """
    workload, efficiency = service.workload, service.efficiency
    held = decoding(deployment, workload) if occupancy is None else occupancy
    share = stage_share(model, deployment, softness)
    layers = sum(
        _stack_weights(model, stack, deployment, world, softness) for stack in stacks(model)
    )
    return Memory(
        weights=share * layers + table_weights(model, deployment),
        kv_cache=share * _cache(model, workload, deployment, held, softness),
        activations=_activations(model, deployment, held, efficiency, softness),
        reserve=efficiency.reserve_bytes,
        capacity=service.cluster.accelerator.memory_bytes * workload.utilization,
    )


def _stack_weights(model, stack, deployment, world, softness) -> Scalar:
    """Bytes of all layers of a stack on one device of a one-stage replica."""
    precision, total = model.precision, 0.0
    for layers in stack.attention:
        projections = accounting.attention_weights(
            layers.kind, model.hidden, deployment.tensor, softness
        )
        total += layers.count * (
            projections * precision.attention.bytes + layers.kind.small * precision.tables.bytes
        )
    for layers in stack.ffn:
        total += layers.count * _ffn_weights(layers.kind, model, deployment, world, softness)
    return total  # pyright: ignore[reportReturnType]


def _ffn_weights(
    kind: Ffn,
    model: Model,
    deployment: Deployment,
    world: Counterfactual,
    softness: Scalar | float,
) -> Scalar:
    precision = model.precision
    common = accounting.weights(
        accounting.ffn_gemms(model.hidden, accounting.shared_width(kind), kind.matrices)
    )
    small = kind.small * precision.tables.bytes
    if isinstance(kind, DenseFfn):
        return common * precision.ffn.bytes / deployment.stage_devices + small
    return (
        common * precision.ffn.bytes * deployment.width_split
        + resident_slots(kind, deployment, world, softness) * _expert_bytes(kind, model)
        + accounting.router_weights(kind, model.hidden) * precision.tables.bytes
        + small
    )


def _expert_bytes(kind: MoeFfn, model: Model) -> Scalar:
    """One routed expert [byte]."""
    precision = model.precision
    weights = accounting.expert_weights(kind, model.hidden) * precision.experts.bytes
    return weights + kind.expert_small * precision.tables.bytes


def resident_slots(
    kind: MoeFfn, deployment: Deployment, world: Counterfactual, softness: Scalar | float = 0.0
) -> Scalar:
    """Experts that the fullest device holds: ceil(E'/e) whole places of a rank, a share of 1/u of
    each on one of its u devices.
    """
    rank = world.resident_experts(deployment.slots(kind.experts), kind.top_k) / deployment.expert
    exact = jnp.where(world.residency > 0.0, deployment.rank_slots(kind.experts), rank)
    return smooth.rounded(rank, exact, softness) / deployment.expert_tensor


def table_weights(model: Model, deployment: Deployment) -> Scalar:
    """Input table and head of the fullest end stage: one table, or both where one stage is first
    and last and they differ. Towers stand in the first stage, split over its devices.
    """
    table = model.vocabulary * model.hidden / deployment.stage_devices
    towers = model.resident / deployment.stage_devices
    return (
        table * (1.0 + (1.0 - model.tied) * ends_together(deployment)) + towers + model.small
    ) * model.precision.tables.bytes


def _cache(
    model: Model,
    workload: Workload,
    deployment: Deployment,
    held: Occupancy,
    softness: Scalar | float,
) -> Scalar:
    encoder = workload.encoder_tokens
    sequence = sequence_bytes(model, workload.context, encoder, deployment, softness)
    prompt = sequence_bytes(model, held.prompt, encoder, deployment, softness)
    return (held.sequences * sequence + held.prompts * prompt) / deployment.data


def sequence_bytes(
    model: Model,
    context: Scalar,
    encoder: Scalar,
    deployment: Deployment,
    softness: Scalar | float = 0.0,
) -> Scalar:
    """What one sequence keeps on a device of its attention group, over all layers [byte]."""
    element = model.precision.kv_cache.bytes
    return sum(  # pyright: ignore[reportReturnType]
        layers.count
        * accounting.sequence_cache_bytes(
            layers.kind, context, encoder, element, deployment.tensor, softness, deployment.dcp
        )
        for layers in model.decoder.attention
    )


def _activations(
    model: Model,
    deployment: Deployment,
    held: Occupancy,
    efficiency: Efficiency,
    softness: Scalar | float,
) -> Scalar:
    """Workspace times the largest activation of the stage's microbatch: residual, heads,
    feed-forward, experts or logits.
    """
    tokens = held.tokens
    local, devices = tokens / deployment.data, deployment.stage_devices
    largest = smooth.maximum(model.hidden * local, model.vocabulary / devices * held.rows, softness)
    for layers in model.decoder.attention:
        largest = smooth.maximum(
            largest, _heads_width(layers.kind) / deployment.tensor * local, softness
        )
    for kind in accounting.ffn_kinds(model):
        largest = smooth.maximum(
            largest, kind.matrices * accounting.shared_width(kind) * tokens / devices, softness
        )
        if not isinstance(kind, DenseFfn):
            rows = tokens * kind.top_k / deployment.expert
            largest = smooth.maximum(
                largest, kind.matrices * kind.width / deployment.expert_tensor * rows, softness
            )
    return efficiency.workspace * model.precision.activation_bytes * largest


def _heads_width(kind: Gqa | Mla | LinearAttention) -> Scalar:
    if isinstance(kind, Gqa):
        return kind.heads * kind.head_dim
    return kind.heads * kind.v_dim if isinstance(kind, Mla) else kind.output_width
