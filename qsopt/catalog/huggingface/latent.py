"""Families with multi-head latent attention: DeepSeek-V2 and V3, V3.2 with its indexer, Kimi-K2,
GLM-5.
"""

from qsopt.catalog.huggingface.attention import indexed_mla, mla
from qsopt.catalog.huggingface.ffn import leading_dense
from qsopt.catalog.huggingface.layers import Sizes, decoder_model, sizes
from qsopt.catalog.huggingface.reader import Reader
from qsopt.spec.model import Mla, Model


def deepseek_v2(reader: Reader) -> Model:
    """DeepSeek-V2: softmax router without correction bias."""
    reader.expect("topk_method", "greedy", "group_limited_greedy")
    size = sizes(reader)
    return _latent(reader, size, mla(reader, size.hidden), router_bias=False)


def deepseek_v3(reader: Reader) -> Model:
    """DeepSeek-V3, R1 and Kimi-K2: the router has a correction bias."""
    reader.expect("topk_method", "noaux_tc")
    size = sizes(reader)
    return _latent(reader, size, mla(reader, size.hidden), router_bias=True)


def deepseek_v32(reader: Reader) -> Model:
    """DeepSeek-V3.2 and GLM-5: V3 with the sparse-attention indexer in every layer."""
    reader.expect("topk_method", "noaux_tc")
    size = sizes(reader)
    return _latent(reader, size, indexed_mla(reader, size.hidden), router_bias=True)


def _latent(reader: Reader, size: Sizes, attention: Mla, *, router_bias: bool) -> Model:
    ffn = leading_dense(reader, size, router_bias)
    return decoder_model(reader, size, [attention] * size.layers, ffn)
