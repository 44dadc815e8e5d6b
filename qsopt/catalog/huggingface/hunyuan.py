"""Hunyuan's families with experts: Hunyuan-Large, whose every second layer reads the keys and
values of the one before, and Hunyuan-A13B.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import replace

from qsopt.catalog.huggingface.dense import ROWS
from qsopt.catalog.huggingface.experts import Experts, moe_layer, placed
from qsopt.catalog.huggingface.family import family_sizes, finished, softmax
from qsopt.catalog.huggingface.ffn import with_shared
from qsopt.catalog.huggingface.layers import Sizes
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.layers import Attention, Ffn
from qsopt.spec.model import Model

ROW = replace(
    ROWS["hunyuan_v1_dense"],
    expect=(("use_mixed_mlp_moe", (True,)),),
    unused=(
        *ROWS["hunyuan_v1_dense"].unused,
        "moe_drop_tokens",
        "moe_random_routing_dropped_token",
        "capacity_factor",
        "norm_topk_prob",
        "group_limited_greedy",
        "cla_share_factor",
    ),
)
EXPERTS = Experts(count="num_experts", top_k="moe_topk", first="moe_layer_num_skipped")


def hunyuan(reader: Reader) -> Model:
    """Hunyuan with experts; a field may be a list with one value for each layer, all equal."""
    size = family_sizes(reader, ROW)
    reader = reader.flattened(
        "num_experts", "moe_topk", "num_shared_expert", "moe_intermediate_size"
    )
    ffn = _ffn(reader, size)
    attention = _attention(reader, size)
    return finished(reader, size, ROW, list(zip(attention, ffn, strict=True)))


def _attention(reader: Reader, size: Sizes) -> list[Attention]:
    """With `use_cla`, only the first layer of each `cla_share_factor` has keys and values."""
    own = softmax(reader, size.hidden, ROW)
    if not reader.flag("use_cla", False):
        return [own] * size.layers
    shared = dataclasses.replace(own, projected=0.0, cached=0.0)
    factor = reader.count("cla_share_factor")
    return [own if index % factor == 0 else shared for index in range(size.layers)]


def _ffn(reader: Reader, size: Sizes) -> list[Ffn]:
    width = "moe_intermediate_size" if reader.has("moe_intermediate_size") else "intermediate_size"
    moe = moe_layer(reader, size, ROW, replace(EXPERTS, width=width))
    shared = reader.whole("num_shared_expert", 1)
    moe = with_shared(moe, shared, reader.count(width)) if shared else moe
    first = reader.whole("moe_layer_num_skipped", 0)
    chosen = [index >= first for index in range(size.layers)]
    return placed(reader, size, ROW, EXPERTS, moe, chosen)


FAMILIES: dict[str, Callable[[Reader], Model]] = {"hunyuan": hunyuan, "hunyuan_v1_moe": hunyuan}
"""The reader of each `model_type`."""
