"""Vision and audio towers beside a language model: parameters that stay in memory, which a decode
step does not read.

A tower is a stack of transformer layers with its patches, positions and projector; norms and biases
are left out, so that counts agree with released checkpoints to a few percent of the tower, which is
itself a small part of the model. Towers whose sizes cannot be read are refused by name.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from qsopt.catalog.huggingface.reader import Reader

TOWERS = ("vision_config", "audio_config")
"""Fields that describe a tower."""

_GATED = ("pixtral", "qwen2_5_vl", "glm4v", "glm_ocr", "exaone4_5", "glm46v", "glmga")
"""Towers with three matrices in a feed-forward layer, by the beginning of their `model_type`."""

_GLM = ("glm4v", "glm46v", "glm_ocr", "glmga")
"""Towers whose feed-forward is `out_hidden_size` wide, and their projector `intermediate_size`."""

_HIDDEN = ("embed_dim", "d_model", "vt_hidden_size", "hidden_size", "width")
_LAYERS = (
    "layers",
    "depth",
    "num_hidden_layers",
    "num_layers",
    "encoder_layers",
    "vt_num_hidden_layers",
)
_WIDTH = ("intermediate_size", "encoder_ffn_dim", "vt_intermediate_size", "mlp_dim")
_MERGES = ("spatial_merge_size", "downsample_factor", "scale_factor")


class Outer(NamedTuple):
    """What a tower is joined to."""

    wrapper: Reader
    family: str
    hidden: int


def resident(wrapper: Reader, family: str, hidden: int) -> int:
    """Parameters of all towers of a config, with their projectors.

    Raises:
        InputError: if a tower is there whose sizes cannot be read.
    """
    outer = Outer(wrapper, family, hidden)
    return sum(_tower(outer, key) for key in TOWERS if wrapper.has_table(key))


def _tower(outer: Outer, key: str) -> int:
    inner = outer.wrapper.section(key)
    kind = inner.text("model_type", outer.family)
    inner.skip(*inner.names())
    for start, count in _SPECIAL.items():
        if kind.startswith(start):
            return count(inner, outer)
    if not _readable(inner):
        raise outer.wrapper.error(
            f"the tower in '{key}' ({kind}) is not understood; leave it out with --ignore {key}, "
            f"so that only the language model is counted"
        )
    return _transformer(inner, kind) + _projector(inner, kind, outer)


def _readable(inner: Reader) -> bool:
    wide = any(inner.has(key) for key in (*_WIDTH, "mlp_ratio"))
    return wide and all(any(inner.has(key) for key in keys) for keys in (_HIDDEN, _LAYERS))


def _width(inner: Reader, hidden: int) -> int:
    if any(inner.has(key) for key in _WIDTH):
        return inner.count(inner.either(*_WIDTH))
    return int(inner.real("mlp_ratio") * hidden)


def _transformer(inner: Reader, kind: str) -> int:
    """Layers, patches and positions."""
    hidden = inner.count(inner.either(*_HIDDEN))
    matrices = 3 if kind.startswith(_GATED) else 2
    grouped = inner.has("num_key_value_heads") and inner.has("num_heads")
    shared = inner.count("num_key_value_heads") / inner.count("num_heads") if grouped else 1.0
    width = inner.count("out_hidden_size") if kind.startswith(_GLM) else _width(inner, hidden)
    layer = int((2 + 2 * shared) * hidden**2) + matrices * hidden * width
    return inner.count(inner.either(*_LAYERS)) * layer + _embedding(inner, hidden)


def _embedding(inner: Reader, hidden: int) -> int:
    """The first product, on patches or on mel bins, and the learned positions."""
    if inner.has("max_source_positions") or inner.has("num_mel_bins"):
        bins = inner.count("num_mel_bins", 128)
        return (
            3 * bins * hidden + 3 * hidden**2 + inner.count("max_source_positions", 1500) * hidden
        )
    if not inner.has("patch_size"):
        return 0
    patch = _side(inner, "patch_size")
    frames = inner.count("temporal_patch_size", 1)
    pixels = inner.count(inner.either("num_channels", "in_channels"), 3) * patch**2 * frames
    rows = inner.count(inner.either("num_position_embeddings", "num_patches"), 1)
    if inner.has("image_size") and not inner.has("rope_parameters"):
        rows = max(rows, (_side(inner, "image_size") // patch) ** 2)
    return pixels * hidden + rows * hidden


def _side(inner: Reader, key: str) -> int:
    """The side of a square, or the height where height and width are given."""
    if not inner.listed(key):
        return inner.count(key)
    sides = inner.wholes(key)
    if not sides or sides[0] < 1:
        raise inner.error(f"field '{key}' = {sides}: give a positive side, or height and width")
    return sides[0]


def _projector(inner: Reader, kind: str, outer: Outer) -> int:
    """From the tower's width, several patches together where they are merged, to hidden."""
    hidden, text = inner.count(inner.either(*_HIDDEN)), outer.hidden
    merged = hidden * _merge(inner, outer) ** 2
    if outer.family.startswith(("gemma3", "gemma4", "paligemma")):
        return hidden * text
    if outer.family.startswith(("mistral3", "pixtral")):
        return merged * hidden * (merged > hidden) + hidden * text + text**2
    if kind.startswith(_GLM):
        return merged * text + text**2 + 3 * text * inner.count("intermediate_size")
    if inner.has("out_hidden_size") or kind.startswith(("qwen2_vl", "kimi_k25")):
        stages = 1 + (len(inner.wholes("deepstack_visual_indexes")) if _deep(inner) else 0)
        return stages * merged * (merged + text)
    if inner.has("encoder_ffn_dim") or kind.startswith(("voxtral", "whisper", "qwen2_audio")):
        return 4 * hidden * text + text**2
    return _plain_projector(outer.wrapper, merged, text)


def _plain_projector(wrapper: Reader, merged: int, text: int) -> int:
    """Two products, or a gated pair (Command A Vision)."""
    if wrapper.has("alignment_intermediate_size"):
        gated = wrapper.count("alignment_intermediate_size")
        return merged * gated + gated // 2 * text
    between = wrapper.count("projector_hidden_size", text)
    return merged * between + between * text


def _deep(inner: Reader) -> bool:
    return inner.has("deepstack_visual_indexes")


def _merge(inner: Reader, outer: Outer) -> int:
    if inner.has("merge_kernel_size") or outer.family.startswith("kimi_k"):
        return 2
    for reader in (inner, outer.wrapper):
        for key in _MERGES:
            if reader.has(key):
                return reader.count(key)
    return 2 if inner.has("out_hidden_size") or outer.family.startswith("internvl") else 1


def _gemma_audio(inner: Reader, outer: Outer) -> int:
    """A conformer: in each layer two feed-forwards of four times hidden, attention and a
    convolution.
    """
    hidden = inner.count("hidden_size")
    layers = inner.count(inner.either("conf_num_hidden_layers", "num_hidden_layers"))
    return layers * 24 * hidden**2 + hidden * outer.hidden


_ASPECT_RATIOS = 8
"""Shapes of up to four tiles."""


def _mllama(inner: Reader, outer: Outer) -> int:
    """Llama 3.2 Vision: local and global layers, and positions for every shape of tiles."""
    hidden = inner.count("hidden_size")
    layers = inner.count("num_hidden_layers", 32) + inner.count("num_global_layers", 8)
    patches = (inner.count("image_size") // inner.count("patch_size", 14)) ** 2 + 1
    shapes = inner.count("max_num_tiles", 4) * (1 + _ASPECT_RATIOS)
    positions = (1 + shapes) * patches * hidden
    layer = hidden * (4 * hidden + 2 * inner.count("intermediate_size"))
    return layers * layer + positions + inner.count("vision_output_dim") * outer.hidden


def _mobilenet(inner: Reader, outer: Outer) -> int:
    """MobileNet-V5 of Gemma 3n, by its name [parameters]."""
    inner.expect("architecture", "mobilenetv5_300m_enc")
    return 300_000_000 + inner.count("hidden_size", 2048) * outer.hidden


_SPECIAL: Mapping[str, Callable[[Reader, Outer], int]] = {
    "gemma3n_audio": _gemma_audio,
    "gemma4_audio": _gemma_audio,
    "gemma3n_vision": _mobilenet,
    "mllama_vision": _mllama,
}
"""Towers that are no plain transformer, by the beginning of their `model_type`."""
