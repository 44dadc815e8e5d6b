"""Formats of a checkpoint, by part, from what people write of it: `fp8 (experts only)`, `int4 g64
(all linear)`, `mxfp4 experts, fp8`, `modelopt` beside a name that ends in `-FP8`.

What is written names the matrices that are quantised; the others, and the tables, stay in bf16.
"""

import re
from functools import cache

import equinox as eqx

from qsopt.catalog.models import load_model
from qsopt.errors import InputError
from qsopt.spec.formats import Format, format_name, number_format
from qsopt.spec.layers import LinearAttention
from qsopt.spec.model import Model

_WEIGHTS = ("attention", "ffn", "experts")

_TOOLS = ("modelopt", "compressed-tensors")
"""Tools that write several formats; the checkpoint's name says which."""

_OWN = ("", "mixed", "native")
"""Words for the formats in which a model was released, which the catalog has."""

_FORMATS = {"fp4": "nvfp4", "w4a16": "int4", "fp16": "bf16", "half": "bf16", "bfloat16": "bf16"}

_IN_NAMES = ("nvfp4", "mxfp4", "fp4", "fp8", "w4a16", "int4")
"""Words of a checkpoint's name that say a format."""

_PARTS = {"mxfp4": ("experts",), "nvfp4": ("ffn", "experts")}
"""What 4-bit checkpoints quantise where nothing is said: those of OpenAI and DeepSeek, those of
NVIDIA. Any other format holds for all matrices."""

_SAID = (
    (("expert",), ("experts",)),
    (("ffn", "mlp"), ("ffn", "experts")),
    (("attention", "attn"), ("attention",)),
    (("all", "rest"), _WEIGHTS),
)
"""Words that say what is quantised; the first that is there counts."""

_GROUP = re.compile(r"\bg(\d+)\b")
_GROUP_BYTES = 2.0
"""The 16-bit scale of each group of int4 weights [byte]."""


@cache
def checkpoint(model: str, written: str, name: str = "") -> Model | None:
    """A model of the catalog in the formats of a checkpoint; None where they mean nothing here.

    Args:
        model: name in the catalog.
        written: what is said of the weights; the catalog's own formats if empty.
        name: of the checkpoint, as people write it.
    """
    found, text = load_model(model), written.strip().lower()
    if text in _OWN:
        return found
    pieces: list[tuple[tuple[str, ...], Format]] = []
    for piece in re.split(r"[+,;]", text):
        form = _format(piece.strip(), name.lower(), found)
        if form is None:
            return None
        pieces.append((_parts(piece, format_name(form)), form))
    formats = dict.fromkeys((*_WEIGHTS, "tables"), number_format("bf16"))
    for parts, form in sorted(pieces, key=lambda each: -len(each[0])):
        formats |= dict.fromkeys(parts, form)
    if text.startswith(_TOOLS) or "dynamic" in name.lower():
        formats["attention"] = _without_linear(found, formats["attention"])
    for part, form in formats.items():
        found = eqx.tree_at(lambda m, part=part: getattr(m.precision, part), found, form)
    return found


def _format(piece: str, name: str, model: Model) -> Format | None:
    """The format that a piece of text begins with; that of the catalog's experts, with its own
    groups, where it is the same.
    """
    word = re.split(r"[\s(/]", piece, maxsplit=1)[0]
    if word in _TOOLS:
        word = next((each for each in _IN_NAMES if each in name), word)
    own = model.precision.experts
    if word == "fp4" and format_name(own) == "mxfp4":
        return own
    try:
        form = number_format(_FORMATS.get(word, word))
    except InputError:
        return None
    group = _GROUP.search(piece)
    if group and format_name(form) == "int4":
        return eqx.tree_at(lambda f: f.bytes, form, 0.5 + _GROUP_BYTES / float(group[1]))
    return own if format_name(form) == format_name(own) else form


def _parts(piece: str, form: str) -> tuple[str, ...]:
    said = (parts for words, parts in _SAID if any(word in piece for word in words))
    return next(said, _PARTS.get(form, _WEIGHTS))


def _without_linear(model: Model, form: Format) -> Format:
    """The format of attention as the mean over layers, where linear attention stays in bf16: tools
    that quantise other people's checkpoints pass its layers over.
    """
    kinds = model.decoder.attention
    count = sum(float(layers.count) for layers in kinds)
    linear = sum(
        float(layers.count) for layers in kinds if isinstance(layers.kind, LinearAttention)
    )
    share = linear / count
    mean = share * float(number_format("bf16").bytes) + (1.0 - share) * float(form.bytes)
    return eqx.tree_at(lambda f: f.bytes, form, mean)
