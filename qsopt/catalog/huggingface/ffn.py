"""Feed-forward layers read from a config. The norm before the block is counted with the block."""

import dataclasses
from collections.abc import Callable

from qsopt.catalog.huggingface.layers import Sizes, with_small
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.layers import DenseFfn, Ffn, MoeFfn


def dense(width: int, hidden: int) -> DenseFfn:
    """A gated dense layer without biases."""
    return DenseFfn(width=width, small=hidden)


def ungated(width: int, hidden: int) -> DenseFfn:
    """A dense layer of two matrices, without biases."""
    return DenseFfn(width=width, matrices=2, small=hidden)


def biases(width: int, hidden: int, matrices: int) -> int:
    """One bias for each output of each matrix of a feed-forward layer or expert."""
    return (matrices - 1) * width + hidden


def routed(
    reader: Reader,
    hidden: int,
    width: int,
    experts: str = "num_local_experts",
    top_k: str = "num_experts_per_tok",
) -> MoeFfn:
    """Gated experts without biases; `experts` and `top_k` are the names of the fields.

    Raises:
        InputError: if a token would use more experts than there are.
    """
    count, used = reader.count(experts), reader.count(top_k)
    if used > count:
        raise reader.error(
            f"field '{top_k}' = {used} exceeds '{experts}' = {count}; a token uses at most all "
            f"experts"
        )
    groups, top_groups = _limited_groups(reader, count)
    return MoeFfn(
        experts=count,
        top_k=used,
        width=width,
        small=hidden,
        groups=groups,
        top_groups=top_groups,
    )


def _limited_groups(reader: Reader, experts: int) -> tuple[int, int]:
    """Groups that the experts are divided into, and from how many of them a token's experts come:
    `n_group` and `topk_group` of DeepSeek's node-limited routing; 1 and 1 without it.

    Raises:
        InputError: if a token would use more groups than there are, or they do not divide the
            experts.
    """
    if not (reader.has("n_group") and reader.has("topk_group")) or reader.holds(
        "topk_method", "greedy"
    ):
        return 1, 1
    groups, used = reader.count("n_group"), reader.count("topk_group")
    if used > groups or experts % groups:
        raise reader.error(
            f"field 'topk_group' = {used} of 'n_group' = {groups} groups of {experts} experts: "
            f"groups divide the experts, and a token uses at most all of them"
        )
    return (groups, used) if used < groups else (1, 1)


def with_shared(moe: MoeFfn, count: int, width: int) -> MoeFfn:
    """The same layer with shared experts beside the routed ones."""
    return dataclasses.replace(moe, shared_experts=count, shared_width=width if count else 0)


def with_router_bias(moe: MoeFfn) -> MoeFfn:
    """The same layer with one bias for each expert in the router (DeepSeek's correction bias, for
    one).
    """
    return with_small(moe, float(moe.experts))


def leading_dense(reader: Reader, size: Sizes, router_bias: bool) -> list[Ffn]:
    """DeepSeek's pattern: `first_k_dense_replace` dense layers, then MoE with shared experts as
    wide as the routed ones.
    """
    first, period = reader.whole("first_k_dense_replace"), reader.count("moe_layer_freq", 1)
    width = reader.count("moe_intermediate_size")
    plain = routed(reader, size.hidden, width, "n_routed_experts")
    moe = with_shared(plain, reader.whole("n_shared_experts"), width)
    moe = with_router_bias(moe) if router_bias else moe
    return alternating(reader, size, moe, lambda index: index >= first and index % period == 0)


def alternating(
    reader: Reader,
    size: Sizes,
    moe: MoeFfn,
    is_routed: Callable[[int], bool],
    width: str = "intermediate_size",
) -> list[Ffn]:
    """The feed-forward of each layer. The field `width` of the dense ones is needed only if there
    are some.

    Raises:
        InputError: if no layer has experts.
    """
    reader.skip(width)
    chosen = [is_routed(index) for index in range(size.layers)]
    if not any(chosen):
        raise reader.error(
            "no layer has experts by the fields that place them; correct these, or use a dense "
            "family"
        )
    other = moe if all(chosen) else dense(reader.count(width), size.hidden)
    return [moe if here else other for here in chosen]
