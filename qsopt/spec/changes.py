"""A model with other sizes, where they make a model that can be."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import equinox as eqx
import numpy as np

from qsopt.arrays import scalar
from qsopt.errors import InputError, unknown_name
from qsopt.spec.layers import (
    Attention,
    DenseFfn,
    Ffn,
    Gqa,
    Layers,
    M,
    MoeFfn,
    Stack,
    map_ffn,
    with_count,
    with_routed,
)

Kind = TypeVar("Kind", bound=Attention | Ffn)

LONGEST_PERIOD = 16
"""Layers after which a mix of kinds repeats; what repeats later is some leading dense layers."""

ROUTED = {
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

SIZES = (*ROUTED, *_ATTENTION, "ffn_width", "hidden", "vocabulary", "layers")
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
    if set(known) & set(ROUTED):
        fields = {ROUTED[name]: scalar(known[name]) for name in ROUTED if name in known}
        model = _with_routed(model, fields)
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


def _check_has(kind: type, groups: Sequence[Layers[Any]], refusal: str) -> None:
    if not any(isinstance(group.kind, kind) for group in groups):
        raise InputError(refusal)


def _with_routed(model: M, sizes: Mapping[str, float]) -> M:
    _check_has(
        MoeFfn,
        model.decoder.ffn,
        f"{', '.join(sizes)}: the model is dense; take a Mixture-of-Experts model, or give "
        "ffn_width",
    )
    model = map_ffn(model, lambda layers: with_routed(layers, sizes))
    for stack in filter(None, (model.decoder, model.encoder)):
        for group in stack.ffn:
            if isinstance(group.kind, MoeFfn):
                _check_groups(group.kind)
    return model


def _check_groups(kind: MoeFfn) -> None:
    replace(kind)  # checked as it is when it is made
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


def _with_attention(model: M, sizes: Mapping[str, float]) -> M:
    _check_has(
        Gqa,
        model.decoder.attention,
        f"{', '.join(sizes)}: the model has no grouped attention; change its records instead "
        "(qsopt.Model, eqx.tree_at)",
    )

    def change(group: Layers[Attention]) -> Layers[Attention]:
        if not isinstance(group.kind, Gqa):
            return group
        kind = replace(group.kind, **sizes)
        if float(kind.heads) % float(kind.kv_heads):
            raise InputError(
                f"heads = {float(kind.heads):g} with kv_heads = {float(kind.kv_heads):g}: take a "
                "divisor of heads"
            )
        return replace(group, kind=kind)

    attention = tuple(change(group) for group in model.decoder.attention)
    return eqx.tree_at(lambda m: m.decoder.attention, model, attention)


def _with_dense_width(model: M, width: float) -> M:
    _check_has(
        DenseFfn,
        model.decoder.ffn,
        "ffn_width: the model has no dense feed-forward layers; give expert_width",
    )

    def change(group: Layers[Ffn]) -> Layers[Ffn]:
        if not isinstance(group.kind, DenseFfn):
            return group
        return replace(group, kind=replace(group.kind, width=width))

    return map_ffn(model, change)


def _with_layers(model: M, layers: int) -> M:
    decoder = model.decoder
    attention = _counts([float(group.count) for group in decoder.attention], layers, None)
    routed = [place for place, group in enumerate(decoder.ffn) if isinstance(group.kind, MoeFfn)]
    ffn = _counts([float(group.count) for group in decoder.ffn], layers, routed[:1] or None)
    stack = Stack(_counted(attention, decoder.attention), _counted(ffn, decoder.ffn))
    return eqx.tree_at(lambda m: (m.decoder, m.layers), model, (stack, scalar(float(layers))))


def _counted(counts: list[float], groups: Sequence[Layers[Kind]]) -> tuple[Layers[Kind], ...]:
    return tuple(with_count(each, count) for count, each in zip(counts, groups, strict=True))


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
