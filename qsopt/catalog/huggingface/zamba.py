"""Zamba and Zamba 2: Mamba in every layer, and before some of them a transformer block that several
layers share.

The block attends over the hidden state with the token's embedding beside it. What it says passes a
projection of the layer's own; that, and a layer's own adapters of the shared matrices, are counted
with the Mamba layer behind them (`LinearAttention.inner`): same weights, reads and arithmetic.
"""

import dataclasses
from collections.abc import Callable, Sequence

from qsopt.catalog.huggingface.attention import LINEAR, Heads, checked, divided, gqa
from qsopt.catalog.huggingface.layers import Sizes, block_model, indices, one_per_layer, sizes
from qsopt.catalog.huggingface.linear import Mamba2, mamba1_beside, mamba2
from qsopt.catalog.huggingface.modules import Block
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.layers import DenseFfn, LinearAttention, Stack
from qsopt.spec.model import Model

_HYBRID = "hybrid"
"""A layer with the shared block before its Mamba."""

_STEPS = ("time_step_min", "time_step_max", "time_step_floor", "time_step_limit", "chunk_size")

_BESIDE = 2
"""The hidden state and the token's embedding."""


def zamba(reader: Reader) -> Model:
    """Zamba: Mamba-1 of several heads, and one shared block."""
    reader.skip("n_mamba_heads", *_STEPS)
    size = sizes(reader)
    period, offset = reader.count("attn_layer_period", 6), reader.whole("attn_layer_offset", 4)
    rest = [_HYBRID if index % period == offset else LINEAR for index in range(size.layers - 3)]
    types = _types(reader, size, [LINEAR, LINEAR, _HYBRID, *rest])
    return _model(reader, size, types, mamba1_beside(reader, size.hidden), own=0, sets=1)


def zamba2(reader: Reader) -> Model:
    """Zamba 2: Mamba-2, and `num_mem_blocks` shared blocks in turn, with adapters of each layer."""
    reader.skip("use_mem_rope", "use_long_context", "use_mem_eff_path", *_STEPS)
    reader.skip("kv_channels", "num_query_groups")
    reader.expect("add_bias_linear", False)
    reader.expect("use_shared_mlp_adapter", True)
    reader.expect("use_conv_bias", True)
    size = sizes(reader)
    placed: list[int] = []
    if reader.has("hybrid_layer_ids"):
        placed = indices(reader, "hybrid_layer_ids", size.layers)
    pattern = [_HYBRID if index in placed else LINEAR for index in range(size.layers)]
    types = _types(reader, size, pattern)
    if placed and types != pattern:
        raise reader.error(
            "'layers_block_type' contradicts 'hybrid_layer_ids'; correct one of them"
        )
    own, sets = _adapters(reader, size), reader.count("num_mem_blocks", 1)
    return _model(reader, size, types, _mixer(reader, size.hidden), own, sets)


def _types(reader: Reader, size: Sizes, otherwise: Sequence[str]) -> list[str]:
    """The kind of each layer, under the names of older and newer releases.

    Raises:
        InputError: if none or an unknown one is named.
    """
    key = "layers_block_type"
    names = reader.words(key) if reader.has(key) else list(otherwise)
    types = [LINEAR if name == "mamba" else name for name in names]
    if not set(types) <= {LINEAR, _HYBRID} or _HYBRID not in types:
        raise reader.error(
            f"field '{key}' must name each layer as mamba or hybrid, and some as hybrid"
        )
    return one_per_layer(reader, key, types, size.layers)


def _mixer(reader: Reader, hidden: int) -> LinearAttention:
    heads, channels = reader.count("n_mamba_heads", 8), reader.count("mamba_expand", 2) * hidden
    dim = divided(reader, channels, heads)
    reader.agree("mamba_headdim", dim, "mamba_expand * hidden_size / n_mamba_heads")
    state = reader.count("mamba_d_state", 64)
    reader.agree("state_size", state, "mamba_d_state")
    groups, kernel = reader.count("mamba_ngroups", 1), reader.count("mamba_d_conv", 4)
    return mamba2(Mamba2(heads, dim, state, groups, kernel, True, False), hidden)


def _width(reader: Reader, size: Sizes) -> int:
    return reader.count("intermediate_size", 4 * size.hidden)


def _adapters(reader: Reader, size: Sizes) -> int:
    """Low-rank additions to gate and up, and to query, key and value, of one layer [parameters]."""
    rank = reader.count("adapter_rank", 128)
    columns = size.hidden + 2 * _width(reader, size)
    if reader.flag("use_shared_attention_adapter", False):
        columns += 3 * 2 * _BESIDE * size.hidden
    return rank * columns


def _model(
    reader: Reader,
    size: Sizes,
    types: Sequence[str],
    mixer: LinearAttention,
    own: int,
    sets: int,
) -> Model:
    """The model of layers of these types.

    Args:
        reader: the config.
        size: its sizes.
        types: of each layer.
        mixer: Mamba of one layer.
        own: parameters of a layer's own adapters.
        sets: shared blocks.
    """
    reader.expect("tie_word_embeddings", True)  # untied, transformers unties the blocks too
    behind = dataclasses.replace(mixer, inner=mixer.inner + size.hidden**2 + own)
    kinds: dict[str, Block] = {LINEAR: (mixer,), _HYBRID: (*_block(reader, size), behind)}
    model = block_model(reader, size, [kinds[name] for name in types], tied=True)
    return dataclasses.replace(model, decoder=_sharing(model.decoder, sets))


def _block(reader: Reader, size: Sizes) -> Block:
    """Attention and feed-forward of a shared block."""
    wide = _BESIDE * size.hidden
    reader.agree("attention_hidden_size", wide, "2 * hidden_size")
    query = reader.count("num_attention_heads")
    dim = reader.count("attention_head_dim", divided(reader, wide, query))
    head = checked(reader, Heads(query, reader.count("num_key_value_heads", query), dim))
    attention = gqa(head, size.hidden, norms=_BESIDE)
    ffn = DenseFfn(width=_width(reader, size), small=size.hidden)
    return dataclasses.replace(attention, inputs=_BESIDE), ffn


def _sharing(stack: Stack, sets: int) -> Stack:
    """The stack whose transformer blocks, all but Mamba, are so many sets of weights."""
    attention = tuple(
        layers
        if isinstance(layers.kind, LinearAttention)
        else dataclasses.replace(layers, sets=sets)
        for layers in stack.attention
    )
    return Stack(attention, tuple(dataclasses.replace(layers, sets=sets) for layers in stack.ffn))


FAMILIES: dict[str, Callable[[Reader], Model]] = {"zamba": zamba, "zamba2": zamba2}
"""The reader of each `model_type`."""
