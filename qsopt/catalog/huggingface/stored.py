"""A second opinion on bytes: the index of the safetensors says how much the tensors of a checkpoint
weigh.
"""

from collections.abc import Mapping

from qsopt.catalog.huggingface.modules import matrices
from qsopt.catalog.huggingface.names import ATTENTION, EXPERTS
from qsopt.catalog.huggingface.source import INDEX_FILE, Source
from qsopt.errors import InputError
from qsopt.spec.layers import Attention, Ffn, MoeFfn
from qsopt.spec.model import Model, stacks

TOLERANCE = 0.02
"""Largest difference between counted and stored bytes that passes."""

_MOST_LAYERS = 10**6
"""No config has as many."""

_EXTRA_LAYERS = (
    "num_nextn_predict_layers",
    "num_mtp_modules",
    "mtp_num_hidden_layers",
    "num_mtp_layers",
)
"""Fields with the number of multi-token prediction modules, which are stored but not counted."""


def draft_layers(fields: Mapping[str, object]) -> int:
    """Multi-token prediction modules of a config; none where it says that they are not used.

    Raises:
        InputError: if their number is none.
    """
    stated = [_count(name, fields[name]) for name in _EXTRA_LAYERS if fields.get(name) is not None]
    return 0 if fields.get("use_mtp") is False else max(stated, default=0)


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST_LAYERS:
        raise InputError(f"{name} = {value!r}: give a whole number, zero or more")
    return value


def check_stored(
    source: Source, model: Model, fields: Mapping[str, object], ignored: tuple[str, ...]
) -> None:
    """Refuse a model whose bytes differ from what the checkpoint's index says.

    Modules for multi-token prediction may add up to one layer each, with tables of their own.

    Raises:
        InputError: if they differ by more than `TOLERANCE`.
    """
    if source.stored_bytes is None or INDEX_FILE in ignored:
        return
    counted = float(weight_bytes(model))
    if "float32" in str(fields.get("dtype") or fields.get("torch_dtype")):
        counted *= 2.0
    most = counted + _extra_bytes(model, fields, counted)
    if counted * (1 - TOLERANCE) <= source.stored_bytes <= most * (1 + TOLERANCE):
        return
    raise InputError(
        f"{source.where}: {INDEX_FILE} beside it says that the tensors weigh "
        f"{source.stored_bytes / 1e9:.2f} GB, but the config gives {counted / 1e9:.2f} GB; check "
        f"'quantization_config' and the sizes, or pass the index over with --ignore {INDEX_FILE}"
    )


def _extra_bytes(model: Model, fields: Mapping[str, object], counted: float) -> float:
    return draft_layers(fields) * (counted / float(model.layers) + _tables(model))


def weight_bytes(model: Model) -> float:
    """Bytes of all weights [byte]: the matrices of `modules` in their formats, and the rest in that
    of the tables.
    """
    wide = float(model.precision.tables.bytes)
    hidden = int(float(model.hidden))
    total = _tables(model) + wide * float(model.small + model.resident)
    for stack in stacks(model):
        for layers in (*stack.attention, *stack.ffn):
            total += float(layers.distinct) * (
                _matrix_bytes(model, layers.kind, hidden) + wide * _odds(layers.kind, hidden)
            )
    return total


def _matrix_bytes(model: Model, kind: Attention | Ffn, hidden: int) -> float:
    forms = {ATTENTION: model.precision.attention, EXPERTS: model.precision.experts}
    return sum(
        float(weight) * float(forms.get(part, model.precision.ffn).bytes)
        for part, _, weight in matrices(kind, hidden)
    )


def _odds(kind: Attention | Ffn, hidden: int) -> float:
    """Norms, biases and the router of one layer [parameters]."""
    if not isinstance(kind, MoeFfn):
        return float(kind.small)
    return float(kind.small + kind.experts * kind.expert_small + kind.experts * hidden)


def _tables(model: Model) -> float:
    return float(model.vocabulary * model.hidden * (2.0 - model.tied)) * float(
        model.precision.tables.bytes
    )
