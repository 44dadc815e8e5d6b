"""One step of a deployment: the time of a microbatch in the slowest stage, operator by operator.

    tau  = ceil(L/p) average layers + head and its messages in the last stage
    TPOT = p tau / n_t

with p stages, each working on another of p microbatches, and n_t tokens a sequence and step.
What a server adds is in `server`. Ignored: the bubble of batches that p does not divide (such
batches are not legal).
"""

from collections.abc import Iterator

import equinox as eqx
import jax

from qsopt import xp
from qsopt.arrays import Scalar
from qsopt.physics import chunks, operators, prompt_attention, smooth
from qsopt.physics.memory import stage_share
from qsopt.physics.messages import stage_messages
from qsopt.physics.roofline import Cost, Spent, Work, roofline, summed
from qsopt.physics.stage import Stage, reader_of, turns
from qsopt.spec.efficiency import OperatorEfficiency
from qsopt.spec.formats import ARITHMETICS, Format
from qsopt.spec.layers import Attention, DenseFfn, Ffn, Gqa, LinearAttention, Mla

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


Parts = list[tuple[str, Spent]]
"""What a microbatch does, each with the operator that it is part of."""


def microbatch(stage: Stage) -> Parts:
    """Time of one microbatch in the slowest stage: every kind of compute and of messages."""
    share = stage_share(stage.model, stage.deployment, stage.softness)
    parts = [*_computed(stage, share), *_sent(stage, share)]
    return parts if stage.load.chunk is None else overlapped(parts, stage)


def whole(parts: Parts) -> Spent:
    """All that a microbatch does together."""
    return summed(spent for _, spent in parts)


def by_operator(parts: Parts) -> Spent:
    """What a microbatch does as a record of arrays: an entry of every field for each of
    `OPERATORS`.
    """
    found = [summed(spent for name, spent in parts if name == each) for each in OPERATORS]
    return jax.tree.map(lambda *entries: xp.stack([xp.asarray(x) for x in entries]), *found)


def _computed(stage: Stage, share: Scalar) -> Iterator[tuple[str, Spent]]:
    """Time of every kind of compute."""
    for name, work in _works(stage, share):
        yield name, timed(stage, work)
    if stage.load.chunk is not None:
        for works in _prompt_attention(stage, share):
            yield from _cheaper(stage, works)


def _sent(stage: Stage, share: Scalar) -> Iterator[tuple[str, Spent]]:
    """Time of every kind of message, in a world that may have none."""
    for name, message in stage_messages(stage, share):
        yield name, message.times(stage.world.communication)


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


def _cheaper(stage: Stage, works: prompt_attention.Works) -> Iterator[tuple[str, Spent]]:
    """What is done in any case, and of two ways that which takes less time; relaxed, so much of it
    that its time is the smooth minimum of both.
    """
    fixed, either, other = ([(name, timed(stage, work)) for name, work in way] for way in works)
    yield from fixed
    if not either:
        return
    first, second = (summed(spent for _, spent in way).seconds for way in (either, other))
    least, exact = smooth.minimum(first, second, stage.softness), xp.minimum(first, second)
    share = xp.where(exact > 0, least / xp.where(exact > 0, exact, 1.0), 1.0)
    for way, done in ((either, first <= second), (other, first > second)):
        for name, spent in way:
            yield name, spent.times(xp.where(done, share, 0.0))


def overlapped(parts: Parts, stage: Stage) -> Parts:
    """What is left of communication where prompts are read in two halves, one computing while the
    other communicates: with attention data parallelism or where tokens are dispatched, as for
    decode steps, a share of the smaller of both is hidden. Decoding tokens in the same forward are
    not split.
    """
    messages, computing = (
        sum(spent.seconds for name, spent in parts if (name in SPLIT) == split)
        for split in (True, False)
    )
    prompts = stage.load.chunk.tokens / stage.load.tokens  # pyright: ignore[reportOptionalMemberAccess]
    least = smooth.minimum(messages, computing, stage.softness)
    some = messages > 0
    split = stage.efficiency.prefill_overlap * prompts * turns(stage)
    left = 1.0 - xp.where(some, split * least / xp.where(some, messages, 1.0), 0.0)
    return [(name, _shorter(spent, left) if name in SPLIT else spent) for name, spent in parts]


def _shorter(sent: Spent, left: Scalar) -> Spent:
    """A message of which only so much of the time shows."""
    times = (sent.seconds * left, sent.latency * left, sent.link * left)
    return eqx.tree_at(lambda s: (s.seconds, s.latency, s.link), sent, times)


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
    there = (work.count * chunks.runs(tokens), xp.maximum(tokens, 1.0))
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
