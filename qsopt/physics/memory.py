"""What one device must hold: its stage's weights, the cache of its sequences, activations and a
reserve.

    weights + cache + activations + reserve <= capacity

A server adds what `spec.server_memory` says: it sets aside the activations of a forward of its own
choice, keeps buffers of collectives, pads weights, and its utilization may be the share of
something else than the device's memory. All experts are resident, hit or not: this is the second
half of the double penalty. Stages hold ceil(L/p) average layers; the input table stands in the
first stage and the head in the last.
"""

from typing import Any

from qsopt import xp
from qsopt.arrays import EXACT, Scalar, Softness, number
from qsopt.physics import kv_cache, layer_weights, smooth
from qsopt.physics.activations import at_start, peak
from qsopt.physics.padding import padding
from qsopt.physics.room import Memory, counted
from qsopt.programs import evaluated
from qsopt.record import Record
from qsopt.spec.counterfactual import ACTUAL, Counterfactual
from qsopt.spec.deployment import Deployment
from qsopt.spec.efficiency import Efficiency
from qsopt.spec.layers import DenseFfn, Ffn, Layers, MoeFfn, with_count
from qsopt.spec.model import Model, stacks
from qsopt.spec.server_memory import ServerMemory
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload


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


def stage_share(model: Model, deployment: Deployment, softness: Softness = EXACT) -> Scalar:
    """Share of the layers in the fullest stage, ceil(L/p)/L."""
    return smooth.ceil(model.layers / deployment.pipeline, softness) / model.layers


def ends_together(deployment: Deployment) -> Scalar:
    """1 where the first stage is the last, 0 where they are two; real in between."""
    return xp.clip(2.0 - deployment.pipeline, 0.0, 1.0)


@evaluated
def memory(
    model: Model,
    service: Service,
    deployment: Deployment,
    world: Counterfactual = ACTUAL,
    softness: Softness = EXACT,
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
    server = efficiency.memory
    layers = sum(
        _stack_weights(model, stack, deployment, world, softness, server, share)
        for stack in stacks(model)
    )
    accelerator = service.cluster.accelerator
    return counted(
        Memory(
            weights=share * layers + table_weights(model, deployment, server.whole_tables),
            kv_cache=share * _cache(model, workload, deployment, held, softness),
            activations=0.0,
            reserve=_reserve(efficiency, deployment),
            capacity=accelerator.memory_bytes,
            growing=peak(model, deployment, efficiency, held.tokens, held.rows, softness),
            standing=at_start(model, accelerator, deployment, efficiency, softness),
        ),
        server,
        workload.utilization,
        softness,
    )


def _reserve(efficiency: Efficiency, deployment: Deployment) -> Scalar:
    """Runtime, and buffers of collectives: as much again for twice the devices [byte]."""
    doublings = xp.log2(xp.maximum(deployment.replica_devices, 1.0))
    return efficiency.reserve_bytes + efficiency.memory.communication * doublings


def _stack_weights(model, stack, deployment, world, softness, server, share) -> Scalar:
    """Bytes of all layers of a stack on one device of a one-stage replica; with weights that layers
    share, bytes that times `share` are those of a stage.
    """
    precision, total = model.precision, 0.0
    for layers in stack.attention:
        projections = layer_weights.attention_weights(
            layers.kind, model.hidden, deployment.tensor, softness
        )
        total += _held(layers, share) * (
            projections * precision.attention.bytes + layers.kind.small * precision.tables.bytes
        )
    for layers in stack.ffn:
        total += _held(layers, share) * _ffn_weights(
            layers.kind, model, deployment, world, softness, server
        )
    return total  # pyright: ignore[reportReturnType]


def _held(layers: Layers[Any], share: Scalar) -> Scalar:
    """Sets of weights of a group of layers: of shared ones each stage holds all that it uses."""
    if layers.sets is None:
        return layers.count
    return with_count(layers, layers.count * share).distinct / share


def _ffn_weights(
    kind: Ffn,
    model: Model,
    deployment: Deployment,
    world: Counterfactual,
    softness: Softness,
    server: ServerMemory,
) -> Scalar:
    precision = model.precision
    common = layer_weights.weights(
        layer_weights.ffn_gemms(model.hidden, layer_weights.shared_width(kind), kind.matrices)
    )
    small = kind.small * precision.tables.bytes
    if isinstance(kind, DenseFfn):
        return common * precision.ffn.bytes / deployment.stage_devices + small
    padded = padding(kind, model.hidden, deployment.expert_tensor, precision, server, softness)
    return (
        common * precision.ffn.bytes * deployment.width_split
        + resident_slots(kind, deployment, world, softness) * _expert_bytes(kind, model, padded)
        + layer_weights.router_weights(kind, model.hidden) * precision.tables.bytes
        + small
    )


def _expert_bytes(kind: MoeFfn, model: Model, padded: Scalar) -> Scalar:
    """One routed expert, so many times its weights in its kernel's layout [byte]."""
    precision = model.precision
    weights = layer_weights.expert_weights(kind, model.hidden) * precision.experts.bytes * padded
    return weights + kind.expert_small * precision.tables.bytes


def resident_slots(
    kind: MoeFfn, deployment: Deployment, world: Counterfactual, softness: Softness = EXACT
) -> Scalar:
    """Experts that the fullest device holds: ceil(E'/e) whole places of a rank, a share of 1/u of
    each on one of its u devices.
    """
    rank = world.resident_experts(deployment.slots(kind.experts), kind.top_k) / deployment.expert
    exact = xp.where(world.residency > 0.0, deployment.rank_slots(kind.experts), rank)
    return smooth.rounded(rank, exact, softness) / deployment.expert_tensor


def table_weights(model: Model, deployment: Deployment, whole: Scalar | float = 0.0) -> Scalar:
    """Input table and head of the fullest end stage: one table, or both where one stage is first
    and last and they differ. Towers stand in the first stage, split over its devices.

    Args:
        model: what is served.
        deployment: parallel sizes.
        whole: 1 if each attention data rank has its own tables, 0 if all devices of a stage share
            them; a power, so that all between has a value.
    """
    devices = deployment.tensor * deployment.data ** (1.0 - whole)
    table = model.vocabulary * model.hidden / devices
    towers = model.resident / deployment.stage_devices
    return (
        table * (1.0 + (1.0 - model.tied) * ends_together(deployment)) + towers + model.small
    ) * model.precision.tables.bytes


def _cache(
    model: Model,
    workload: Workload,
    deployment: Deployment,
    held: Occupancy,
    softness: Softness,
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
    softness: Softness = EXACT,
) -> Scalar:
    """What one sequence keeps on a device of its attention group, over all layers [byte]."""
    element = model.precision.kv_cache.bytes
    return sum(  # pyright: ignore[reportReturnType]
        layers.count
        * kv_cache.sequence_cache_bytes(
            layers.kind, context, encoder, element, deployment.tensor, softness, deployment.dcp
        )
        for layers in model.decoder.attention
    )
