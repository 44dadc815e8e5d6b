"""Multimodal wrappers: the language model inside them, and what of the wrapper's own fields holds
for it.
"""

from collections.abc import Mapping

from qsopt.catalog.huggingface.harmless import is_harmless_at, words
from qsopt.catalog.huggingface.source import Fields
from qsopt.catalog.huggingface.towers import TOWERS
from qsopt.errors import InputError

INNER = ("text_config", "language_config", "llm_config", "thinker_config")
"""Fields under which wrappers keep the language model."""

_SHARED = ("tie_word_embeddings", "torch_dtype", "dtype", "quantization_config")
"""Fields of the wrapper that hold for the language model."""

_TYPES = {
    "aya_vision": "cohere2",
    "cohere2_vision": "cohere2",
    "deepseek_vl_v2": "deepseek_v2",
    "gemma3": "gemma3_text",
    "gemma3n": "gemma3n_text",
    "gemma4": "gemma4_text",
    "idefics2": "mistral",
    "idefics3": "llama",
    "internvl": "qwen2",
    "llama4": "llama4_text",
    "mllama": "mllama_text_model",
    "llava": "llama",
    "llava_next": "llama",
    "mistral3": "mistral",
    "paligemma": "gemma",
    "smolvlm": "llama",
    "voxtral": "llama",
}
"""Families of language models whose wrappers may leave their type out."""

_LLAMA = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
}
_DEFAULTS: dict[str, Fields] = {
    "gemma3_text": {
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262208,
        "sliding_window": 4096,
    },
    "llama": _LLAMA,
    "mistral": {**_LLAMA, "intermediate_size": 14336, "num_key_value_heads": 8},
    "qwen2": {
        **_LLAMA,
        "intermediate_size": 22016,
        "num_key_value_heads": 32,
        "vocab_size": 151936,
    },
}
"""Sizes that an inner config leaves out where they are those of its class: transformers writes only
what differs (its configuration classes, 5.24).
"""

_UNUSED = frozenset(
    words(
        """image_token_index video_token_index audio_token_index image_seq_length
        projector_hidden_act multimodal_projector_bias projector_bias
        projector_use_layernorm do_image_splitting vision_soft_tokens_per_image
        audio_soft_tokens_per_image vision_feature_layer vision_feature_select_strategy
        mm_tokens_per_image spatial_merge_size downsample_factor downsample_ratio
        scale_factor projector_hidden_size image_placeholder ignore_index
        language_model_only projection_dim projection_hidden_size
        projection_layer_norm_eps alignment_intermediate_size image_grid_pinpoints
        use_image_newline_parameter max_tiles use_thumbnail tile_size dynamic_image_size
        force_image_size ps_version template select_layer min_dynamic_patch
        max_dynamic_patch pad2square use_backbone_lora use_llm_lora system_message
        encoder_patch_size downsample max_image_tokens min_image_tokens max_num_patches
        max_pixels_tolerance min_tiles text_config_dict vision_config_dict
        position_id_per_seconds use_tile_tokens img_token_compression_config
        tile_tag global_view_pos candidate_resolutions projector_config num_reward_heads
        process_image_mode num_image_tokens merged_hidden_size"""
    )
)
"""Fields of wrappers about images and sound, which change nothing of the language model."""


def language_model(where: str, fields: Fields, ignored: tuple[str, ...]) -> tuple[Fields, Fields]:
    """The fields of the language model, and those of the wrapper that describe towers.

    Raises:
        InputError: if the two contradict each other, or the wrapper says what is not understood.
    """
    key = next((name for name in INNER if fields.get(name) is not None), None)
    if key is None:
        return _flat(fields)
    inner = fields[key]
    if not isinstance(inner, Mapping):
        raise InputError(f"{where}: field '{key}' must be a table")
    if any(inner.get(name) is not None for name in INNER):
        merged = {**{name: value for name, value in fields.items() if name != key}, **inner}
        return language_model(where, merged, ignored)
    outer = {name: value for name, value in fields.items() if name != key}
    _check(where, key, outer, inner, ignored)
    shared = {name: outer[name] for name in _SHARED if outer.get(name) is not None}
    if inner.get("dtype") or inner.get("torch_dtype"):
        shared = {name: value for name, value in shared.items() if "dtype" not in name}
    text = {**inner, **shared}
    family = str(fields.get("model_type"))
    if "model_type" not in inner and family in _TYPES:
        text["model_type"] = _TYPES[family]
    return {**_DEFAULTS.get(str(text.get("model_type")), {}), **text}, outer


def _flat(fields: Fields) -> tuple[Fields, Fields]:
    """A config without an inner one; its towers, if it has some, stand beside the sizes."""
    towers = {name: value for name, value in fields.items() if name in TOWERS}
    text = {name: value for name, value in fields.items() if name not in TOWERS}
    if not any(isinstance(value, Mapping) for value in towers.values()):
        return text, towers
    text = {name: value for name, value in text.items() if name not in _UNUSED}
    return text, {**fields}


def _check(where: str, key: str, outer: Fields, inner: Fields, ignored: tuple[str, ...]) -> None:
    for name, value in outer.items():
        if name == "model_type" or is_harmless_at(name, value) or name in ignored:
            continue
        if name in inner and name != "tie_word_embeddings":
            if inner[name] != value and name not in ("dtype", "torch_dtype"):
                raise InputError(
                    f"{where}: field '{name}' differs between the wrapper and its '{key}'; "
                    f"correct one of them"
                )
        elif name not in (*_SHARED, *TOWERS) and name not in _UNUSED:
            raise InputError(
                f"{where}: field '{name}' of the wrapper around '{key}' is not understood by qsopt "
                f"and may change counts or times; remove it, or pass it over with --ignore {name}"
            )
