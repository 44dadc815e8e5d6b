"""Llama 3.2 Vision: Llama layers, between which others attend to an image."""

import dataclasses
from collections.abc import Callable

from qsopt.catalog.huggingface.attention import gqa
from qsopt.catalog.huggingface.dense import PLAIN
from qsopt.catalog.huggingface.family import (
    dense_ffn,
    family_heads,
    family_sizes,
    finished,
    softmax,
)
from qsopt.catalog.huggingface.layers import indices
from qsopt.catalog.huggingface.modules import matrices
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.model import Model

EXTRA_ROWS = 8
"""Rows of the embedding table beyond the vocabulary, for image tokens."""


def mllama(reader: Reader) -> Model:
    """Llama 3.2 Vision, as it answers about text: the layers of `cross_attention_layers` are
    skipped where there is no image, so they are resident, and a step does not read them.
    """
    size = family_sizes(reader, PLAIN)
    crossing = indices(reader, "cross_attention_layers", size.layers)
    layers = size._replace(layers=size.layers - len(crossing))
    kind, ffn = softmax(reader, size.hidden, PLAIN), dense_ffn(reader, size, PLAIN)
    model = finished(reader, layers, PLAIN, [(kind, ffn)] * layers.layers)
    cross = gqa(family_heads(reader, size.hidden, PLAIN), size.hidden, qk_norm="head")
    one = sum(weight for part in (cross, ffn) for _, _, weight in matrices(part, size.hidden))
    idle = len(crossing) * (one + cross.small + ffn.small + 2) + EXTRA_ROWS * size.hidden
    return dataclasses.replace(model, resident=idle)


FAMILIES: dict[str, Callable[[Reader], Model]] = {"mllama_text_model": mllama}
"""The reader of each `model_type`."""
