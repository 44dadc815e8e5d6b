"""Communication of a stage: what its ranks tell each other, and the next stage, in every step."""

from collections.abc import Iterator
from functools import partial

from qsopt import xp
from qsopt.arrays import Scalar
from qsopt.physics import chunks, collectives, operators, smooth
from qsopt.physics.collectives import Links
from qsopt.physics.memory import ends_together
from qsopt.physics.roofline import Spent
from qsopt.physics.stage import Stage, reader_of, several_data, turns
from qsopt.spec.layers import Ffn, Gqa, LinearAttention, Mla, MoeFfn


def stage_messages(stage: Stage, share: Scalar) -> Iterator[tuple[str, Spent]]:
    """Every kind of communication of the stage."""
    decoder, deployment, efficiency = stage.model.decoder, stage.deployment, stage.efficiency
    wires = collectives.links(stage.accelerator, efficiency.scale_up, efficiency.scale_out)
    to_experts = collectives.links(
        stage.accelerator, efficiency.dispatch_up, efficiency.dispatch_out
    )
    whole = stage.group(deployment.stage_devices)
    attention = sum(layers.count for layers in decoder.attention) * share
    exposed = 1.0 - efficiency.attention_overlap
    yield "attention communication", _attention(stage, wires).times(attention * exposed)
    for layers in decoder.attention:
        if not isinstance(layers.kind, LinearAttention):
            shared = _shared_cache(stage, layers.kind, wires)
            yield "attention communication", shared.times(layers.count * share * exposed)
    exposed = 1.0 - efficiency.ffn_overlap * turns(stage)
    gathered = (
        sum(layers.count * (1.0 - _sent(stage, layers.kind)) for layers in decoder.ffn) * share
    )
    yield "ffn communication", _gathered(stage, whole, wires).times(gathered * exposed)
    for layers in decoder.ffn:
        if isinstance(layers.kind, MoeFfn):
            sent = layers.count * share * deployment.dispatched * exposed
            moved = _dispatched(stage, layers.kind, whole, to_experts)
            yield "ffn communication", moved.times(sent)
    if stage.load.chunk is not None:
        yield from _exchanges(stage, share, wires)
    yield "head communication", _head_messages(stage, whole, wires)
    yield "pipeline communication", _next_stage(stage, wires)


def _sent(stage: Stage, kind: Ffn) -> Scalar | float:
    """1 for a layer whose tokens are dispatched."""
    return stage.deployment.dispatched if isinstance(kind, MoeFfn) else 0.0


def _attention(stage: Stage, wires: Links) -> Spent:
    """Sum over the tensor ranks: an all-reduce, or a reduce-scatter and a later gather where tokens
    move between.
    """
    deployment = stage.deployment
    scattered = xp.maximum(several_data(stage), deployment.dispatched)
    return collectives.all_reduce(
        stage.group(deployment.tensor), stage.message / deployment.data, wires, 1.0 + scattered
    )


def _gathered(stage: Stage, whole: collectives.Group, wires: Links) -> Spent:
    """Every device sees all tokens: an all-reduce over the stage, or with attention data
    parallelism a gather and a scatter.
    """
    return collectives.all_reduce(whole, stage.message, wires, 1.0 + several_data(stage))


def _dispatched(stage: Stage, kind: MoeFfn, whole: collectives.Group, wires: Links) -> Spent:
    """Tokens to their experts and results back; the most loaded rank receives most."""
    deployment, model, load = stage.deployment, stage.model, stage.load
    efficiency, element = stage.efficiency, stage.model.precision.activation_bytes
    uneven = operators.unevenness(kind, load, deployment, efficiency, stage.world, stage.softness)
    exchange = collectives.Exchange(
        load.tokens / deployment.stage_devices,
        kind.top_k,
        deployment.expert,
        efficiency.merged_dispatch,
        kind.groups,
        kind.top_groups,
    )
    out = xp.where(efficiency.dispatch_bytes > 0.0, efficiency.dispatch_bytes, element)
    there, back = (
        collectives.dispatch(whole, model.hidden * size * uneven, exchange, wires)
        for size in (out, element)
    )
    return there + back


def _shared_cache(stage: Stage, kind: Gqa | Mla, wires: Links) -> Spent:
    """Ranks that share a cache gather the queries of all their heads, and sum the partial outputs
    with the log-sum-exp of each.
    """
    deployment, element = stage.deployment, stage.model.precision.activation_bytes
    latent = isinstance(kind, Mla)
    query = kind.kv_rank + kind.rope_dim if latent else kind.head_dim
    output = kind.kv_rank if latent else kind.head_dim
    ranks = stage.group(deployment.dcp)
    heads = deployment.dcp * kind.heads / deployment.tensor
    tokens = stage.load.decoding / deployment.data
    gathered = collectives.all_gather(ranks, tokens * heads * query * element, wires)
    sums = tokens * heads * (output * element + _LOG_SUM_BYTES)
    both = gathered + collectives.all_gather(ranks, sums, wires)
    return both if stage.load.chunk is None else both.times(chunks.runs(tokens))


_LOG_SUM_BYTES = 4.0
"""One float32 for each head and token [byte]."""


def _head_messages(stage: Stage, whole: collectives.Group, wires: Links) -> Spent:
    """With attention data parallelism the last hidden states are gathered, and where the ends meet
    the embeddings too.
    """
    load = stage.load
    last = collectives.all_gather(whole, stage.message * load.rows / load.tokens, wires)
    first = collectives.all_gather(whole, stage.message, wires)
    return (last + first.times(ends_together(stage.deployment))).times(several_data(stage))


def _next_stage(stage: Stage, wires: Links) -> Spent:
    """Activations to the next stage; the slowest boundary leaves the domain as soon as one does."""
    deployment = stage.deployment
    crossing = smooth.step(
        deployment.replica_devices / stage.accelerator.scale_up_devices - 1.0, stage.softness
    )
    links = stage.group(2.0 * xp.ones_like(deployment.pipeline)).links
    sent = collectives.send(stage.message / deployment.data, crossing, wires, links)
    return sent.times(xp.clip(deployment.pipeline - 1.0, 0.0, 1.0))


def _exchanges(stage: Stage, share: Scalar, wires: Links) -> Iterator[tuple[str, Spent]]:
    """What ranks that read one prompt together tell each other, every t-th of t * sharing
    neighbours; and the cached entries that ranks gather which share the cache for decode.
    """
    reader, deployment = reader_of(stage), stage.deployment
    chunk, tensor = reader.chunk, deployment.tensor
    whole = stage.group(tensor * chunk.sharing)
    ranks = collectives.Group(chunk.sharing / whole.domains, whole.domains, whole.links)
    for layers in stage.model.decoder.attention:
        entries = partial(
            chunks.entry_bytes, layers.kind, chunk, reader.element, deployment.data, tensor
        )
        shared = collectives.all_gather(ranks, entries(chunk.length, stage.softness), wires)
        cached = collectives.all_gather(
            stage.group(deployment.dcp), entries(0.0, stage.softness), wires
        )
        both = (shared + cached).times(chunks.runs(reader.tokens))
        yield "attention communication", both.times(layers.count * share)
