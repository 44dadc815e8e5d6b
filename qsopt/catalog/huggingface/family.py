"""Families as rows of a table: how each names its fields, and what its class does beyond them.

One reader makes the softmax attention and the dense feed-forward of every family from its row, so
that a dense family is a few lines and a family with experts adds only these.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from qsopt.catalog.huggingface.attention import (
    FULL,
    SLIDING,
    Heads,
    QkNorm,
    checked,
    divided,
    with_window,
)
from qsopt.catalog.huggingface.layers import (
    Sizes,
    block_model,
    layer_types,
    pick,
    sizes,
    with_small,
)
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.layers import Attention, DenseFfn, Gqa
from qsopt.spec.model import Model

Switch: TypeAlias = bool | tuple[str, bool]
"""Always, never, or the name of a field with the default of the family's class."""

Pattern: TypeAlias = Callable[[Reader, int], list[str]]
"""The type of each layer where `layer_types` is missing."""


@dataclass(frozen=True)
class Family:
    """One row: names of fields (`a|b` where releases differ), and what the family's class does."""

    hidden: str = "hidden_size"
    layers: str = "num_hidden_layers"
    vocabulary: str = "vocab_size"
    heads: str = "num_attention_heads"
    kv_heads: str = "num_key_value_heads"
    """Empty where each head has keys and values of its own."""
    kv_default: bool = True
    """Whether missing KV heads mean one for each head; else the field must be there."""
    one_kv_head: bool = False
    """Whether all heads share one head of keys and values."""
    sinks: bool = False
    """Whether each head has a learned sink."""
    output_gate: bool = False
    """Whether a gate as wide as the query multiplies the heads' output."""
    head_dim: str = "head_dim"
    """Empty where hidden is always cut into heads."""
    dim_default: bool = True
    """Whether a missing head size means hidden / heads; else the field must be there."""
    width: str = "intermediate_size"
    width_default: int = 0
    """Widths per hidden where the field is missing; 0: it must be there."""
    gated: bool = True
    """Three matrices in a feed-forward layer, or two."""
    qkv_bias: Switch = ("attention_bias", False)
    out_bias: Switch = ("attention_bias", False)
    ffn_bias: Switch = ("mlp_bias", False)
    head_bias: Switch = False
    norm: int = 1
    """Vectors of one norm: 1 weight, 2 weight and bias, 0 neither."""
    attention_norms: int = 1
    """Norms as wide as hidden around attention."""
    ffn_norms: int = 1
    """Norms as wide as hidden around the feed-forward."""
    more_norms: int = 0
    """Norms as wide as hidden outside the layers beside the final one."""
    qk_norm: QkNorm = "none"
    """Norms of query and key."""
    qk_switch: Switch = True
    """Whether they are there."""
    qk_vectors: int = 1
    """Vectors of one of them: 1 weight, 2 weight and bias."""
    shared_norm: Switch = False
    """Whether the feed-forward shares the norm of attention, beside which it runs."""
    positions: str = ""
    """Field with the rows of a learned position table."""
    more_positions: int = 0
    """Rows that the class adds to it."""
    tied: bool = False
    """Default of the class for `tie_word_embeddings`."""
    windows: Pattern | None = None
    """Which layers slide over `sliding_window` where `layer_types` is missing; None: no layer has a
    window.
    """
    window: str = "sliding_window"
    one_window: bool = False
    """Whether all layers slide where `sliding_window` is a number."""
    window_stated: bool = False
    """Whether `sliding_window` must be there, be it null, because the class has another default."""
    switch: str = ""
    """A field without which no layer slides (`use_sliding_window`)."""
    expect: tuple[tuple[str, tuple[object, ...]], ...] = ()
    """Fields that are understood only with these values."""
    unused: tuple[str, ...] = ()
    """Fields that this family carries without using them."""


def dense_family(row: Family) -> Callable[[Reader], Model]:
    """The reader of a dense family."""

    def read(reader: Reader) -> Model:
        size = family_sizes(reader, row)
        attention = softmax_layers(reader, size, row)
        ffn = dense_ffn(reader, size, row)
        return finished(reader, size, row, [(layer, ffn) for layer in attention])

    return read


def family_sizes(reader: Reader, row: Family) -> Sizes:
    """Hidden size, layers and vocabulary; and the row's fixed fields are checked."""
    for key, allowed in row.expect:
        reader.expect(key, *allowed)
    reader.skip(*row.unused)
    return sizes(
        reader,
        named(reader, row.hidden),
        named(reader, row.layers),
        named(reader, row.vocabulary),
    )


def named(reader: Reader, names: str) -> str:
    """The name that this config uses among `a|b`."""
    return reader.either(*names.split("|"))


def is_on(reader: Reader, switch: Switch) -> bool:
    """Whether the config has what a switch stands for."""
    return switch if isinstance(switch, bool) else reader.flag(*switch)


def family_heads(reader: Reader, hidden: int, row: Family) -> Heads:
    """Query heads, KV heads and their size."""
    query = reader.count(named(reader, row.heads))
    kv = 1 if row.one_kv_head else query
    if row.kv_heads:
        kv = reader.count(named(reader, row.kv_heads), query if row.kv_default else None)
    dim = named(reader, row.head_dim)
    if row.dim_default and not (dim and reader.has(dim)):
        return checked(reader, Heads(query, kv, divided(reader, hidden, query)))
    return checked(reader, Heads(query, kv, reader.count(dim)))


def softmax(reader: Reader, hidden: int, row: Family) -> Gqa:
    """Attention without a window, with its norms and biases."""
    query, kv, dim = family_heads(reader, hidden, row)
    inputs = (query + 2 * kv) * dim * is_on(reader, row.qkv_bias)
    output = hidden * is_on(reader, row.out_bias)
    normed = {"none": 0, "head": 2 * dim, "full": (query + kv) * dim}[row.qk_norm]
    qk = normed * is_on(reader, row.qk_switch) * row.qk_vectors
    norms = row.norm * row.attention_norms * hidden
    return Gqa(
        heads=query,
        kv_heads=kv,
        head_dim=dim,
        output_gate=row.output_gate,
        small=norms + inputs + output + qk + query * row.sinks,
    )


def softmax_layers(reader: Reader, size: Sizes, row: Family) -> list[Attention]:
    """The attention of each layer."""
    kind = softmax(reader, size.hidden, row)
    return windowed(reader, size, row, kind)


def windowed(reader: Reader, size: Sizes, row: Family, kind: Gqa) -> list[Attention]:
    """Each layer over the window or over everything.

    Raises:
        InputError: if layers should slide and no window is there, or the fields contradict.
    """
    if row.window_stated and not reader.states(row.window):
        raise reader.error(
            f"field '{row.window}' is missing; add the window, or null if attention sees everything"
        )
    types = _types(reader, size, row)
    if row.switch and not reader.flag(row.switch, False) and SLIDING in types:
        raise reader.error(
            f"field '{row.switch}' is not true, but 'layer_types' has sliding layers; correct one "
            f"of them"
        )
    if SLIDING not in types:
        _idle_window(reader, row)
        return pick(reader, types, {FULL: kind})
    sliding = with_window(kind, reader.count(row.window))
    return pick(reader, types, {SLIDING: sliding, FULL: kind})


def _types(reader: Reader, size: Sizes, row: Family) -> list[str]:
    everywhere = [SLIDING if row.one_window and reader.has(row.window) else FULL] * size.layers
    if row.switch and not reader.flag(row.switch, False):
        reader.skip("max_window_layers")
        return layer_types(reader, size.layers, [FULL] * size.layers)
    pattern = everywhere if row.windows is None else row.windows(reader, size.layers)
    return layer_types(reader, size.layers, pattern)


def _idle_window(reader: Reader, row: Family) -> None:
    """A window that no layer uses: known in families with windows, refused in others."""
    if row.windows is not None or row.one_window or row.switch:
        reader.skip(row.window)
    else:
        reader.expect(row.window, None)


def dense_ffn(reader: Reader, size: Sizes, row: Family, width: int = 0) -> DenseFfn:
    """The dense feed-forward layer, of the row's width or of another one."""
    default = row.width_default * size.hidden or None
    width = width or reader.count(named(reader, row.width), default)
    matrices = 3 if row.gated else 2
    bias = ((matrices - 1) * width + size.hidden) * is_on(reader, row.ffn_bias)
    norms = 0 if is_on(reader, row.shared_norm) else row.norm * row.ffn_norms * size.hidden
    return DenseFfn(width=width, matrices=matrices, small=norms + bias)


def finished(
    reader: Reader, size: Sizes, row: Family, blocks: list, experts_apart: bool = False
) -> Model:
    """The model of all layers, with final norm, positions and the bias of the head."""
    model = block_model(reader, size, blocks, row.tied, experts_apart)
    final = row.norm * (1 + row.more_norms) * size.hidden - size.hidden
    rows = reader.count(row.positions) + row.more_positions if row.positions else 0
    bias = size.vocabulary * is_on(reader, row.head_bias)
    return with_small(model, final + rows * size.hidden + bias)


def every_other(period: int, last: str = FULL, often: str = SLIDING) -> Pattern:
    """A pattern in which the last layer of each period differs."""
    return lambda reader, layers: [
        last if (index + 1) % period == 0 else often for index in range(layers)
    ]
