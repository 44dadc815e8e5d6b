"""Weights of layers as the matrix products of one token, whole or as one device's share.

What is resident, what is read and what is computed are all counted from these products, so that
they cannot disagree. Formulas: the architectures' papers.
"""

from collections.abc import Iterable

from qsopt import xp
from qsopt.arrays import EXACT, Scalar, Softness, number
from qsopt.physics.kv_cache import device_kv_heads
from qsopt.record import Record
from qsopt.spec.layers import Attention, DenseFfn, Gqa, Mla, MoeFfn


class Gemm(Record):
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


def attention_gemms(
    kind: Attention, hidden: Scalar, tensor: Scalar | float = 1.0, softness: Softness = EXACT
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
    kind: Gqa, hidden: Scalar, tensor: Scalar | float, softness: Softness
) -> tuple[Gemm, ...]:
    query = kind.heads * kind.head_dim / tensor
    own = (1.0 - kind.cross) * kind.projected
    keys_values = 2.0 * device_kv_heads(kind, tensor, softness) * kind.head_dim * own
    indexer = _indexer(kind, hidden, hidden)
    wide = hidden if kind.inputs is None else kind.inputs * hidden
    return (
        matrix(wide, query * (1.0 + kind.output_gate) + keys_values),
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
    query_input = xp.where(kind.q_rank > 0, kind.q_rank, hidden)
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
    first = xp.where(low > 0, kind.output_rank, hidden)
    return Gemm(width * first, width, xp.where(low > 0, low, hidden)), matrix(low, hidden)


def attention_weights(
    kind: Attention, hidden: Scalar, tensor: Scalar | float = 1.0, softness: Softness = EXACT
) -> Scalar:
    """Resident weights of an attention layer on one of `tensor` devices [parameters].

    Cross-attention keeps key and value projections that a decode step does not read.
    """
    idle = 0.0
    if isinstance(kind, Gqa):
        idle = 2.0 * hidden * device_kv_heads(kind, tensor, softness) * kind.head_dim * kind.cross
    return weights(attention_gemms(kind, hidden, tensor, softness)) + idle


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
    return xp.where(kind.experts > 1.0, hidden * kind.experts, 0.0)


def shared_width(kind: DenseFfn | MoeFfn) -> Scalar:
    """Width of what every token passes through: a dense layer, or the shared experts together."""
    return kind.width if isinstance(kind, DenseFfn) else kind.shared_experts * kind.shared_width
