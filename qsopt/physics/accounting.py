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


def activations(gemms: Iterable[Gemm]) -> Scalar:
    """Elements of the activations that several products read and write for one token."""
    return sum(gemm.reads + gemm.writes for gemm in gemms)  # pyright: ignore[reportReturnType]


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
    own = (1.0 - kind.cross) * kind.projected
    keys_values = 2.0 * device_kv_heads(kind, tensor, softness) * kind.head_dim * own
    indexer = _indexer(kind, hidden, hidden)
    return (
        matrix(hidden, query * (1.0 + kind.output_gate) + keys_values),
        matrix(query, hidden),
        indexer,
    )


def _indexer(kind: Gqa | Mla, query_input: Scalar, hidden: Scalar) -> Gemm:
    """Queries and keys of the indexer, and with latents its weights of heads, on every device."""
    scales = kind.index_heads if isinstance(kind, Mla) else 0.0
    return Gemm(
        query_input * kind.index_heads * kind.index_dim + hidden * (kind.index_dim + scales),
        0.0,
        kind.index_heads * kind.index_dim + kind.index_dim,
    )


def latent_projections(kind: Mla, hidden: Scalar, tensor: Scalar | float = 1.0) -> tuple[Gemm, ...]:
    """Projections of latent attention apart from the latents' own: the down-projections and the
    indexer's are replicated, query and output split over heads.
    """
    heads = kind.heads / tensor
    query_input = jnp.where(kind.q_rank > 0, kind.q_rank, hidden)
    latent = kind.kv_rank + kind.rope_dim
    return (
        matrix(hidden, kind.q_rank + latent + kind.compressor),
        matrix(query_input, heads * (kind.nope_dim + kind.rope_dim)),
        *_latent_output(kind, hidden, heads, tensor),
        _indexer(kind, query_input, hidden),
    )


def absorbed_projections(kind: Mla, tensor: Scalar | float = 1.0) -> tuple[Gemm, ...]:
    """The up-projections of latents, absorbed into query and output as a decode step does; they do
    not exist where entries are keys and values themselves.
    """
    heads, up = kind.heads / tensor, 1.0 - kind.direct
    key, value = heads * kind.nope_dim * kind.kv_rank, heads * kind.kv_rank * kind.v_dim
    return (
        Gemm(key * up, heads * kind.nope_dim, heads * kind.kv_rank),
        Gemm(value * up, heads * kind.kv_rank, heads * kind.v_dim),
    )


def expanded_projection(kind: Mla, tensor: Scalar | float = 1.0) -> Gemm:
    """The same weights as one product that makes keys and values of a latent, as prompts use
    them.
    """
    columns = kind.heads / tensor * (kind.nope_dim + kind.v_dim)
    return Gemm(kind.kv_rank * columns * (1.0 - kind.direct), kind.kv_rank, columns)


def _latent_output(
    kind: Mla, hidden: Scalar, heads: Scalar, tensor: Scalar | float
) -> tuple[Gemm, Gemm]:
    """One output matrix, or one into the rank of each group of heads and one out of all ranks."""
    width, low = heads * kind.v_dim, kind.output_groups * kind.output_rank / tensor
    first = jnp.where(low > 0, kind.output_rank, hidden)
    return Gemm(width * first, width, jnp.where(low > 0, low, hidden)), matrix(low, hidden)


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
        return context / kind.entry_tokens + recent_tokens(kind, context)
    return kind.cross * encoder_context + (1.0 - kind.cross) * smooth.minimum(
        context, kind.window, softness
    )


def recent_tokens(kind: Mla, context: Scalar) -> Scalar:
    """Latest tokens that are cached one by one beside compressed entries [tokens]."""
    return jnp.minimum(context, kind.recent)


def entries(kind: Gqa | Mla, context: Scalar) -> Scalar:
    """Entries that stand for so many tokens, and of which an indexer has a key each [entries]."""
    return context / kind.entry_tokens if isinstance(kind, Mla) else context


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
    elements = token_kv_elements(kind, tensor, softness)
    owned = 1.0 if isinstance(kind, Mla) else kind.cached
    held = cached_tokens(kind, context, encoder_context, softness) * elements * owned
    keys = entries(kind, context) * index_key_bytes(kind)
    return (held * element_bytes + keys) / dcp


INDEX_SCALE_BYTES = 4.0
"""The scale stored with each indexer key of 128 fp8 values [byte] (DeepSeek-V3.2)."""


def index_key_bytes(kind: Gqa | Mla) -> Scalar:
    """Bytes of one indexer key in one layer: fp8 with its scale, whatever the cache is stored in; 0
    without an indexer [byte].
    """
    return jnp.where(kind.index_heads > 0.0, kind.index_dim + INDEX_SCALE_BYTES, 0.0)


def kv_bytes_per_token(model: Model) -> Scalar:
    """Cache growth per decoded token over all softmax layers, windowed ones and indexer keys
    included [byte/token].
    """
    element = model.precision.kv_cache.bytes
    growing = (
        layers.count * _token_growth(layers.kind, element)
        for layers in model.decoder.attention
        if not isinstance(layers.kind, LinearAttention)
    )
    return sum(growing)  # pyright: ignore[reportReturnType]


def _token_growth(kind: Gqa | Mla, element: Scalar) -> Scalar:
    """Bytes that a layer adds to the cache for each decoded token, on average [byte/token]."""
    token, key = token_kv_elements(kind) * element, index_key_bytes(kind)
    if isinstance(kind, Mla):
        return (token + key) / kind.entry_tokens
    return token * (1.0 - kind.cross) * kind.cached + key


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
    resident: Scalar = number(0.0)
    """Towers and lookup tables beside the layers, which a decode step does not read."""

    @property
    def total(self) -> Scalar:
        """All parameters, both tables and what is only resident included."""
        return self.total_without_tables + self.input_table + self.head + self.resident

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
        """All parameters of the language model without either table, and without what is only
        resident.
        """
        return self._every_token + self.routed

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
        model.resident,
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
