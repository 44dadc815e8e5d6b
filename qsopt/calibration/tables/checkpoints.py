"""Formats of a checkpoint, by part, from what people write of it: `fp8 (experts only)`, `int4 g64
(all linear)`, `modelopt` beside a name that ends in `-FP8`.

What is written names the matrices that are quantised; the others, and the tables, stay in bf16.
"""

import re
from functools import cache

import equinox as eqx

from qsopt.catalog.models import load_model
from qsopt.errors import InputError
from qsopt.spec.formats import Format, number_format
from qsopt.spec.model import LinearAttention, Model

_WEIGHTS = ("attention", "ffn", "experts")

_TOOLS = ("modelopt", "compressed-tensors")
"""Tools that write several formats; the checkpoint's name says which."""

_FORMATS = {"fp4": "nvfp4", "w4a16": "int4", "fp16": "bf16", "half": "bf16", "bfloat16": "bf16"}

_IN_NAMES = {"nvfp4": "nvfp4", "fp4": "nvfp4", "mxfp4": "mxfp4", "fp8": "fp8", "w4a16": "int4"}
"""Format by a word of a checkpoint's name."""

_PARTS = {
    "mxfp4": ("experts",),
    "nvfp4": ("ffn", "experts"),
}
"""What 4-bit checkpoints quantise where nothing is said: those of OpenAI and DeepSeek, those of
NVIDIA. Any other format holds for all matrices."""

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
    plain = load_model(model)
    if not written.strip():
        return plain
    words = written.lower().split("(")
    form = _format(words[0].strip(), name)
    if form is None:
        return None
    bf16 = number_format("bf16")
    formats = {**dict.fromkeys((*_WEIGHTS, "tables"), bf16), **_by_part(form[0], form[1], words)}
    if words[0].strip() in _TOOLS or "dynamic" in name.lower():
        formats["attention"] = _without_linear(plain, formats["attention"])
    for part, each in formats.items():
        plain = eqx.tree_at(lambda m, part=part: getattr(m.precision, part), plain, each)
    return plain


def _format(word: str, name: str) -> tuple[str, Format] | None:
    """The format of the quantised matrices, by its first word."""
    first = word.partition(" ")[0]
    if first in _TOOLS:
        first = next((key for key in _IN_NAMES if key in name.lower()), first)
    first = first.split("/")[0]
    first = _IN_NAMES.get(first, _FORMATS.get(first, first))
    try:
        form = number_format(first)
    except InputError:
        return None
    group = _GROUP.search(word)
    if group and first == "int4":
        form = eqx.tree_at(lambda f: f.bytes, form, 0.5 + _GROUP_BYTES / float(group[1]))
    return first, form


def _by_part(first: str, form: Format, words: list[str]) -> dict[str, Format]:
    about = words[1] if len(words) > 1 else ""
    if "expert" in about:
        return {"experts": form}
    if "ffn" in about or "mlp" in about:
        return {"ffn": form, "experts": form}
    if "all" in about:
        return dict.fromkeys(_WEIGHTS, form)
    return dict.fromkeys(_PARTS.get(first, _WEIGHTS), form)


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
