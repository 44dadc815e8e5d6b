"""The operators of a step: FLOPs, bytes and launches of each on one device, for one layer and one
microbatch.

Weights are read once per microbatch, activations around every matrix product are real bytes (a
column-split product reads its whole input and writes its share of the output, a row-split one the
reverse), and the cache is read once per step. Ignored: norms, rotary embeddings, residual additions
and softmax traffic, which fused kernels hide.
"""

import equinox as eqx
import jax.numpy as jnp

from qsopt.arrays import Scalar, number
from qsopt.physics import accounting, routing
from qsopt.physics.accounting import Gemm
from qsopt.physics.roofline import Cost
from qsopt.spec.counterfactual import Counterfactual
from qsopt.spec.deployment import Deployment
from qsopt.spec.efficiency import Efficiency
from qsopt.spec.model import Attention, DenseFfn, Ffn, Gqa, LinearAttention, Mla, Model, MoeFfn


class Load(eqx.Module):
    """Tokens that enter a stage at once."""

    sequences: Scalar = number()
    """Sequences of the microbatch, b."""
    new_tokens: Scalar = number()
    """Tokens that each contributes, n_t."""
    context: Scalar = number()
    """Tokens that each attends to in its cache."""
    encoder_context: Scalar = number()
    """Tokens that each attends to in the encoder's output."""
    logits: Scalar = number()
    """Tokens of each that pass the head: all of a decode step, the last of a prompt."""
    absorbed: Scalar = number(1.0)
    """1 if latent attention works on latents (decode), 0 if it expands them to keys and values
    (prefill).
    """

    @property
    def tokens(self) -> Scalar:
        """Tokens of the microbatch, T."""
        return self.sequences * self.new_tokens


def products(
    gemms: tuple[Gemm, ...], tokens: Scalar, weight_bytes: Scalar, activation_bytes: Scalar
) -> Cost:
    """Matrix products of `tokens` tokens, one launch each; those without weights do not exist."""
    return sum((_product(gemm, tokens, weight_bytes, activation_bytes) for gemm in gemms), Cost())


def _product(gemm: Gemm, tokens: Scalar, weight_bytes: Scalar, activation_bytes: Scalar) -> Cost:
    exists = gemm.weights > 0
    activations = jnp.where(exists, gemm.reads + gemm.writes, 0.0)
    moved = gemm.weights * weight_bytes + tokens * activations * activation_bytes
    columns = jnp.where(exists & (gemm.writes > 0), gemm.writes, 1.0)
    return Cost(2.0 * gemm.weights * tokens, moved, jnp.where(exists, 1.0, 0.0), moved / columns)


def projections(
    kind: Attention, model: Model, load: Load, deployment: Deployment, softness: Scalar | float
) -> Cost:
    """All projections of an attention layer."""
    gemms = accounting.attention_gemms(kind, model.hidden, deployment.tensor, softness)
    precision = model.precision
    return products(
        gemms, load.tokens / deployment.data, precision.attention.bytes, precision.activation_bytes
    )


def attention_core(
    kind: Attention, model: Model, load: Load, deployment: Deployment, softness: Scalar | float
) -> Cost:
    """Scores, softmax and weighted sum over the cache, and the write of the new tokens' entries; or
    a state's update.
    """
    sequences, element = load.sequences / deployment.data, model.precision.kv_cache.bytes
    if isinstance(kind, LinearAttention):
        flops = sequences * load.new_tokens * kind.state_flops / deployment.tensor
        return Cost(flops, 2.0 * sequences * kind.state_bytes / deployment.tensor, 1.0)
    entry = sequences * accounting.token_kv_elements(kind, deployment.tensor, softness) * element
    if isinstance(kind, Gqa):
        seen = accounting.cached_tokens(kind, load.context, load.encoder_context, softness)
        pair = 4.0 * kind.heads * kind.head_dim / deployment.tensor
        return Cost(
            sequences * load.new_tokens * seen * pair,
            entry * (seen + load.new_tokens * (1.0 - kind.cross)),
            1.0,
        )
    return _latent_core(kind, load, sequences, entry, deployment.tensor) + _indexer(
        kind, load, sequences, element
    )


def _latent_core(kind: Mla, load: Load, sequences: Scalar, entry: Scalar, tensor: Scalar) -> Cost:
    seen = jnp.minimum(load.context, kind.index_top_k)
    on_latents = 2.0 * kind.kv_rank + kind.rope_dim
    expanded = kind.nope_dim + kind.rope_dim + kind.v_dim
    pair = (
        2.0 * kind.heads / tensor * (load.absorbed * on_latents + (1.0 - load.absorbed) * expanded)
    )
    return Cost(sequences * load.new_tokens * seen * pair, entry * (seen + load.new_tokens), 1.0)


def _indexer(kind: Mla, load: Load, sequences: Scalar, element: Scalar) -> Cost:
    """Scores of every cached token against the indexer's heads, replicated on all tensor ranks."""
    pair = 2.0 * kind.index_heads * kind.index_dim
    keys = sequences * kind.index_dim * element * (load.context + load.new_tokens)
    return Cost(
        sequences * load.new_tokens * load.context * pair,
        keys,
        jnp.where(kind.index_heads > 0, 1.0, 0.0),
    )


def common_ffn(kind: Ffn, model: Model, load: Load, deployment: Deployment) -> Cost:
    """A dense layer or the shared experts: split over the stage, or whole on each device where
    tokens are dispatched.
    """
    split = deployment.stage_devices
    width, tokens = accounting.shared_width(kind), load.tokens
    if isinstance(kind, DenseFfn):
        width = width / split
    else:
        width, tokens = (
            width * split ** (deployment.dispatched - 1.0),
            tokens * split**-deployment.dispatched,
        )
    precision = model.precision
    return products(
        accounting.ffn_gemms(model.hidden, width, kind.matrices),
        tokens,
        precision.ffn.bytes,
        precision.activation_bytes,
    )


def router(kind: MoeFfn, model: Model, load: Load, deployment: Deployment) -> Cost:
    """Scores of every expert, replicated; a single expert needs none."""
    gemm = Gemm(accounting.router_weights(kind, model.hidden), model.hidden, kind.experts)
    precision = model.precision
    return products(
        (gemm,), load.tokens / deployment.data, precision.tables.bytes, precision.activation_bytes
    )


class Routed(eqx.Module):
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
) -> Routed:
    """The experts of a rank as one grouped product: only those hit are read.

    Where the efficiency set counts stragglers, the rank with most rows and the one with most
    experts hit set the time.
    """
    hit = routing.experts_hit(load.tokens, kind.experts, kind.top_k, efficiency.popularity_cv2)
    read = world.read_experts(hit, kind.top_k)
    rows = (
        unevenness(kind, load, deployment, efficiency)
        * load.tokens
        * kind.top_k
        / deployment.expert
    )
    busiest = routing.busiest_hits(hit, kind.experts, deployment.expert)
    mean, extra = (
        read / deployment.expert,
        efficiency.straggler * world.reuse * (busiest - hit / deployment.expert),
    )
    precision = model.precision
    cost = grouped_experts(
        model.hidden,
        kind.width / deployment.expert_tensor,
        kind.matrices,
        mean + extra,
        rows,
        precision.experts.bytes,
        precision.activation_bytes,
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
    """
    gemms = accounting.ffn_gemms(hidden, width, matrices)
    work = products(gemms, rows, 0.0 * weight_bytes, activation_bytes)
    moved = work.bytes + experts_read * accounting.weights(gemms) * weight_bytes
    return Cost(work.flops, moved, 1.0, moved / width)


def unevenness(kind: MoeFfn, load: Load, deployment: Deployment, efficiency: Efficiency) -> Scalar:
    """Load of the most loaded expert rank over the mean; 1 where the efficiency set leaves
    stragglers out.
    """
    load_ratio = routing.straggler(
        load.tokens, kind.experts, kind.top_k, deployment.expert, efficiency.imbalance_cv2
    )
    return 1.0 + efficiency.straggler * (load_ratio - 1.0)


def head(model: Model, load: Load, deployment: Deployment) -> Cost:
    """Logits, split over the devices of the last stage."""
    gemm = accounting.matrix(model.hidden, model.vocabulary / deployment.stage_devices)
    precision = model.precision
    return products(
        (gemm,), load.sequences * load.logits, precision.tables.bytes, precision.activation_bytes
    )
