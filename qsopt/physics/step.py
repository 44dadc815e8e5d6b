"""One step of a deployment: the time of a microbatch in the slowest stage, operator by operator.

    tau  = ceil(L/p) average layers + head and its messages in the last stage
    TPOT = p tau / n_t

with p stages, each working on another of p microbatches, and n_t tokens a sequence and step.
What a server adds is in `server`. Ignored: the bubble of batches that p does not divide (such
batches are not legal).
"""

from collections.abc import Iterator
from functools import partial
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qsopt.arrays import Scalar, Softness
from qsopt.physics import chunks, operators, prompt_attention, smooth
from qsopt.physics.memory import stage_share
from qsopt.physics.messages import stage_messages
from qsopt.physics.roofline import Cost, Spent, Work, roofline
from qsopt.physics.stage import Stage, reader_of, turns
from qsopt.spec.efficiency import OperatorEfficiency
from qsopt.spec.formats import ARITHMETICS, Format
from qsopt.spec.layers import Attention, DenseFfn, Ffn, Gqa, LinearAttention, Mla

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
    "host",
)
"""Parts of a breakdown, in its order: operators, and what a server's host adds (see `server`)."""

SPLIT = ("attention communication", "ffn communication")
"""Those that two halves of a batch of prompts overlap with compute."""


def microbatch(stage: Stage) -> Spent:
    """Time of one microbatch in the slowest stage; every field of the record has one entry for each
    of `OPERATORS`.
    """
    share = stage_share(stage.model, stage.deployment, stage.softness)
    prompts = [] if stage.load.chunk is None else _prompt_attention(stage, share)
    works = [*_works(stage, share), *(work for layer in prompts for work in layer.fixed)]
    fixed = len(works)
    works += [work for layer in prompts for work in (*layer.either, *layer.other)]
    computed = jax.vmap(partial(timed, stage))(stacked([work for _, work in works]))
    messages = list(stage_messages(stage, share))
    sent = stacked([message.times(stage.world.communication) for _, message in messages])
    named = [name for name, _ in works] + [name for name, _ in messages]
    membership = np.array(
        [[name == operator for operator in OPERATORS] for name in named], dtype=float
    )
    if stage.load.chunk is None:
        return jax.tree.map(lambda *parts: jnp.concatenate(parts) @ membership, computed, sent)
    ways = [(len(layer.either), len(layer.other)) for layer in prompts]
    done = cheaper(computed.seconds, fixed, ways, stage.softness)
    total = jax.tree.map(
        lambda work, message: jnp.concatenate([work * done, message]) @ membership, computed, sent
    )
    return overlapped(total, stage)


def timed(stage: Stage, work: Work) -> Spent:
    """Time of one kind of operator in all of a stage's layers."""
    spent = roofline(
        work.cost,
        work.peak,
        stage.accelerator.bandwidth,
        work.efficiency,
        stage.softness,
        work.tokens,
        work.batch,
    )
    return spent.times(work.count)


def cheaper(
    seconds: Float[Array, " works"],
    fixed: int,
    ways: list[tuple[int, int]],
    softness: Softness,
) -> Float[Array, " works"]:
    """What of each work is done: all of it, or, of two ways, that which takes less time; relaxed,
    so much of it that its time is the smooth minimum of both.

    Args:
        seconds: time of each work [s].
        fixed: works that are done in any case, which come first.
        ways: after them, works of either way of each kind of layer.
        softness: of the relaxed model.
    """
    done, start = [jnp.ones(fixed)], fixed
    for one, other in ways:
        end = start + one + other
        first, second = jnp.sum(seconds[start : start + one]), jnp.sum(seconds[start + one : end])
        least, exact = smooth.minimum(first, second, softness), jnp.minimum(first, second)
        share = jnp.where(exact > 0, least / jnp.where(exact > 0, exact, 1.0), 1.0)
        done += [jnp.full(one, jnp.where(first <= second, share, 0.0))]
        done += [jnp.full(other, jnp.where(first <= second, 0.0, share))]
        start = end
    return jnp.concatenate(done)


def overlapped(total: Spent, stage: Stage) -> Spent:
    """What is left of communication where prompts are read in two halves, one computing while the
    other communicates: with attention data parallelism or where tokens are dispatched, as for
    decode steps, a share of the smaller of both is hidden. Decoding tokens in the same forward are
    not split.
    """
    sent = np.array([operator in SPLIT for operator in OPERATORS], dtype=float)
    messages = total.seconds @ sent
    computing = jnp.sum(total.seconds) - messages
    prompts = stage.load.chunk.tokens / stage.load.tokens  # pyright: ignore[reportOptionalMemberAccess]
    least = smooth.minimum(messages, computing, stage.softness)
    some = messages > 0
    split = stage.efficiency.prefill_overlap * prompts * turns(stage)
    hidden = split * least / jnp.where(some, messages, 1.0)
    left = 1.0 - jnp.where(some, hidden, 0.0) * sent
    return eqx.tree_at(
        lambda t: (t.seconds, t.latency, t.link),
        total,
        (total.seconds * left, total.latency * left, total.link * left),
    )


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
    form, peak = stage.model.precision.kv_cache, stage.accelerator.peak_flops[0]
    return _attending(stage, Work(cost, family.of(form), peak, count))


def _attending(stage: Stage, work: Work) -> Work:
    """Work of the decoding tokens of a rank; none where none decodes."""
    tokens = stage.load.decoding / stage.deployment.data
    if stage.load.chunk is None:
        return eqx.tree_at(lambda w: w.batch, work, tokens)
    there = (work.count * chunks.runs(tokens), jnp.maximum(tokens, 1.0))
    return eqx.tree_at(lambda w: (w.count, w.batch), work, there)


def _indexer(stage: Stage, kind: Gqa | Mla, count: Scalar) -> Work:
    """Selection of the tokens that sparse attention sees, in fp8 (DeepSeek-V3.2)."""
    cost = operators.indexer(kind, stage.load, stage.deployment)
    family = stage.efficiency.mla.of(stage.model.precision.kv_cache)
    peak = stage.accelerator.peak_flops[ARITHMETICS.index("fp8")]
    return _attending(stage, Work(cost, family, peak, count))


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
    return _product(stage, cost, stage.model.precision.tables, 1.0, stage.load.rows)


# ---- prompts -------------------------------------------------------------------------------------


def _prompt_attention(stage: Stage, share: Scalar) -> list[prompt_attention.Works]:
    """Attention of prompts by kind of layer."""
    reader = reader_of(stage)
    return [
        prompt_attention.attention(reader, layers.kind, layers.count * share)
        for layers in stage.model.decoder.attention
    ]
