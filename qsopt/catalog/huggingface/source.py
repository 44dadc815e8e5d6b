"""Files of a checkpoint: `config.json`, and what may lie beside it (`hf_quant_config.json` of
ModelOpt, the index of the safetensors).
"""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from qsopt.errors import InputError
from qsopt.files import read_text

QUANT_FILE = "hf_quant_config.json"
"""Where ModelOpt writes what it quantised."""
INDEX_FILE = "model.safetensors.index.json"
"""Where the bytes of all tensors stand."""

Fields = Mapping[str, object]


class Source(NamedTuple):
    """A config, where it came from, and the bytes of the checkpoint's tensors if they are known."""

    where: str
    fields: Fields
    stored_bytes: int | None = None


def load(path: Path) -> Source:
    """The config at a path, or in a folder, joined with the files beside it.

    Raises:
        InputError: if a file cannot be read, is no JSON table or names a field twice, or if
            `hf_quant_config.json` contradicts the config.
    """
    file = path / "config.json" if path.is_dir() else path
    fields = _table(file)
    beside = file.name == "config.json"
    quantised, index = file.with_name(QUANT_FILE), file.with_name(INDEX_FILE)
    if beside and quantised.is_file():
        fields = with_quantisation(str(file), fields, _table(quantised))
    stored = _total_size(index) if beside and index.is_file() else None
    return Source(str(file), fields, stored)


def with_quantisation(where: str, fields: Fields, beside: Fields) -> Fields:
    """The config with ModelOpt's table as its `quantization_config`, unless it has one that
    agrees.

    Raises:
        InputError: if the two name different algorithms, or the file holds no such table.
    """
    table = beside.get("quantization")
    if not isinstance(table, Mapping):
        raise InputError(
            f"{where}: {QUANT_FILE} beside it holds no table 'quantization'; download it again, or "
            f"remove it if the weights are not quantised"
        )
    inner = fields.get("text_config")
    own = fields.get("quantization_config") or (
        inner.get("quantization_config") if isinstance(inner, Mapping) else None
    )
    if not isinstance(own, Mapping):
        return {**fields, "quantization_config": {"quant_method": "modelopt", **table}}
    here, there = own.get("quant_algo"), table.get("quant_algo")
    if here is not None and here != there:
        raise InputError(
            f"{where}: quantization_config says quant_algo {here!r}, but {QUANT_FILE} beside it "
            f"says {there!r}; keep the one that the weights have"
        )
    cache = table.get("kv_cache_quant_algo")
    if cache is None or any(own.get(key) for key in ("kv_cache_scheme", "kv_cache_quant_algo")):
        return fields
    joined = {**own, "kv_cache_quant_algo": cache}
    if isinstance(inner, Mapping) and inner.get("quantization_config"):
        return {**fields, "text_config": {**inner, "quantization_config": joined}}
    return {**fields, "quantization_config": joined}


def _total_size(index: Path) -> int | None:
    metadata = _table(index).get("metadata")
    size = metadata.get("total_size") if isinstance(metadata, Mapping) else None
    return int(size) if isinstance(size, int | float) and size > 0 else None


def _table(file: Path) -> Fields:
    text = read_text(file, "give a config.json in JSON, or a folder that holds one")
    try:
        fields = json.loads(text, object_pairs_hook=_once)
    except _TwiceError as error:
        raise InputError(
            f"{file}: field '{error}' stands there twice; remove the one that is wrong"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{file}: is not valid JSON ({error}); download the {file.name} again or correct it"
        ) from error
    if not isinstance(fields, Mapping):
        raise InputError(f"{file}: holds no table; a {file.name} begins with '{{'")
    return fields


class _TwiceError(Exception):
    """A table names a field twice, of which JSON readers silently keep the last."""


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    counts = Counter(key for key, _ in pairs)
    for key, count in counts.items():
        if count > 1:
            raise _TwiceError(key)
    return dict(pairs)
