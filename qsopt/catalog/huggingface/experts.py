"""Routed experts as rows of a table: how each family names them, and which layers have them."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qsopt.catalog.huggingface.family import (
    Family,
    Switch,
    dense_ffn,
    family_sizes,
    finished,
    is_on,
    named,
    softmax_layers,
)
from qsopt.catalog.huggingface.ffn import routed, with_router_bias, with_shared
from qsopt.catalog.huggingface.layers import Sizes, indices, one_per_layer, with_small
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.layers import Ffn, MoeFfn
from qsopt.spec.model import Model


@dataclass(frozen=True)
class Experts:
    """One row: names of fields (`a|b` where releases differ), and what the family's class does."""

    count: str = "num_experts|num_local_experts"
    top_k: str = "num_experts_per_tok"
    width: str = "moe_intermediate_size"
    shared: str = ""
    """Field with the number of shared experts, as wide as the routed ones."""
    shared_default: int | None = 0
    """What the family's class takes for it; None: the field must be there, be it null."""
    shared_width: str = ""
    """Field with the width of the one shared expert, or of all of them together."""
    shared_gate: bool = False
    """Whether a gate as wide as hidden weighs the shared expert."""
    router_bias: Switch = False
    """One bias for each expert in the router (DeepSeek's correction bias, for one)."""
    first: str = ""
    """Field with the number of leading dense layers."""
    first_default: int | None = 0
    """What the family's class takes for it; None: the field must be there."""
    period: str = ""
    """Field that says which layers from there on have experts: every n-th, or a list of 0 and 1."""
    only: str = ""
    """Field that lists layers without experts."""
    dense_width: str = "intermediate_size"
    """Field with the width of the dense layers, if there are some."""


def moe_family(row: Family, experts: Experts) -> Callable[[Reader], Model]:
    """The reader of a family with softmax attention and routed experts."""

    def read(reader: Reader) -> Model:
        size = family_sizes(reader, row)
        attention = softmax_layers(reader, size, row)
        ffn = expert_ffn(reader, size, row, experts)
        return finished(reader, size, row, list(zip(attention, ffn, strict=True)))

    return read


def expert_ffn(reader: Reader, size: Sizes, row: Family, experts: Experts) -> list[Ffn]:
    """The feed-forward of each layer."""
    chosen = sparse_layers(reader, size, experts)
    return placed(reader, size, row, experts, moe_layer(reader, size, row, experts), chosen)


def placed(
    reader: Reader,
    size: Sizes,
    row: Family,
    experts: Experts,
    moe: MoeFfn,
    chosen: Sequence[bool],
) -> list[Ffn]:
    """Experts in the chosen layers and dense layers in the others, whose width is needed only if
    there are some.

    Raises:
        InputError: if no layer has experts.
    """
    if not any(chosen):
        raise reader.error(
            "no layer has experts by the fields that place them; correct these, or use a dense "
            "family"
        )
    reader.skip(*experts.dense_width.split("|"))
    dense = moe
    if not all(chosen):
        dense = dense_ffn(reader, size, dataclasses.replace(row, width=experts.dense_width))
    return [moe if here else dense for here in chosen]


def moe_layer(reader: Reader, size: Sizes, row: Family, experts: Experts) -> MoeFfn:
    """One layer of routed and shared experts, with its norms."""
    width = reader.count(named(reader, experts.width))
    count, top_k = named(reader, experts.count), named(reader, experts.top_k)
    moe = routed(reader, size.hidden, width, count, top_k)
    moe = dataclasses.replace(
        moe,
        matrices=3 if row.gated else 2,
        small=row.norm * row.ffn_norms * size.hidden,
    )
    if is_on(reader, experts.router_bias):
        moe = with_router_bias(moe)
    return _with_shared(reader, size, experts, moe, width)


def _with_shared(reader: Reader, size: Sizes, experts: Experts, moe: MoeFfn, width: int) -> MoeFfn:
    number = 0
    if experts.shared:
        name = named(reader, experts.shared)
        stated = reader.states(name) and not reader.has(name)
        number = reader.whole(name, 0 if stated else experts.shared_default)
    wide = named(reader, experts.shared_width) if experts.shared_width else ""
    if wide and reader.has(wide) and not (experts.shared and number == 0):
        total = reader.whole(wide)
        moe = with_shared(moe, 1 if total else 0, total)
        number = 1 if total else 0
    elif number:
        moe = with_shared(moe, number, width)
    return with_small(moe, size.hidden) if experts.shared_gate and number else moe


DENSE, SPARSE = "dense", "sparse"
"""Names of feed-forward types in `mlp_layer_types`."""


def sparse_layers(reader: Reader, size: Sizes, experts: Experts) -> list[bool]:
    """Which layers have experts: `mlp_layer_types`, or the leading dense layers and the period.

    Raises:
        InputError: if the two are both there and disagree.
    """
    stated = [experts.first, experts.period, experts.only]
    counted = any(field and reader.has(field) for field in stated)
    by_count = _by_count(reader, size, experts, not reader.has("mlp_layer_types"))
    if not reader.has("mlp_layer_types"):
        return by_count
    types = one_per_layer(reader, "mlp_layer_types", reader.words("mlp_layer_types"), size.layers)
    for name in types:
        if name not in (DENSE, SPARSE):
            raise reader.error(
                f"field 'mlp_layer_types' holds '{name}'; only dense and sparse are known"
            )
    chosen = [name == SPARSE for name in types]
    if counted and chosen != by_count:
        raise reader.error(
            "field 'mlp_layer_types' contradicts the fields that place experts; correct one of them"
        )
    return chosen


def _by_count(reader: Reader, size: Sizes, experts: Experts, needed: bool) -> list[bool]:
    first = 0
    if experts.first:
        default = experts.first_default if needed else experts.first_default or 0
        first = reader.whole(experts.first, default)
    every = [True] * size.layers
    if experts.period and reader.listed(experts.period):
        marks = reader.marks(experts.period)
        every = one_per_layer(reader, experts.period, marks, size.layers)
    elif experts.period:
        step = reader.count(experts.period, 1)
        every = [index % step == 0 for index in range(size.layers)]
    without = []
    if experts.only and reader.has(experts.only):
        without = indices(reader, experts.only, size.layers)
    return [
        every[index] and index >= first and index not in without for index in range(size.layers)
    ]
