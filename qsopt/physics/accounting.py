"""Parameters and cache bytes, each counted in exactly one place, whole or as one device's share.

A layer's weights are the matrix products of one token (`Gemm`), so that what is resident, what is
read and what is computed cannot disagree. Formulas: the architectures' papers; totals agree with
published ones (see the catalog tests).
"""

from collections.abc import Iterable

import equinox as eqx
import jax
import jax.numpy as jnp

from qsopt.arrays import Scalar, number
from qsopt.physics import smooth
from qsopt.record import Record
from qsopt.spec.model import (
    Attention,
    DenseFfn,
    Ffn,
    Gqa,
    LinearAttention,
    Mla,
    Model,
    MoeFfn,
    Stack,
    stacks,
)


class Gemm(eqx.Module):
    """A matrix product of one token with weights on one device."""

    weights: Scalar = number()
    """Weights [parameters]."""
    reads: Scalar = number()
    """Width of the activation read [elements per token]."""
    writes: Scalar = number()
    """Width of the activation written [elements per token]."""


def matrix(rows: Scalar, columns: Scalar) -> Gemm:
    """A full matrix of `rows` inputs and `columns` outputs."""
    return Gemm(rows * columns, rows, columns)


def weights(gemms: Iterable[Gemm]) -> Scalar:
    """Parameters of several products."""
    return sum(gemm.weights for gemm in gemms)  # pyright: ignore[reportReturnType]


# ---- attention -----------------------------------------------------------------------------------


def device_kv_heads(
    kind: Gqa, tensor: Scalar | float = 1.0, softness: Scalar | float = 0.0
) -> Scalar:
    """KV heads on one of `tensor` devices: at least one, so they are replicated where tensor >
    kv_heads.
    """
    share = kind.kv_heads / tensor
    return smooth.maximum(share, jnp.ones_like(share), softness)


def attention_gemms(
    kind: Attention, hidden: Scalar, tensor: Scalar | float = 1.0, softness: Scalar | float = 0.0
) -> tuple[Gemm, ...]:
    """The projections that a decoded token passes through on one of `tensor` devices."""
    if isinstance(kind, Gqa):
        return _gqa_gemms(kind, hidden, tensor, softness)
    if isinstance(kind, Mla):
        return (
            *latent_projections(kind, hidden, tensor),
            *absorbed_projections(kind, tensor),
        )
    return (
        matrix(hidden, kind.input_width / tensor),
        Gemm(kind.inner / tensor, 0.0, 0.0),
        matrix(kind.output_width / tensor, hidden),
    )


def _gqa_gemms(
    kind: Gqa, hidden: Scalar, tensor: Scalar | float, softness: Scalar | float
) -> tuple[Gemm, ...]:
    query = kind.heads * kind.head_dim / tensor
    keys_values = 2.0 * device_kv_heads(kind, tensor, softness) * kind.head_dim * (1.0 - kind.cross)
    return matrix(hidden, query * (1.0 + kind.output_gate) + keys_values), matrix(query, hidden)


def latent_projections(kind: Mla, hidden: Scalar, tensor: Scalar | float = 1.0) -> tuple[Gemm, ...]:
    """Projections of latent attention apart from the latents' own: the down-projections and the
    indexer's are replicated, query and output split over heads.
    """
    heads = kind.heads / tensor
    query_input = jnp.where(kind.q_rank > 0, kind.q_rank, hidden)
    latent = kind.kv_rank + kind.rope_dim
    indexer_in = query_input * kind.index_heads * kind.index_dim + hidden * (
        kind.index_dim + kind.index_heads
    )
    return (
        matrix(hidden, kind.q_rank + latent),
        matrix(query_input, heads * (kind.nope_dim + kind.rope_dim)),
        matrix(heads * kind.v_dim, hidden),
        Gemm(indexer_in, 0.0, kind.index_heads * kind.index_dim + kind.index_dim),
    )


def absorbed_projections(kind: Mla, tensor: Scalar | float = 1.0) -> tuple[Gemm, ...]:
    """The up-projections of latents, absorbed into query and output as a decode step does."""
    heads = kind.heads / tensor
    return (
        Gemm(heads * kind.nope_dim * kind.kv_rank, heads * kind.nope_dim, heads * kind.kv_rank),
        Gemm(heads * kind.kv_rank * kind.v_dim, heads * kind.kv_rank, heads * kind.v_dim),
    )


def expanded_projection(kind: Mla, tensor: Scalar | float = 1.0) -> Gemm:
    """The same weights as one product that makes keys and values of a latent, as prompts use
    them.
    """
    return matrix(kind.kv_rank, kind.heads / tensor * (kind.nope_dim + kind.v_dim))


def attention_weights(
    kind: Attention, hidden: Scalar, tensor: Scalar | float = 1.0, softness: Scalar | float = 0.0
) -> Scalar:
    """Resident weights of an attention layer on one of `tensor` devices [parameters].

    Cross-attention keeps key and value projections that a decode step does not read.
    """
    idle = 0.0
    if isinstance(kind, Gqa):
        idle = 2.0 * hidden * device_kv_heads(kind, tensor, softness) * kind.head_dim * kind.cross
    return weights(attention_gemms(kind, hidden, tensor, softness)) + idle


def cached_tokens(
    kind: Gqa | Mla, context: Scalar, encoder_context: Scalar, softness: Scalar | float = 0.0
) -> Scalar:
    """Tokens whose keys and values a layer holds for one sequence [tokens]."""
    if isinstance(kind, Mla):
        return context
    return kind.cross * encoder_context + (1.0 - kind.cross) * smooth.minimum(
        context, kind.window, softness
    )


def token_kv_elements(
    kind: Gqa | Mla, tensor: Scalar | float = 1.0, softness: Scalar | float = 0.0
) -> Scalar:
    """Cache elements of one token in one layer on one of `tensor` devices; a latent is replicated.
    Without indexer keys.
    """
    if isinstance(kind, Mla):
        return kind.kv_rank + kind.rope_dim
    return 2.0 * device_kv_heads(kind, tensor, softness) * kind.head_dim


def sequence_cache_bytes(
    kind: Attention,
    context: Scalar,
    encoder_context: Scalar,
    element_bytes: Scalar,
    tensor: Scalar | float = 1.0,
    softness: Scalar | float = 0.0,
    dcp: Scalar | float = 1.0,
) -> Scalar:
    """What one sequence keeps in one layer on one device: keys and values, latents, indexer keys,
    or a state [byte]. Ranks that share the cache (`dcp`) hold a part of its tokens each.
    """
    if isinstance(kind, LinearAttention):
        return kind.state_bytes / tensor
    token = token_kv_elements(kind, tensor, softness) * element_bytes + index_key_bytes(kind)
    return cached_tokens(kind, context, encoder_context, softness) * token / dcp


INDEX_SCALE_BYTES = 4.0
"""The scale stored with each indexer key of 128 fp8 values [byte] (DeepSeek-V3.2)."""


def index_key_bytes(kind: Gqa | Mla) -> Scalar | float:
    """Bytes of one token's indexer key in one layer: fp8 with its scale, whatever the cache is
    stored in; 0 without an indexer [byte].
    """
    if isinstance(kind, Gqa):
        return 0.0
    return jnp.where(kind.index_heads > 0.0, kind.index_dim + INDEX_SCALE_BYTES, 0.0)


def kv_bytes_per_token(model: Model) -> Scalar:
    """Cache growth per decoded token over all softmax layers, windowed ones and indexer keys
    included [byte/token].
    """
    element = model.precision.kv_cache.bytes
    growing = (
        layers.count
        * (token_kv_elements(layers.kind) * element + index_key_bytes(layers.kind))
        * (1.0 - getattr(layers.kind, "cross", 0.0))
        for layers in model.decoder.attention
        if not isinstance(layers.kind, LinearAttention)
    )
    return sum(growing)  # pyright: ignore[reportReturnType]


# ---- feed-forward --------------------------------------------------------------------------------


def ffn_gemms(hidden: Scalar, width: Scalar, matrices: Scalar) -> tuple[Gemm, ...]:
    """Gate and up as one product, and down, of a feed-forward layer that is `width` wide on this
    device.
    """
    return matrix(hidden, (matrices - 1.0) * width), matrix(width, hidden)


def expert_weights(kind: MoeFfn, hidden: Scalar) -> Scalar:
    """One routed expert [parameters]."""
    return weights(ffn_gemms(hidden, kind.width, kind.matrices))


def router_weights(kind: MoeFfn, hidden: Scalar) -> Scalar:
    """The router of one layer; a single expert needs none [parameters]."""
    return jnp.where(kind.experts > 1.0, hidden * kind.experts, 0.0)


def shared_width(kind: DenseFfn | MoeFfn) -> Scalar:
    """Width of what every token passes through: a dense layer, or the shared experts together."""
    return kind.width if isinstance(kind, DenseFfn) else kind.shared_experts * kind.shared_width


# ---- whole models --------------------------------------------------------------------------------


class Parameters(Record):
    """A model's parameters by part."""

    attention: Scalar = number()
    """Attention projections."""
    dense: Scalar = number()
    """Dense feed-forward layers."""
    shared: Scalar = number()
    """Shared experts."""
    routed: Scalar = number()
    """Routed experts, all of them."""
    routed_active: Scalar = number()
    """Routed experts that one token uses."""
    router: Scalar = number()
    """Routers."""
    small: Scalar = number()
    """Norms, biases and other odds."""
    input_table: Scalar = number()
    """Input embedding table; 0 where it is tied to the head."""
    head: Scalar = number()
    """Output head."""

    @property
    def total(self) -> Scalar:
        """All parameters, both tables included."""
        return self._every_token + self.routed + self.input_table + self.head

    @property
    def active(self) -> Scalar:
        """Parameters of one token with all tables: the convention used throughout. Encoder and
        decoder both count.
        """
        return self._every_token + self.routed_active + self.input_table + self.head

    @property
    def active_without_input_table(self) -> Scalar:
        """What a decode step multiplies with: a tied table counts once, as the head."""
        return self.active - self.input_table

    @property
    def active_without_tables(self) -> Scalar:
        """Active parameters without either table."""
        return self.active - self.input_table - self.head

    @property
    def total_without_tables(self) -> Scalar:
        """All parameters without either table."""
        return self.total - self.input_table - self.head

    @property
    def _every_token(self) -> Scalar:
        return self.attention + self.dense + self.shared + self.router + self.small


def parameter_count(model: Model) -> Parameters:
    """Parameters of a model by part. Differentiable in every size."""
    parts = [_stack_parameters(stack, model.hidden) for stack in stacks(model)]
    attention, dense, shared, routed, active, router, small = (
        sum(part) for part in zip(*parts, strict=True)
    )
    table = model.vocabulary * model.hidden
    return Parameters(
        attention,
        dense,
        shared,
        routed,
        active,
        router,
        small + model.small,
        table * (1.0 - model.tied),
        table,
    )


compiled_parameter_count = jax.jit(parameter_count)
"""The same, faster where a model of one structure is counted more than once."""


def _stack_parameters(stack: Stack, hidden: Scalar) -> tuple[Scalar | float, ...]:
    attention = dense = shared = routed = active = router = small = 0.0
    for layers in stack.attention:
        attention += layers.count * attention_weights(layers.kind, hidden)
        small += layers.count * layers.kind.small
    for layers in stack.ffn:
        common = layers.count * weights(
            ffn_gemms(hidden, shared_width(layers.kind), layers.kind.matrices)
        )
        small += layers.count * layers.kind.small
        if isinstance(layers.kind, MoeFfn):
            shared += common
            expert = layers.count * (expert_weights(layers.kind, hidden) + layers.kind.expert_small)
            routed += layers.kind.experts * expert
            active += layers.kind.top_k * expert
            router += layers.count * router_weights(layers.kind, hidden)
        else:
            dense += common
    return attention, dense, shared, routed, active, router, small


def ffn_kinds(model: Model) -> tuple[Ffn, ...]:
    """Kinds of feed-forward layers of the decoder."""
    return tuple(layers.kind for layers in model.decoder.ffn)
