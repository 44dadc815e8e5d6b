"""Layers by kind and count: what attention and feed-forward layers there are, and their sizes."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeAlias, TypeVar

import equinox as eqx

from qsopt import xp
from qsopt.arrays import Scalar, is_concrete, number, optional_number, scalar
from qsopt.errors import InputError, exactly
from qsopt.record import Record

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
    inputs: Scalar | None = optional_number()
    """Vectors as wide as hidden that make the layer's input: 2 where the token's embedding stands
    beside the hidden state (Zamba); None for the hidden state alone.
    """


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
    sets: Scalar | None = optional_number()
    """Sets of weights that the layers use in turn (Zamba): each is in memory once, and read and
    computed with in every layer; None where each layer has its own.
    """

    def __check_init__(self) -> None:
        if self.sets is not None and is_concrete(self) and not float(self.sets) > 0:
            raise InputError(
                f"sets = {exactly(float(self.sets))}: layers share at least one set of weights; "
                "leave it out if each has its own"
            )

    @property
    def distinct(self) -> Scalar:
        """Sets of weights that these layers have."""
        return self.count if self.sets is None else xp.minimum(self.sets, self.count)


class Stack(Record):
    """The layers of a decoder, or of an encoder."""

    attention: tuple[Layers[Attention], ...]
    ffn: tuple[Layers[Ffn], ...]


def with_count(layers: Layers[Kind_co], count: Scalar) -> Layers[Kind_co]:
    """More or fewer layers of the same kind, which share as many sets of weights."""
    return Layers(count, layers.kind, layers.sets)


M = TypeVar("M", bound=Any)
"""A `Model`, which is made of these."""


def unshared(model: M) -> M:
    """The model as a forward pass runs it: each layer with weights of its own."""

    def changed(stack: Stack) -> Stack:
        attention = tuple(Layers(layers.count, layers.kind) for layers in stack.attention)
        return Stack(attention, tuple(Layers(layers.count, layers.kind) for layers in stack.ffn))

    return _with_stacks(model, changed)


def map_ffn(model: M, change: Callable[[Layers[Ffn]], Layers[Ffn]]) -> M:
    """The model with `change` applied to the feed-forward layers of every stack."""

    def changed(stack: Stack) -> Stack:
        return Stack(stack.attention, tuple(change(layers) for layers in stack.ffn))

    return _with_stacks(model, changed)


def _with_stacks(model: M, change: Callable[[Stack], Stack]) -> M:
    encoder = None if model.encoder is None else change(model.encoder)
    return eqx.tree_at(
        lambda m: (m.decoder, m.encoder),
        model,
        (change(model.decoder), encoder),
        is_leaf=lambda x: x is None,
    )


def with_routed(layers: Layers[Ffn], fields: Mapping[str, Scalar]) -> Layers[Ffn]:
    """Routed layers with other numbers, by the fields of `MoeFfn` and unchecked, as a search passes
    through what no model can be; any others as they are.
    """
    if not isinstance(layers.kind, MoeFfn):
        return layers
    names = tuple(fields)
    return eqx.tree_at(
        lambda g: tuple(getattr(g.kind, name) for name in names), layers, tuple(fields.values())
    )
