"""One step of a deployment: the time of a microbatch in the slowest stage, operator by operator.

    tau  = ceil(L/p) average layers + head and its messages in the last stage
    TPOT = p tau / n_t

with p stages, each working on another of p microbatches, and n_t tokens a sequence and step.
Ignored: scheduling and sampling on the host, and the bubble of batches that p does not divide (such
batches are not legal).
"""

from collections.abc import Iterator
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qsopt.arrays import Scalar, number
from qsopt.physics import collectives, operators, smooth
from qsopt.physics.collectives import Links
from qsopt.physics.memory import ends_together, stage_share
from qsopt.physics.operators import Load
from qsopt.physics.roofline import Cost, Spent, roofline
from qsopt.spec.counterfactual import Counterfactual
from qsopt.spec.deployment import Deployment
from qsopt.spec.efficiency import Efficiency, OperatorEfficiency
from qsopt.spec.formats import ARITHMETICS, Format
from qsopt.spec.hardware import Accelerator
from qsopt.spec.model import Attention, DenseFfn, Ffn, Gqa, LinearAttention, Mla, Model, MoeFfn

Record = TypeVar("Record")

OPERATORS = (
    "attention projections",
    "attention core",
    "attention communication",
    "dense ffn",
    "router",
    "routed experts",
    "shared experts",
    "ffn communication",
    "head",
    "head communication",
    "pipeline communication",
)
"""Operators of a breakdown, in its order."""


class Stage(eqx.Module):
    """What every operator of a stage needs to know."""

    model: Model
    accelerator: Accelerator
    load: Load
    deployment: Deployment
    efficiency: Efficiency
    world: Counterfactual
    softness: Scalar | float

    @property
    def message(self) -> Scalar:
        """Activations of the whole microbatch, X = T h a [byte]."""
        return self.load.tokens * self.model.hidden * self.model.precision.activation_bytes

    def group(self, size: Scalar) -> collectives.Group:
        """`size` ranks on this cluster."""
        ranks = collectives.group(size, self.accelerator.scale_up_devices, self.softness)
        return collectives.on_links(ranks, self.accelerator, self.efficiency.shared_links)


class Work(eqx.Module):
    """One kind of operator in a stage: its cost, how often it runs, and what it runs at."""

    cost: Cost
    efficiency: OperatorEfficiency
    peak: Scalar = number()
    """Peak of its arithmetic [FLOP/s]."""
    count: Scalar = number()
    """Times that it runs for a microbatch."""
    tokens: Scalar = number(1.0)
    """Rows of its products."""
    batch: Scalar = number(1.0)
    """Tokens that attend at once."""


def microbatch(stage: Stage) -> Spent:
    """Time of one microbatch in the slowest stage; every field of the record has one entry for each
    of `OPERATORS`.
    """
    share = stage_share(stage.model, stage.deployment, stage.softness)
    works = list(_works(stage, share))
    messages = list(_messages(stage, share))
    accelerator = stage.accelerator

    def timed(work: Work) -> Spent:
        spent = roofline(
            work.cost,
            work.peak,
            accelerator.bandwidth,
            work.efficiency,
            stage.softness,
            work.tokens,
            work.batch,
        )
        return spent.times(work.count)

    computed = jax.vmap(timed)(stacked([work for _, work in works]))
    sent = stacked([message.times(stage.world.communication) for _, message in messages])
    named = [name for name, _ in works] + [name for name, _ in messages]
    membership = np.array(
        [[name == operator for operator in OPERATORS] for name in named], dtype=float
    )
    return jax.tree.map(lambda *parts: jnp.concatenate(parts) @ membership, computed, sent)


def stacked(records: list[Record]) -> Record:
    """Records of one structure as one record of arrays."""
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *records)


# ---- compute -------------------------------------------------------------------------------------


def _works(stage: Stage, share: Scalar) -> Iterator[tuple[str, Work]]:
    """Every kind of compute of the stage; the head belongs to the last."""
    for layers in stage.model.decoder.attention:
        yield "attention projections", _projections(stage, layers.kind, layers.count * share)
        yield "attention core", _core(stage, layers.kind, layers.count * share)
        if not isinstance(layers.kind, LinearAttention):
            yield "attention core", _indexer(stage, layers.kind, layers.count * share)
    for layers in stage.model.decoder.ffn:
        yield from _ffn(stage, layers.kind, layers.count * share)
    yield "head", _head(stage)


def _product(stage: Stage, cost: Cost, form: Format, count: Scalar | float, rows: Scalar) -> Work:
    """Plain matrix products with weights of one format."""
    return Work(cost, stage.efficiency.gemm.of(form), stage.accelerator.peak(form), count, rows)


def _projections(stage: Stage, kind: Attention, count: Scalar) -> Work:
    cost = operators.projections(kind, stage.model, stage.load, stage.deployment, stage.softness)
    return _product(
        stage,
        cost,
        stage.model.precision.attention,
        count,
        stage.load.tokens / stage.deployment.data,
    )


def core_kind(kind: Attention) -> str:
    """The field of an `Efficiency` that an attention's scores and sums run at."""
    return (
        "attention"
        if isinstance(kind, Gqa)
        else "linear"
        if isinstance(kind, LinearAttention)
        else "mla"
    )


def _core(stage: Stage, kind: Attention, count: Scalar) -> Work:
    """Scores and sums run in bf16 whatever the cache is stored in."""
    cost = operators.attention_core(kind, stage.model, stage.load, stage.deployment, stage.softness)
    family = getattr(stage.efficiency, core_kind(kind))
    attending = stage.load.tokens / stage.deployment.data
    return Work(
        cost,
        family.of(stage.model.precision.kv_cache),
        stage.accelerator.peak_flops[0],
        count,
        batch=attending,
    )


def _indexer(stage: Stage, kind: Gqa | Mla, count: Scalar) -> Work:
    """Selection of the tokens that sparse attention sees, in fp8 (DeepSeek-V3.2)."""
    cost = operators.indexer(kind, stage.load, stage.deployment)
    family = stage.efficiency.mla.of(stage.model.precision.kv_cache)
    attending = stage.load.tokens / stage.deployment.data
    peak = stage.accelerator.peak_flops[ARITHMETICS.index("fp8")]
    return Work(cost, family, peak, count, batch=attending)


def _ffn(stage: Stage, kind: Ffn, count: Scalar) -> Iterator[tuple[str, Work]]:
    deployment, load, precision = stage.deployment, stage.load, stage.model.precision
    common = operators.common_ffn(kind, stage.model, load, deployment)
    if isinstance(kind, DenseFfn):
        yield "dense ffn", _product(stage, common, precision.ffn, count, load.tokens)
        return
    rows = load.tokens * deployment.token_split
    yield "shared experts", _product(stage, common, precision.ffn, count, rows)
    scores = operators.router(kind, stage.model, load, deployment)
    there = count * stage.world.imbalance
    yield "router", _product(stage, scores, precision.tables, there, load.tokens / deployment.data)
    routed = operators.routed_experts(
        kind, stage.model, load, deployment, stage.efficiency, stage.world, stage.softness
    )
    peak = stage.accelerator.peak(precision.experts)
    yield "routed experts", Work(routed.cost, _expert_family(stage), peak, count, routed.tokens)


def _expert_family(stage: Stage) -> OperatorEfficiency:
    """What kernels of experts reach; that of dense products in a world without imbalance."""
    form, real = stage.model.precision.experts, stage.world.imbalance
    grouped, plain = stage.efficiency.experts.of(form), stage.efficiency.gemm.of(form)
    return jax.tree.map(lambda own, other: real * own + (1.0 - real) * other, grouped, plain)


def _head(stage: Stage) -> Work:
    cost = operators.head(stage.model, stage.load, stage.deployment)
    return _product(
        stage, cost, stage.model.precision.tables, 1.0, stage.load.sequences * stage.load.logits
    )


# ---- communication -------------------------------------------------------------------------------


def _messages(stage: Stage, share: Scalar) -> Iterator[tuple[str, Spent]]:
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
    turns = jnp.maximum(_several_data(stage), deployment.dispatched)
    exposed = 1.0 - efficiency.ffn_overlap * turns
    gathered = (
        sum(layers.count * (1.0 - _sent(stage, layers.kind)) for layers in decoder.ffn) * share
    )
    yield "ffn communication", _gathered(stage, whole, wires).times(gathered * exposed)
    for layers in decoder.ffn:
        if isinstance(layers.kind, MoeFfn):
            sent = layers.count * share * deployment.dispatched * exposed
            moved = _dispatched(stage, layers.kind, whole, to_experts)
            yield "ffn communication", moved.times(sent)
    yield "head communication", _head_messages(stage, whole, wires)
    yield "pipeline communication", _next_stage(stage, wires)


def _sent(stage: Stage, kind: Ffn) -> Scalar | float:
    """1 for a layer whose tokens are dispatched."""
    return stage.deployment.dispatched if isinstance(kind, MoeFfn) else 0.0


def _several_data(stage: Stage) -> Scalar:
    """1 with attention data parallelism, 0 without."""
    return jnp.clip(stage.deployment.data - 1.0, 0.0, 1.0)


def _attention(stage: Stage, wires: Links) -> Spent:
    """Sum over the tensor ranks: an all-reduce, or a reduce-scatter and a later gather where tokens
    move between.
    """
    deployment = stage.deployment
    scattered = jnp.maximum(_several_data(stage), deployment.dispatched)
    return collectives.all_reduce(
        stage.group(deployment.tensor), stage.message / deployment.data, wires, 1.0 + scattered
    )


def _gathered(stage: Stage, whole: collectives.Group, wires: Links) -> Spent:
    """Every device sees all tokens: an all-reduce over the stage, or with attention data
    parallelism a gather and a scatter.
    """
    return collectives.all_reduce(whole, stage.message, wires, 1.0 + _several_data(stage))


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
    out = jnp.where(efficiency.dispatch_bytes > 0.0, efficiency.dispatch_bytes, element)
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
    tokens = stage.load.tokens / deployment.data
    gathered = collectives.all_gather(ranks, tokens * heads * query * element, wires)
    partial = tokens * heads * (output * element + _LOG_SUM_BYTES)
    return gathered + collectives.all_gather(ranks, partial, wires)


_LOG_SUM_BYTES = 4.0
"""One float32 for each head and token [byte]."""


def _head_messages(stage: Stage, whole: collectives.Group, wires: Links) -> Spent:
    """With attention data parallelism the last hidden states are gathered, and where the ends meet
    the embeddings too.
    """
    load = stage.load
    last = collectives.all_gather(whole, stage.message * load.logits / load.new_tokens, wires)
    first = collectives.all_gather(whole, stage.message, wires)
    return (last + first.times(ends_together(stage.deployment))).times(_several_data(stage))


def _next_stage(stage: Stage, wires: Links) -> Spent:
    """Activations to the next stage; the slowest boundary leaves the domain as soon as one does."""
    deployment = stage.deployment
    crossing = smooth.step(
        deployment.replica_devices / stage.accelerator.scale_up_devices - 1.0, stage.softness
    )
    links = stage.group(2.0 * jnp.ones_like(deployment.pipeline)).links
    sent = collectives.send(stage.message / deployment.data, crossing, wires, links)
    return sent.times(jnp.clip(deployment.pipeline - 1.0, 0.0, 1.0))
