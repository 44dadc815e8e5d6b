"""The shape that all families share: per-layer lists of kinds become counted groups, and groups
become a `Model`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from qsopt.catalog.huggingface.modules import Block
from qsopt.catalog.huggingface.quantisation import precision
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.layers import (
    Attention,
    DenseFfn,
    Ffn,
    Gqa,
    Layers,
    LinearAttention,
    Mla,
    MoeFfn,
    Stack,
)
from qsopt.spec.model import Model

MOST_LAYERS = 10_000
"""Layers are listed one by one while a config is read; no model has more."""

Kind = TypeVar("Kind", Attention, Ffn)
Item = TypeVar("Item")
Part = TypeVar("Part", Gqa, Mla, LinearAttention, DenseFfn, MoeFfn, Model)


class Sizes(NamedTuple):
    """What every adapter needs first."""

    hidden: int
    layers: int
    vocabulary: int


def sizes(
    reader: Reader,
    hidden: str = "hidden_size",
    layers: str = "num_hidden_layers",
    vocabulary: str = "vocab_size",
) -> Sizes:
    """Hidden size, layers and vocabulary under the family's names."""
    return Sizes(
        reader.count(hidden), reader.count(layers, most=MOST_LAYERS), reader.count(vocabulary)
    )


def grouped(kinds: Sequence[Kind]) -> tuple[Layers[Kind], ...]:
    """One `Layers` for each distinct kind, in order of first appearance."""
    counts: dict[tuple[object, ...], int] = {}
    first: dict[tuple[object, ...], Kind] = {}
    for kind in kinds:
        key = _identity(kind)
        counts[key] = counts.get(key, 0) + 1
        first.setdefault(key, kind)
    return tuple(Layers(counts[key], kind) for key, kind in first.items())


def stacked(blocks: Sequence[Block]) -> Stack:
    """A stack from layers that hold any number of attention and feed-forward blocks."""
    parts = [part for block in blocks for part in block]
    attention = [part for part in parts if not isinstance(part, DenseFfn | MoeFfn)]
    return stack(attention, [part for part in parts if isinstance(part, DenseFfn | MoeFfn)])


def stack(attention: Sequence[Attention], ffn: Sequence[Ffn]) -> Stack:
    """A stack from its layers one by one."""
    return Stack(grouped(attention), grouped(ffn))


def decoder_model(
    reader: Reader,
    size: Sizes,
    attention: Sequence[Attention],
    ffn: Sequence[Ffn],
    tied: bool = False,
) -> Model:
    """A decoder-only model with one final RMS norm; `tied` is the default of the family's class for
    `tie_word_embeddings`.
    """
    return block_model(reader, size, list(zip(attention, ffn, strict=True)), tied)


def block_model(
    reader: Reader,
    size: Sizes,
    blocks: Sequence[Block],
    tied: bool = False,
    experts_apart: bool = False,
) -> Model:
    """The same from layers that hold any number of attention and feed-forward blocks.

    `experts_apart`: the experts stand beside the block `mlp`, not in it.
    """
    return Model(
        hidden=size.hidden,
        vocabulary=size.vocabulary,
        layers=size.layers,
        decoder=stacked(blocks),
        precision=precision(reader, size.hidden, blocks, experts_apart),
        tied=reader.flag("tie_word_embeddings", tied),
        small=size.hidden,
    )


def with_small(part: Part, parameters: float) -> Part:
    """The same kind of layer, or model, with so many more small parameters."""
    return dataclasses.replace(part, small=part.small + parameters)


def indices(reader: Reader, key: str, layers: int) -> list[int]:
    """A list of layers by index.

    Raises:
        InputError: if one lies beyond the last layer.
    """
    listed = reader.wholes(key)
    if len(set(listed)) < len(listed):
        raise reader.error(f"field '{key}' names a layer twice; name each layer once")
    if beyond := [index for index in listed if index >= layers]:
        raise reader.error(
            f"field '{key}' names layer {beyond[0]}, but the {layers} layers end at {layers - 1}"
        )
    return listed


def layer_types(reader: Reader, layers: int, otherwise: Sequence[str]) -> list[str]:
    """The kind of each layer by name: the field `layer_types`, or the family's own pattern where it
    is missing.
    """
    types = reader.words("layer_types") if reader.has("layer_types") else list(otherwise)
    return one_per_layer(reader, "layer_types", types, layers)


def one_per_layer(reader: Reader, key: str, values: list[Item], layers: int) -> list[Item]:
    """The values, if there is one for each layer.

    Raises:
        InputError: if their number contradicts the number of layers.
    """
    if len(values) != layers:
        raise reader.error(
            f"field '{key}' names {len(values)} layers, but the model has {layers}; make the list "
            f"as long as the layers"
        )
    return values


def pick(reader: Reader, types: Sequence[str], kinds: Mapping[str, Attention]) -> list[Attention]:
    """The attention of each layer by the name of its type.

    Raises:
        InputError: if a type has no kind in this family.
    """
    for name in types:
        if name not in kinds:
            raise reader.error(
                f"field 'layer_types' holds '{name}'; this family has {' and '.join(kinds)}"
            )
    return [kinds[name] for name in types]


def _identity(kind: Attention | Ffn) -> tuple[object, ...]:
    values = (getattr(kind, field.name) for field in dataclasses.fields(kind))
    return (type(kind), *(None if value is None else float(value) for value in values))
