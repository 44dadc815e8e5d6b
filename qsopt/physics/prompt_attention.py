"""One layer's attention over prompts that are read in chunks, as work for the roofline.

Latent attention runs in the cheaper of two ways: on expanded keys and values, with one product that
makes them and, for every chunk, another that expands the cached latents again; or on the latents as
decode does, which costs 3.4 times the arithmetic of a pair (DeepSeek-V3) and no expansion. Below
about 171 tokens a chunk, and where an indexer selects few tokens of a long prompt, the second is
cheaper.
"""

from typing import NamedTuple

import equinox as eqx

from qsopt import xp
from qsopt.arrays import Scalar, Softness
from qsopt.physics import chunks, layer_weights, operators
from qsopt.physics.chunks import Chunk, runs
from qsopt.physics.roofline import Cost, Work
from qsopt.record import Record
from qsopt.spec.deployment import Deployment
from qsopt.spec.efficiency import Efficiency, OperatorEfficiency
from qsopt.spec.formats import ARITHMETICS
from qsopt.spec.hardware import Accelerator
from qsopt.spec.layers import Attention, Gqa, LinearAttention, Mla
from qsopt.spec.model import Model

Named = tuple[str, Work]
"""The operator of a breakdown, and some of its work."""


class Reader(Record):
    """What the attention of a chunk needs to know."""

    model: Model
    accelerator: Accelerator
    chunk: Chunk
    encoder: Scalar
    """Tokens that cross-attention sees [tokens]."""
    deployment: Deployment
    efficiency: Efficiency
    softness: Softness

    @property
    def tokens(self) -> Scalar:
        """Prompt tokens of one attention rank."""
        return self.chunk.tokens / self.deployment.data

    @property
    def element(self) -> Scalar:
        """Of the cache [byte]."""
        return self.model.precision.kv_cache.bytes

    def core(self, cost: Cost, kind: OperatorEfficiency, count: Scalar) -> Named:
        """Scores and sums, in bf16 whatever the cache is stored in."""
        peak, form = self.accelerator.peak_flops[0], self.model.precision.kv_cache
        batch = xp.maximum(self.tokens, 1.0)
        return "attention core", Work(cost, kind.of(form), peak, count, batch=batch)

    def product(self, cost: Cost, rows: Scalar, count: Scalar) -> Named:
        """A product with the weights of attention."""
        form = self.model.precision.attention
        peak, kind = self.accelerator.peak(form), self.efficiency.gemm.of(form)
        return "attention projections", Work(cost, kind, peak, count, xp.maximum(rows, 1.0))


class Works(NamedTuple):
    """Work of one kind of layer."""

    fixed: tuple[Named, ...]
    """What is done in any case."""
    either: tuple[Named, ...] = ()
    """One of two ways; empty where there is only one."""
    other: tuple[Named, ...] = ()


def attention(reader: Reader, kind: Attention, count: Scalar) -> Works:
    """Attention of `count` layers of a kind, apart from the projections that all tokens share."""
    data, tensor = reader.deployment.data, reader.deployment.tensor
    if isinstance(kind, LinearAttention):
        cost = chunks.state_update(kind, reader.chunk, data, tensor)
        return Works((reader.core(cost, reader.efficiency.linear, count),))
    selection = _indexer(reader, kind, count)
    if isinstance(kind, Mla):
        return Works((selection,), _absorbed(reader, kind, count), _expanded(reader, kind, count))
    cost = _softmax_cost(reader, kind)
    return Works((reader.core(cost, reader.efficiency.prefill_attention, count), selection))


def _indexer(reader: Reader, kind: Gqa | Mla, count: Scalar) -> Named:
    """Selection of the tokens that sparse attention sees, in fp8 (DeepSeek-V3.2)."""
    cost = chunks.indexer(kind, reader.chunk, reader.deployment.data)
    name, work = reader.core(cost, reader.efficiency.mla, count)
    peak = reader.accelerator.peak_flops[ARITHMETICS.index("fp8")]
    return name, eqx.tree_at(lambda w: w.peak, work, peak)


def _softmax_cost(reader: Reader, kind: Gqa) -> Cost:
    return chunks.softmax_core(
        kind,
        reader.chunk,
        reader.encoder,
        reader.element,
        reader.deployment.data,
        reader.deployment.tensor,
        reader.model.precision.activation_bytes,
        reader.softness,
    )


def _absorbed(reader: Reader, kind: Mla, count: Scalar) -> tuple[Named, ...]:
    data, tensor = reader.deployment.data, reader.deployment.tensor
    cost = chunks.absorbed_core(kind, reader.chunk, reader.element, data, tensor)
    gemms = layer_weights.absorbed_projections(kind, tensor)
    core = reader.core(cost, reader.efficiency.mla, count)
    return _projected(reader, gemms, count), core


def _expanded(reader: Reader, kind: Mla, count: Scalar) -> tuple[Named, ...]:
    data, tensor = reader.deployment.data, reader.deployment.tensor
    gemm = layer_weights.expanded_projection(kind, tensor)
    activation = reader.model.precision.activation_bytes
    again = chunks.expansion(kind, reader.chunk, data, tensor, activation)
    weights = xp.where(gemm.weights > 0, gemm.weights, 1.0)
    rows = again.flops / (2.0 * weights)
    cost = chunks.expanded_core(kind, reader.chunk, reader.element, data, tensor, activation)
    core = reader.core(cost, reader.efficiency.prefill_mla, count)
    return _projected(reader, (gemm,), count), reader.product(again, rows, count), core


def _projected(reader: Reader, gemms: tuple[layer_weights.Gemm, ...], count: Scalar) -> Named:
    """Products of the chunk's own latents; nothing where no prompt is read."""
    form, activation = reader.model.precision.attention, reader.model.precision.activation_bytes
    cost = operators.products(gemms, reader.tokens, form.bytes, activation)
    return reader.product(cost.times(runs(reader.tokens)), reader.tokens, count)
