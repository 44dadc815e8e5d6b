"""What is served: a transformer as layer counts and sizes. Data only; parameters and bytes are
counted in `qsopt.physics`.

A decode step costs the sum over layers, so a model is two lists, how many attention layers of each
kind and how many feed-forward layers of each kind it has; which of them are neighbours changes
neither time nor memory.
"""

from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

import equinox as eqx

from qsopt.arrays import Scalar, is_concrete, number, scalar
from qsopt.errors import InputError, exactly
from qsopt.record import Record
from qsopt.spec.changes import changed
from qsopt.spec.formats import Format

NO_WINDOW = 1e15
"""The window of attention that sees the whole context [tokens]: finite, so that derivatives stay
so.
"""


class Gqa(Record):
    """Softmax attention with grouped KV heads: multi-head (kv_heads = heads), grouped or
    multi-query (kv_heads = 1).
    """

    heads: Scalar = number()
    """Query heads."""
    kv_heads: Scalar = number()
    """Key-value heads."""
    head_dim: Scalar = number()
    """Size of a head."""
    window: Scalar = number(NO_WINDOW)
    """Tokens that a query sees and that are cached: a sliding window or an attention chunk
    [tokens].
    """
    output_gate: Scalar = number(0.0)
    """1 if a gate as wide as the query multiplies the heads' output (Qwen3-Next), else 0."""
    cross: Scalar = number(0.0)
    """1 for cross-attention: keys and values come from the encoder once, not from each new token;
    else 0.
    """
    projected: Scalar = number(1.0)
    """Share of keys and values that the layer projects itself: 1, 1/2 where values are keys
    (Gemma 4), 0 where both are an earlier layer's (Gemma 3n, Hunyuan-Large).
    """
    cached: Scalar = number(1.0)
    """1 if the layer keeps keys and values of its own, 0 if it reads those of an earlier layer."""
    index_heads: Scalar = number(0.0)
    """Heads of an indexer that selects tokens (MiniMax-M3); 0 if attention sees all of them."""
    index_dim: Scalar = number(0.0)
    """Size of an indexer head, and of the indexer key cached for each token."""
    index_top_k: Scalar = number(NO_WINDOW)
    """Tokens that the indexer selects for the core [tokens]."""
    small: Scalar = number(0.0)
    """Norms and biases of one layer: resident, too small to cost time [parameters]."""


class Mla(Record):
    """Multi-head latent attention (DeepSeek-V2), optionally with the sparse-attention indexer of
    DeepSeek-V3.2, or with the compressed entries of DeepSeek-V4, which are keys and values
    themselves.
    """

    heads: Scalar = number()
    """Query heads."""
    q_rank: Scalar = number()
    """Rank of the query's low-rank projection; 0 if the query is projected directly."""
    kv_rank: Scalar = number()
    """Rank of the joint key-value latent, cached."""
    nope_dim: Scalar = number()
    """Part of a query head without rotary position."""
    rope_dim: Scalar = number()
    """Part with rotary position; one key of it for all heads is cached."""
    v_dim: Scalar = number()
    """Size of a value head."""
    index_heads: Scalar = number(0.0)
    """Heads of the indexer that selects tokens; 0 if attention sees all of them."""
    index_dim: Scalar = number(0.0)
    """Size of an indexer head, and of the indexer key cached for each token."""
    index_top_k: Scalar = number(NO_WINDOW)
    """Entries that the indexer selects for the core [entries]."""
    direct: Scalar = number(0.0)
    """1 if an entry is key and value of all heads itself, without up-projections (DeepSeek-V4); 0
    if they are projected from it.
    """
    entry_tokens: Scalar = number(1.0)
    """Tokens that one entry of the cache stands for [tokens]."""
    recent: Scalar = number(0.0)
    """Latest tokens that are cached and seen one by one beside the entries [tokens]."""
    compressor: Scalar = number(0.0)
    """Columns of the projections of the layer's input that make compressed entries."""
    output_rank: Scalar = number(0.0)
    """Rank of the output projection in each of its groups of heads; 0 if it is one matrix."""
    output_groups: Scalar = number(1.0)
    """Groups of heads of a low-rank output projection."""
    small: Scalar = number(0.0)
    """Norms and biases of one layer [parameters]."""


class LinearAttention(Record):
    """Attention with a state of fixed size: gated DeltaNet, lightning attention, Mamba."""

    heads: Scalar = number()
    """Heads that the layer can be split over."""
    input_width: Scalar = number()
    """Columns of all projections of the layer's input together (query, key, value, gates)."""
    output_width: Scalar = number()
    """Rows of the output projection."""
    state_bytes: Scalar = number()
    """State of one sequence, convolution tail included, read and written every step [byte]."""
    state_flops: Scalar = number()
    """Arithmetic on the state for one token [FLOP]."""
    inner: Scalar = number(0.0)
    """Projections between input and output that are split over heads, such as Mamba's step size
    [parameters].
    """
    small: Scalar = number(0.0)
    """Norms, biases, convolution and decay of one layer [parameters]."""


class DenseFfn(Record):
    """A feed-forward layer that every token passes through."""

    width: Scalar = number()
    """Intermediate size."""
    matrices: Scalar = number(3.0)
    """3 if gated (SwiGLU, GeGLU), 2 if not."""
    small: Scalar = number(0.0)
    """Norms and biases of one layer [parameters]."""


class MoeFfn(Record):
    """Routed experts, of which each token uses `top_k`, beside shared experts, which every token
    uses.
    """

    experts: Scalar = number()
    """Routed experts."""
    top_k: Scalar = number()
    """Routed experts that a token uses."""
    width: Scalar = number()
    """Intermediate size of a routed expert."""
    shared_experts: Scalar = number(0.0)
    """Shared experts (a dense branch beside the experts counts as one)."""
    shared_width: Scalar = number(0.0)
    """Intermediate size of a shared expert."""
    matrices: Scalar = number(3.0)
    """3 if gated, 2 if not."""
    groups: Scalar = number(1.0)
    """Groups that the experts are divided into for node-limited routing (DeepSeek-V3); 1 for
    none."""
    top_groups: Scalar = number(1.0)
    """Groups that a token's experts may come from."""
    expert_small: Scalar = number(0.0)
    """Biases of one routed expert [parameters]."""
    small: Scalar = number(0.0)
    """Norms and biases of one layer outside the routed experts [parameters]."""

    def __check_init__(self) -> None:
        if is_concrete(self) and not 0 < self.top_k <= self.experts:
            raise InputError(
                f"top_k = {exactly(float(self.top_k))} with {exactly(float(self.experts))} "
                "experts: a token "
                f"uses at least one expert "
                "and at most all of them; set 0 < top_k <= experts"
            )


Attention: TypeAlias = Gqa | Mla | LinearAttention
Ffn: TypeAlias = DenseFfn | MoeFfn
Kind_co = TypeVar("Kind_co", bound=Attention | Ffn, covariant=True)


class Layers(Record, Generic[Kind_co]):
    """So many layers of one kind."""

    count: Scalar = eqx.field(converter=scalar)
    kind: Kind_co = eqx.field()


class Stack(Record):
    """The layers of a decoder, or of an encoder."""

    attention: tuple[Layers[Attention], ...]
    ffn: tuple[Layers[Ffn], ...]


class Precision(Record):
    """The format of each part of the weights and of the KV cache."""

    attention: Format
    """Attention projections."""
    ffn: Format
    """Dense feed-forward layers and shared experts."""
    experts: Format
    """Routed experts."""
    tables: Format
    """Embedding table, head and router, which quantised checkpoints keep wide."""
    kv_cache: Format
    """Keys, values and latents in the cache."""
    activation_bytes: Scalar = number(2.0)
    """Activations between operators [byte]."""


class Model(Record):
    """A transformer. Sizes are numbers of any kind (a search moves them as reals)."""

    decoder: Stack
    """The layers that a decode step runs."""
    precision: Precision
    """Number formats."""
    hidden: Scalar = number()
    """Hidden size."""
    vocabulary: Scalar = number()
    """Rows of the embedding table."""
    layers: Scalar = number()
    """Decoder layers: what pipeline stages divide."""
    tied: Scalar = number(0.0)
    """1 if input embedding and head are one table, else 0."""
    small: Scalar = number(0.0)
    """Final norm, position tables and other odds outside the layers [parameters]."""
    encoder: Stack | None = None
    """Layers that stay resident but do not run in a decode step (Switch-C)."""
    resident: Scalar = number(0.0)
    """Parameters in memory that a decode step does not read: vision and audio towers, tables of
    which it looks up single rows [parameters].
    """
    draft_layers: Scalar = number(0.0)
    """Layers of its own for multi-token prediction: in none of the counts, as plain decoding does
    not load them; with speculative decoding they make drafts.
    """

    def __check_init__(self) -> None:
        if not is_concrete(self):
            return
        for name in ("hidden", "vocabulary", "layers"):
            if not float(getattr(self, name)) > 0:
                raise InputError(
                    f"{name} = {exactly(float(getattr(self, name)))}: a model needs a positive "
                    f"{name}"
                )

    def with_(self, **sizes: float) -> "Model":
        """The model with other sizes, such as `top_k` or `layers` (see `spec.changes.changed`)."""
        return changed(self, sizes)


def stacks(model: Model) -> tuple[Stack, ...]:
    """Decoder, and encoder where there is one."""
    return (model.decoder,) if model.encoder is None else (model.decoder, model.encoder)


def map_ffn(model: Model, change: Callable[[Layers[Ffn]], Layers[Ffn]]) -> Model:
    """The model with `change` applied to the feed-forward layers of every stack."""

    def changed(stack: Stack) -> Stack:
        return Stack(stack.attention, tuple(change(layers) for layers in stack.ffn))

    encoder = None if model.encoder is None else changed(model.encoder)
    return eqx.tree_at(
        lambda m: (m.decoder, m.encoder),
        model,
        (changed(model.decoder), encoder),
        is_leaf=lambda x: x is None,
    )


def moe_group(model: Model) -> Layers[MoeFfn] | None:
    """The first group of routed layers of the decoder, or None for a dense model."""
    return next((group for group in model.decoder.ffn if isinstance(group.kind, MoeFfn)), None)  # pyright: ignore[reportReturnType]


def moe_layers(model: Model) -> MoeFfn | None:
    """The first kind of routed layer of the decoder, or None for a dense model."""
    group = moe_group(model)
    return None if group is None else group.kind


def routed_layers(model: Model, purpose: str) -> MoeFfn:
    """The first kind of routed layer of the decoder.

    Args:
        model: the model.
        purpose: what needs routed experts, for the error.

    Raises:
        InputError: if the model is dense.
    """
    found = moe_layers(model)
    if found is None:
        raise InputError(f"the model is dense: {purpose}")
    return found
