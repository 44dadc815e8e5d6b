"""Llama-Nemotron, whose layers an architecture search removed or narrowed."""

from collections.abc import Callable

from qsopt.catalog.huggingface.attention import Heads, checked, divided, gqa
from qsopt.catalog.huggingface.dense import LLAMA
from qsopt.catalog.huggingface.family import (
    family_sizes,
    finished,
)
from qsopt.catalog.huggingface.ffn import dense
from qsopt.catalog.huggingface.layers import one_per_layer
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.layers import Attention, Ffn
from qsopt.spec.model import Model


def nemotron_nas(reader: Reader) -> Model:
    """Llama-Nemotron (DeciLM): Llama layers of which a search removed or narrowed blocks."""
    reader.expect("num_key_value_heads", None)
    reader.expect("intermediate_size", None)
    size = family_sizes(reader, LLAMA)
    tables = one_per_layer(reader, "block_configs", reader.tables("block_configs"), size.layers)
    blocks = [
        (*_nas_attention(reader, table, size.hidden), *_nas_ffn(table, size.hidden))
        for table in tables
    ]
    reader.expect("attention_bias", False)
    reader.expect("mlp_bias", False)
    return finished(reader, size, LLAMA, blocks)


def _nas_attention(reader: Reader, block: Reader, hidden: int) -> tuple[Attention, ...]:
    inner = block.section("attention")
    for key in ("replace_with_linear", "unshifted_sink", "use_prefill_window_in_sink_attention"):
        inner.expect(key, False)
    for key in ("window_length", "num_sink_tokens", "sparsify"):
        inner.expect(key, None)
    if inner.flag("no_op", False):
        inner.skip("n_heads_in_group")
        return ()
    query, group = reader.count("num_attention_heads"), inner.count("n_heads_in_group")
    dim = divided(reader, hidden, query)
    return (gqa(checked(reader, Heads(query, query // group, dim)), hidden),)


def _nas_ffn(block: Reader, hidden: int) -> tuple[Ffn, ...]:
    """The width is 2/3 of so many hidden, rounded up to 256."""
    inner = block.section("ffn")
    inner.expect("replace_with_linear", False)
    inner.expect("sparsify", None)
    if inner.flag("no_op", False):
        inner.skip("ffn_mult")
        return ()
    width = int(2 * inner.real("ffn_mult") * hidden / 3)
    width = -(-width // 256) * 256
    return (dense(width, hidden),)


FAMILIES: dict[str, Callable[[Reader], Model]] = {
    "deci": nemotron_nas,
    "nemotron-nas": nemotron_nas,
}
"""The reader of each `model_type`."""
