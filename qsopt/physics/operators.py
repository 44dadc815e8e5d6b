"""The operators of a step: FLOPs, bytes and launches of each on one device, for one layer and one
microbatch.

Weights are read once per microbatch, activations around every matrix product are real bytes (a
column-split product reads its whole input and writes its share of the output, a row-split one the
reverse), and the cache is read once per step. Ignored: norms, rotary embeddings, residual additions
and softmax traffic, which fused kernels hide.
"""

from qsopt import xp
from qsopt.arrays import EXACT, Scalar, Softness, number
from qsopt.physics import kv_cache, layer_weights, routing, smooth
from qsopt.physics.chunks import runs
from qsopt.physics.layer_weights import Gemm
from qsopt.physics.load import Load
from qsopt.physics.roofline import Cost
from qsopt.programs import traced_once
from qsopt.record import Record
from qsopt.spec.counterfactual import ACTUAL, Counterfactual
from qsopt.spec.deployment import Deployment
from qsopt.spec.efficiency import Efficiency
from qsopt.spec.layers import Attention, DenseFfn, Ffn, Gqa, LinearAttention, Mla, MoeFfn
from qsopt.spec.model import Model


def products(
    gemms: tuple[Gemm, ...], tokens: Scalar, weight_bytes: Scalar, activation_bytes: Scalar
) -> Cost:
    """Matrix products of `tokens` tokens, one launch each; those without weights do not exist."""
    return sum((_product(gemm, tokens, weight_bytes, activation_bytes) for gemm in gemms), Cost())


@traced_once
def _product(gemm: Gemm, tokens: Scalar, weight_bytes: Scalar, activation_bytes: Scalar) -> Cost:
    exists = gemm.weights > 0
    activations = xp.where(exists, gemm.reads + gemm.writes, 0.0)
    flops, read = 2.0 * gemm.weights * tokens, gemm.weights * weight_bytes
    some = exists & (gemm.writes > 0)
    per_column = xp.where(some, 1.0 / xp.where(some, gemm.writes, 1.0), 0.0)
    return Cost(
        flops,
        read + tokens * activations * activation_bytes,
        xp.where(exists, 1.0, 0.0),
        read * per_column,
        flops * per_column,
    )


def projections(
    kind: Attention, model: Model, load: Load, deployment: Deployment, softness: Softness
) -> Cost:
    """All projections of an attention layer; those of the latents of prompts are counted with their
    attention.
    """
    form, activation = model.precision.attention, model.precision.activation_bytes
    tokens = load.tokens / deployment.data
    if isinstance(kind, Mla) and load.chunk is not None:
        gemms = layer_weights.latent_projections(kind, model.hidden, deployment.tensor)
        absorbed = layer_weights.absorbed_projections(kind, deployment.tensor)
        decoding = load.decoding / deployment.data
        return products(gemms, tokens, form.bytes, activation) + products(
            absorbed, decoding, form.bytes, activation
        ).times(runs(decoding))
    gemms = layer_weights.attention_gemms(kind, model.hidden, deployment.tensor, softness)
    return products(gemms, tokens, form.bytes, activation)


def attention_core(
    kind: Attention, model: Model, load: Load, deployment: Deployment, softness: Softness
) -> Cost:
    """Scores, softmax and weighted sum over the cache, and the write of the new tokens' entries; or
    a state's update.
    """
    sequences, element = load.sequences / deployment.data, model.precision.kv_cache.bytes
    if isinstance(kind, LinearAttention):
        flops = sequences * load.new_tokens * kind.state_flops / deployment.tensor
        return Cost(flops, 2.0 * sequences * kind.state_bytes / deployment.tensor, 1.0)
    elements = kv_cache.token_kv_elements(kind, deployment.tensor, softness) / deployment.dcp
    entry = sequences * elements * element
    if isinstance(kind, Gqa):
        held = kv_cache.cached_tokens(kind, load.context, load.encoder_context, softness)
        seen = xp.minimum(held, kind.index_top_k)
        pair = 4.0 * kind.heads * kind.head_dim / deployment.tensor
        return Cost(
            sequences * load.new_tokens * seen * pair,
            entry * (seen + load.new_tokens * (1.0 - kind.cross) * kind.cached),
            1.0,
        )
    return _latent_core(kind, load, sequences, entry, deployment.tensor)


def _latent_core(kind: Mla, load: Load, sequences: Scalar, entry: Scalar, tensor: Scalar) -> Cost:
    entries = xp.minimum(kv_cache.entries(kind, load.context), kind.index_top_k)
    seen = entries + kv_cache.recent_tokens(kind, load.context)
    on_latents = 2.0 * kind.kv_rank + kind.rope_dim * (1.0 + kind.direct)
    pair = 2.0 * kind.heads / tensor * on_latents
    return Cost(sequences * load.new_tokens * seen * pair, entry * (seen + load.new_tokens), 1.0)


def indexer(kind: Gqa | Mla, load: Load, deployment: Deployment) -> Cost:
    """Scores of every entry against the indexer's heads, replicated on all tensor ranks but for
    those that share the cache. Ignored: merging their selections.
    """
    sequences, entries = load.sequences / deployment.data, kv_cache.entries(kind, load.context)
    pair = 2.0 * kind.index_heads * kind.index_dim / deployment.dcp
    keys = sequences * kv_cache.index_key_bytes(kind) / deployment.dcp
    return Cost(
        sequences * load.new_tokens * entries * pair,
        keys * (entries + load.new_tokens),
        xp.where(kind.index_heads > 0, 1.0, 0.0),
    )


def common_ffn(kind: Ffn, model: Model, load: Load, deployment: Deployment) -> Cost:
    """A dense layer or the shared experts: split over the stage, or whole on each device where
    tokens are dispatched.
    """
    width, tokens = layer_weights.shared_width(kind), load.tokens
    if isinstance(kind, DenseFfn):
        width = width / deployment.stage_devices
    else:
        width, tokens = width * deployment.width_split, tokens * deployment.token_split
    precision = model.precision
    return products(
        layer_weights.ffn_gemms(model.hidden, width, kind.matrices),
        tokens,
        precision.ffn.bytes,
        precision.activation_bytes,
    )


def router(kind: MoeFfn, model: Model, load: Load, deployment: Deployment) -> Cost:
    """Scores of every expert, replicated; a single expert needs none."""
    gemm = Gemm(layer_weights.router_weights(kind, model.hidden), model.hidden, kind.experts)
    precision = model.precision
    return products(
        (gemm,), load.tokens / deployment.data, precision.tables.bytes, precision.activation_bytes
    )


class Routed(Record):
    """The routed experts of one layer."""

    cost: Cost
    """Work of the most loaded rank."""
    tokens: Scalar = number()
    """Tokens that an expert that is read sees, m."""


def routed_experts(
    kind: MoeFfn,
    model: Model,
    load: Load,
    deployment: Deployment,
    efficiency: Efficiency,
    world: Counterfactual,
    softness: Softness = EXACT,
) -> Routed:
    """The experts of a rank as one grouped product: only those hit are read, copies of an expert in
    several places each.

    Where the efficiency set counts stragglers, the rank with most rows and the one with most
    experts hit set the time.
    """
    places, precision = deployment.slots(kind.experts), model.precision
    independent = load.independent(efficiency.sequence_correlation)
    hit = routing.experts_hit(independent, places, kind.top_k, efficiency.popularity_cv2)
    read = world.read_experts(hit, kind.top_k)
    width = kind.width / deployment.expert_tensor
    uneven = unevenness(kind, load, deployment, efficiency, world, softness)
    rows = uneven * load.tokens * kind.top_k / deployment.expert
    busiest = routing.busiest_hits(hit, places, deployment.expert) - hit / deployment.expert
    extra = efficiency.straggler * world.imbalance * world.reuse * busiest
    cost = grouped_experts(
        model.hidden,
        width,
        kind.matrices,
        read / deployment.expert * fullness(kind, deployment, softness) + extra,
        rows,
        precision.experts.bytes,
        precision.activation_bytes,
        (1.0 - deployment.dispatched) * xp.maximum(load.tokens * kind.top_k - rows, 0.0),
    )
    return Routed(cost, load.tokens * kind.top_k / read)


def grouped_experts(
    hidden: Scalar,
    width: Scalar,
    matrices: Scalar,
    experts_read: Scalar,
    rows: Scalar,
    weight_bytes: Scalar,
    activation_bytes: Scalar,
    rows_elsewhere: Scalar | float = 0.0,
) -> Cost:
    """The routed experts of one layer on one rank as one grouped product.

    Args:
        hidden: width of a token.
        width: of an expert on this rank.
        matrices: of an expert, 3 if gated and 2 if not.
        experts_read: experts whose weights are read.
        rows: token rows that pass through them, each counted once for every expert that it visits.
        weight_bytes: of one weight [byte].
        activation_bytes: of one element between operators [byte].
        rows_elsewhere: rows of gathered tokens whose experts are on other ranks.
    """
    gemms = layer_weights.ffn_gemms(hidden, width, matrices)
    work = products(gemms, rows, 0.0 * weight_bytes, activation_bytes)
    read = experts_read * layer_weights.weights(gemms) * weight_bytes
    return Cost(
        work.flops,
        work.bytes + read,
        1.0,
        narrow=read / width,
        narrow_flops=work.flops / width,
        elsewhere=rows_elsewhere * layer_weights.activations(gemms) * activation_bytes,
    )


def fullness(kind: MoeFfn, deployment: Deployment, softness: Softness = EXACT) -> Scalar:
    """Places of the fullest expert rank over the mean: 1 where the ranks divide them."""
    mean = deployment.slots(kind.experts) / deployment.expert
    return smooth.rounded(xp.ones_like(mean), deployment.rank_slots(kind.experts) / mean, softness)


def unevenness(
    kind: MoeFfn,
    load: Load,
    deployment: Deployment,
    efficiency: Efficiency,
    world: Counterfactual = ACTUAL,
    softness: Softness = EXACT,
) -> Scalar:
    """Load of the most loaded expert rank over the mean; beside the places of the fullest rank 1
    where the efficiency set leaves stragglers out.
    """
    load_ratio = routing.straggler(
        load.tokens,
        kind.experts,
        kind.top_k,
        deployment.expert,
        efficiency.imbalance_cv2,
        deployment.slots(kind.experts),
    )
    chance = efficiency.straggler * world.imbalance * (load_ratio - 1.0)
    return fullness(kind, deployment, softness) * (1.0 + chance)


def head(model: Model, load: Load, deployment: Deployment) -> Cost:
    """Logits, split over the devices of the last stage."""
    gemm = layer_weights.matrix(model.hidden, model.vocabulary / deployment.stage_devices)
    precision = model.precision
    return products((gemm,), load.rows, precision.tables.bytes, precision.activation_bytes)
