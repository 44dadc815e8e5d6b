"""From a `config.json` to a `Model`: load, unwrap the text model, hand it to its family, refuse
what nobody understood.
"""

import difflib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from qsopt.catalog.huggingface import dense, encoder_decoder, hybrid, latent, qwen, routed
from qsopt.catalog.huggingface.harmless import is_harmless
from qsopt.catalog.huggingface.reader import Reader
from qsopt.errors import InputError
from qsopt.spec.model import Model

FAMILIES: dict[str, Callable[[Reader], Model]] = {
    "arctic": routed.arctic,
    "dbrx": routed.dbrx,
    "deepseek_v2": latent.deepseek_v2,
    "deepseek_v3": latent.deepseek_v3,
    "deepseek_v32": latent.deepseek_v32,
    "ernie4_5": dense.ernie,
    "ernie4_5_moe": routed.ernie_moe,
    "falcon": dense.falcon,
    "gemma2": dense.gemma2,
    "gemma3": dense.gemma3,
    "gemma3_text": dense.gemma3,
    "glm4_moe": routed.glm4_moe,
    "glm_moe_dsa": latent.deepseek_v32,
    "gpt2": dense.gpt2,
    "gpt_oss": routed.gpt_oss,
    "grok-1": routed.grok1,
    "jamba": hybrid.jamba,
    "kimi_k2": latent.deepseek_v3,
    "llama": dense.llama,
    "llama4": routed.llama4,
    "llama4_text": routed.llama4,
    "minimax": hybrid.minimax,
    "minimax_m1": hybrid.minimax_m1,
    "minimax_m2": routed.minimax_m2,
    "minimax_text_01": hybrid.minimax_m1,
    "mistral": dense.mistral,
    "mixtral": routed.mixtral,
    "nemotron": dense.nemotron,
    "olmoe": routed.olmoe,
    "phimoe": routed.phimoe,
    "qwen2": dense.qwen2,
    "qwen2_moe": qwen.qwen2_moe,
    "qwen3": dense.qwen3,
    "qwen3_5_moe": qwen.qwen3_next,
    "qwen3_5_moe_text": qwen.qwen3_next,
    "qwen3_moe": qwen.qwen3_moe,
    "qwen3_next": qwen.qwen3_next,
    "switch_transformers": encoder_decoder.switch_transformers,
}
"""The adapter of each `model_type`."""

_NOT_EXPRESSIBLE = {
    "deepseek_v4": "its compressed attention keeps fewer than one entry per token",
    "hunyuan": "its layers share keys and values across layers",
    "step3": "its factorised query is no form of attention in qsopt.model",
}
"""Families that are known and left out, by the beginning of their `model_type`, with the reason."""


def read_config(source: Path | str | Mapping[str, object]) -> Model:
    """The model that a config describes.

    `source` is a `config.json`, a folder that holds one, or its content. Of a multimodal wrapper
    (`text_config`) only the text model is read. Multi-token prediction modules are left out: they
    do not run in plain decoding.

    Raises:
        InputError: if the file cannot be read, the family is unknown, a field is missing, malformed
            or contradictory, or a field that could change counts or times is not understood.
    """
    where, fields = ("config", source) if isinstance(source, Mapping) else _load(Path(source))
    reader = Reader(_text_model(where, fields), where)
    family = reader.text("model_type")
    model = _adapter(where, family)(reader)
    reader.finish()
    return model


def _adapter(where: str, family: str) -> Callable[[Reader], Model]:
    for start, reason in _NOT_EXPRESSIBLE.items():
        if family.lower().startswith(start):
            raise InputError(f"{where}: model_type '{family}' is not supported: {reason}")
    if family not in FAMILIES:
        nearest = difflib.get_close_matches(family.lower(), FAMILIES, n=1, cutoff=0.0)[0]
        raise InputError(
            f"{where}: unknown model_type '{family}'; nearest is '{nearest}', supported are "
            f"{', '.join(FAMILIES)}"
        )
    return FAMILIES[family]


def _load(path: Path) -> tuple[str, Mapping[str, object]]:
    file = path / "config.json" if path.is_dir() else path
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{file}: cannot be read ({error.strerror}); give a config.json or a folder that "
            f"holds one"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{file}: is not valid JSON ({error}); download the config.json again or correct it"
        ) from error
    if not isinstance(fields, Mapping):
        raise InputError(f"{file}: holds no table; a config.json begins with '{{'")
    return str(file), fields


def _text_model(where: str, fields: Mapping[str, object]) -> Mapping[str, object]:
    """The fields of the text model inside a multimodal wrapper, whose own fields (tying, type,
    quantisation) stay in force.
    """
    inner = fields.get("text_config")
    if inner is None:
        return fields
    if not isinstance(inner, Mapping):
        raise InputError(f"{where}: field 'text_config' must be a table")
    outer = {
        key: value for key, value in fields.items() if key not in ("text_config", "model_type")
    }
    for key in outer.keys() & inner.keys():
        if outer[key] != inner[key] and not is_harmless(key):
            raise InputError(
                f"{where}: field '{key}' differs between the wrapper and its 'text_config'; "
                f"correct one of them"
            )
    return {**outer, **inner}
