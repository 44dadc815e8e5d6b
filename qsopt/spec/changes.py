"""A model with other sizes, where they make a model that can be."""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import equinox as eqx
import numpy as np

from qsopt.arrays import scalar
from qsopt.errors import InputError, unknown_name

M = TypeVar("M", bound=Any)
"""A `Model`, which knows this module: layers are told apart by their fields."""

LONGEST_PERIOD = 16
"""Layers after which a mix of kinds repeats; what repeats later is some leading dense layers."""

_ROUTED = {
    "experts": "experts",
    "top_k": "top_k",
    "expert_width": "width",
    "shared_experts": "shared_experts",
    "shared_width": "shared_width",
    "groups": "groups",
    "top_groups": "top_groups",
}
"""Sizes of routed layers, and what they are of a `MoeFfn`."""

_ATTENTION = ("heads", "kv_heads", "head_dim")

SIZES = (*_ROUTED, *_ATTENTION, "ffn_width", "hidden", "vocabulary", "layers")
"""What may be changed."""

_MAY_BE_ZERO = ("shared_experts", "shared_width")


def changed(model: M, sizes: Mapping[str, float]) -> M:
    """A model with other sizes; the rest, formats too, is as it was.

    Args:
        model: to start from, concrete.
        sizes: of `SIZES` by name: those of routed layers for all of them; `heads`, `kv_heads` and
            `head_dim` of grouped attention; `ffn_width` of dense feed-forward layers; `layers` in
            the mix of kinds that the model has, leading dense layers as they are.

    Raises:
        InputError: if there is no such size, it is no whole number, or no such model can be.
    """
    for name, value in sizes.items():
        _check_whole(name, value)
    known = {name: float(value) for name, value in sizes.items()}
    if set(known) & set(_ROUTED):
        model = _with_routed(
            model, {_ROUTED[name]: known[name] for name in _ROUTED if name in known}
        )
    if set(known) & set(_ATTENTION):
        model = _with_attention(model, {name: known[name] for name in _ATTENTION if name in known})
    if "ffn_width" in known:
        model = _with_dense_width(model, known["ffn_width"])
    if "layers" in known:
        model = _with_layers(model, int(known["layers"]))
    for name in ("hidden", "vocabulary"):
        if name in known:
            model = eqx.tree_at(lambda m, name=name: getattr(m, name), model, scalar(known[name]))
    return model


def _check_whole(name: str, value: float) -> None:
    if name not in SIZES:
        raise unknown_name("size", name[:60], SIZES)
    least = 0 if name in _MAY_BE_ZERO else 1
    if not (math.isfinite(value) and float(value).is_integer() and value >= least):
        raise InputError(f"{name} = {value:g}: give a whole number, {least} or more")


def _replaced(record: Any, sizes: Mapping[str, float]) -> Any:
    """A record with other numbers, checked as it is when it is made."""
    fields = {name: getattr(record, name) for name in record.__dataclass_fields__}
    return type(record)(**{**fields, **sizes})


def _is_routed(group: Any) -> bool:
    return hasattr(group.kind, "experts")


def _is_dense(group: Any) -> bool:
    return not _is_routed(group)


def _is_grouped(group: Any) -> bool:
    return hasattr(group.kind, "kv_heads")


def _with_ffn(model: M, change: Callable[[Any], Any]) -> M:
    """With the feed-forward layers of decoder and encoder changed."""
    for name in ("decoder", "encoder"):
        stack = getattr(model, name)
        if stack is not None:
            ffn = tuple(change(group) for group in stack.ffn)
            model = eqx.tree_at(lambda m, name=name: getattr(m, name).ffn, model, ffn)
    return model


def _with_routed(model: M, sizes: Mapping[str, float]) -> M:
    if not any(_is_routed(group) for group in model.decoder.ffn):
        raise InputError(
            f"{', '.join(sizes)}: the model is dense; take a Mixture-of-Experts model, or give "
            "ffn_width"
        )

    def change(group: Any) -> Any:
        if not _is_routed(group):
            return group
        kind = _replaced(group.kind, sizes)
        experts, groups, top = (float(x) for x in (kind.experts, kind.groups, kind.top_groups))
        if experts % groups or top > groups:
            raise InputError(
                f"experts = {experts:g} in groups = {groups:g} of which {top:g} are used: take a "
                "multiple of groups, no more top_groups than groups, or groups = 1 and top_groups "
                "= 1 for routing without groups"
            )
        if float(kind.top_k) > experts / groups * top:
            raise InputError(
                f"top_k = {float(kind.top_k):g}: {top:g} of {groups:g} groups hold only "
                f"{experts / groups * top:g} experts; take fewer, or more top_groups"
            )
        return type(group)(group.count, kind)

    return _with_ffn(model, change)


def _with_attention(model: M, sizes: Mapping[str, float]) -> M:
    if not any(_is_grouped(group) for group in model.decoder.attention):
        raise InputError(
            f"{', '.join(sizes)}: the model has no grouped attention; change its records instead "
            "(qsopt.Model, eqx.tree_at)"
        )

    def change(group: Any) -> Any:
        if not _is_grouped(group):
            return group
        kind = _replaced(group.kind, sizes)
        if float(kind.heads) % float(kind.kv_heads):
            raise InputError(
                f"heads = {float(kind.heads):g} with kv_heads = {float(kind.kv_heads):g}: take a "
                "divisor of heads"
            )
        return type(group)(group.count, kind)

    attention = tuple(change(group) for group in model.decoder.attention)
    return eqx.tree_at(lambda m: m.decoder.attention, model, attention)


def _with_dense_width(model: M, width: float) -> M:
    if not any(_is_dense(group) for group in model.decoder.ffn):
        raise InputError("ffn_width: the model has no dense feed-forward layers; give expert_width")

    def change(group: Any) -> Any:
        dense = _is_dense(group)
        kind = _replaced(group.kind, {"width": width}) if dense else group.kind
        return type(group)(group.count, kind)

    return _with_ffn(model, change)


def _with_layers(model: M, layers: int) -> M:
    decoder = model.decoder
    attention = _counts([float(group.count) for group in decoder.attention], layers, None)
    routed = [place for place, group in enumerate(decoder.ffn) if _is_routed(group)]
    ffn = _counts([float(group.count) for group in decoder.ffn], layers, routed[:1] or None)
    stack = type(decoder)(
        *(
            tuple(
                type(group)(count, group.kind) for count, group in zip(counts, groups, strict=True)
            )
            for counts, groups in ((attention, decoder.attention), (ffn, decoder.ffn))
        )
    )
    same = eqx.tree_at(lambda m: m.decoder, model, stack)
    return eqx.tree_at(lambda m: m.layers, same, scalar(float(layers)))


def _counts(counts: list[float], layers: int, growing: list[int] | None) -> list[float]:
    """Counts of kinds that mix as before and fill so many layers.

    Args:
        counts: of each kind.
        layers: wanted.
        growing: the kind that takes all the change where the mix does not repeat; None if none may.
    """
    whole = [round(count) for count in counts]
    period = sum(whole) // math.gcd(*whole)
    if growing is not None and period > LONGEST_PERIOD:
        rest = layers - sum(whole) + whole[growing[0]]
        if rest < 1:
            raise InputError(
                f"layers = {layers}: {sum(whole) - whole[growing[0]]} leading layers are dense; "
                "take more layers"
            )
        return [float(rest if place == growing[0] else count) for place, count in enumerate(whole)]
    if layers % period:
        near = [max(1, layers // period) * period, (layers // period + 1) * period]
        raise InputError(
            f"layers = {layers}: kinds of layers repeat every {period}; take {near[0]} or {near[1]}"
        )
    return [float(count) for count in np.array(whole) * layers // sum(whole)]
