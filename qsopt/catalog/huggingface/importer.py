"""From a `config.json` to a `Model`: load, unwrap the language model, hand it to its family, refuse
what nobody understood.
"""

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from qsopt.catalog.huggingface import (
    dense,
    encoder_decoder,
    gemma,
    gpt,
    hunyuan,
    hybrid,
    latent,
    mixtures,
    mllama,
    nas,
    qwen,
    routed,
    sparse,
    state,
    windows,
    zamba,
)
from qsopt.catalog.huggingface.reader import Reader
from qsopt.catalog.huggingface.source import Source, load
from qsopt.catalog.huggingface.stored import check_stored, draft_layers
from qsopt.catalog.huggingface.towers import resident
from qsopt.catalog.huggingface.wrapper import language_model
from qsopt.errors import InputError
from qsopt.spec.model import Model

FAMILIES: dict[str, Callable[[Reader], Model]] = dict(
    sorted(
        {
            **dense.FAMILIES,
            **encoder_decoder.FAMILIES,
            **gemma.FAMILIES,
            **gpt.FAMILIES,
            **hunyuan.FAMILIES,
            **hybrid.FAMILIES,
            **latent.FAMILIES,
            **mixtures.FAMILIES,
            **mllama.FAMILIES,
            **nas.FAMILIES,
            **qwen.FAMILIES,
            **routed.FAMILIES,
            **sparse.FAMILIES,
            **state.FAMILIES,
            **windows.FAMILIES,
            **zamba.FAMILIES,
        }.items()
    )
)
"""The reader of each `model_type`."""

_NOT_EXPRESSIBLE = {
    "bitnet": "its products of ternary weights are no format in qsopt",
    "recurrent_gemma": "its gated linear recurrence is no kind of layer in qsopt.model",
    "rwkv": "its time mixing is no kind of layer in qsopt.model",
    "step3_text": "its factorised query is no form of attention in qsopt.model",
    "step3_vl": "its factorised query is no form of attention in qsopt.model",
    "t5": "its encoder and decoder differ from Switch Transformers",
    "xlstm": "its matrix memory is no kind of layer in qsopt.model",
}
"""Families that are known and left out, by the beginning of their `model_type`, with the reason."""


def read_config(
    source: Path | str | Mapping[str, object],
    family: str | None = None,
    ignore: Sequence[str] = (),
) -> Model:
    """The model that a config describes.

    `source` is a `config.json`, a folder that holds one, or its content. ModelOpt's
    `hf_quant_config.json` and the index of the safetensors count where they lie beside it. Of a
    multimodal wrapper the language model is read, and its towers are counted as resident.
    Multi-token prediction modules are counted apart (`Model.draft_layers`): they do not run in
    plain decoding.

    Args:
        source: path or content.
        family: read the config as this family, whatever its `model_type`.
        ignore: fields, at any depth, to pass over; or `model.safetensors.index.json`, to leave the
            stored bytes unchecked.

    Raises:
        InputError: if the file cannot be read, the family is unknown, a field is missing, malformed
            or contradictory, or a field that could change counts or times is not understood.
    """
    found = Source("config", source) if isinstance(source, Mapping) else load(Path(source))
    ignored = tuple(ignore)
    text, outer = language_model(found.where, found.fields, ignored)
    reader = Reader(text, found.where, ignored)
    chosen = family or _family(reader, outer)
    model = _adapter(found.where, chosen)(reader)
    reader.finish()
    wrapper = Reader(outer, found.where, ignored)
    kind = str(found.fields.get("model_type", chosen))
    towers = resident(wrapper, kind, int(float(model.hidden)))
    resident_there = model.resident + towers
    model = dataclasses.replace(model, resident=resident_there, draft_layers=draft_layers(text))
    check_stored(found, model, text, ignored)
    return model


def _family(reader: Reader, outer: Mapping[str, object]) -> str:
    """The model's own type, or its wrapper's."""
    kind = outer.get("model_type")
    return reader.text("model_type", kind if isinstance(kind, str) else None)


def _adapter(where: str, family: str) -> Callable[[Reader], Model]:
    if family in FAMILIES:
        return FAMILIES[family]
    for start, reason in _NOT_EXPRESSIBLE.items():
        if family.lower().startswith(start):
            raise InputError(
                f"{where}: model_type '{family}' is not supported: {reason}; build the model with "
                f"qsopt.model, or read it as a family that is near enough with --as"
            )
    nearest = difflib.get_close_matches(family.lower(), FAMILIES, n=3, cutoff=0.0)
    raise InputError(
        f"{where}: unknown model_type '{family}', which is none of {len(FAMILIES)} families known; "
        f"nearest are {', '.join(nearest)}: read it as one that is near enough with --as, such as "
        f"--as {nearest[0]}, or build the model with qsopt.model"
    )
