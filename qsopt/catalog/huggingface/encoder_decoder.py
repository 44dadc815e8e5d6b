"""Switch Transformers: a T5 with one expert per token in both stacks. Only the decoder runs in a
decode step.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from qsopt.catalog.huggingface.attention import Heads, gqa
from qsopt.catalog.huggingface.ffn import ungated
from qsopt.catalog.huggingface.layers import MOST_LAYERS, Sizes, sizes, stack
from qsopt.catalog.huggingface.quantisation import precision
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.layers import Ffn, Gqa, MoeFfn
from qsopt.spec.model import Model


class Blocks(NamedTuple):
    """The kinds of layers that both stacks are made of."""

    attention: Gqa
    dense: Ffn
    moe: Ffn


def switch_transformers(reader: Reader) -> Model:
    """An encoder and a decoder; each stack has one table of relative-position biases and a final
    norm.
    """
    size = sizes(reader, "d_model", "num_layers")
    decoder_layers = reader.count("num_decoder_layers", size.layers, most=MOST_LAYERS)
    blocks = _blocks(reader, size)
    encoder_ffn = _ffn(reader, "encoder", size.layers, blocks)
    decoder_ffn = _ffn(reader, "decoder", decoder_layers, blocks)
    cross = dataclasses.replace(blocks.attention, cross=1.0)
    buckets = reader.count("relative_attention_num_buckets")
    # The cross-attention of a layer stands in a block of its own; formats do not tell them apart.
    layers = [(blocks.attention, ffn) for ffn in decoder_ffn]
    return Model(
        hidden=size.hidden,
        vocabulary=size.vocabulary,
        layers=decoder_layers,
        decoder=stack([blocks.attention] * decoder_layers + [cross] * decoder_layers, decoder_ffn),
        encoder=stack([blocks.attention] * size.layers, encoder_ffn),
        precision=precision(reader, size.hidden, layers),
        # SwitchTransformersConfig ties its tables unless told otherwise.
        tied=reader.flag("tie_word_embeddings", True),
        small=2 * (size.hidden + buckets * reader.count("num_heads")),
    )


def _blocks(reader: Reader, size: Sizes) -> Blocks:
    """Multi-head attention and ungated feed-forward layers; a token uses one expert."""
    reader.expect("router_bias", False)
    reader.expect("feed_forward_proj", "relu")
    reader.expect("is_gated_act", False)
    heads, width = reader.count("num_heads"), reader.count("d_ff")
    attention = gqa(Heads(heads, heads, reader.count("d_kv")), size.hidden)
    moe = MoeFfn(
        experts=reader.count("num_experts"), top_k=1, width=width, matrices=2, small=size.hidden
    )
    return Blocks(attention, ungated(width, size.hidden), moe)


def _ffn(reader: Reader, side: str, layers: int, blocks: Blocks) -> list[Ffn]:
    """Experts in every n-th layer, n = layers / sparse layers, at the second layer of each n (all
    layers if n = 1).
    """
    sparse = reader.whole(f"num_sparse_{side}_layers")
    if sparse > layers:
        raise reader.error(
            f"field 'num_sparse_{side}_layers' = {sparse} exceeds the {layers} layers of the {side}"
        )
    if sparse == 0:
        return [blocks.dense] * layers
    step = layers // sparse
    reader.agree(f"{side}_sparse_step", step, f"layers / num_sparse_{side}_layers")
    return [blocks.moe if index % step == 1 % step else blocks.dense for index in range(layers)]


FAMILIES: dict[str, Callable[[Reader], Model]] = {"switch_transformers": switch_transformers}
"""The reader of each `model_type`."""
