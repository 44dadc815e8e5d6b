"""Time of one layer's attention over prompts that are read in chunks.

Latent attention runs in the cheaper of two ways: on expanded keys and values, with one product more
that makes them and the cached latents expanded again for every chunk, or on the latents as decode
does, which costs 3.4 times the arithmetic of a pair (DeepSeek-V3) and no expansion. Below about 171
tokens a chunk, and where an indexer selects few tokens of a long prompt, the second is cheaper.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from qsopt.arrays import Scalar
from qsopt.physics import accounting, chunks, operators, smooth
from qsopt.physics.chunks import Chunk
from qsopt.physics.roofline import Cost, Spent, roofline
from qsopt.spec.deployment import Deployment
from qsopt.spec.efficiency import Efficiency, OperatorEfficiency
from qsopt.spec.hardware import Accelerator
from qsopt.spec.model import Attention, Gqa, LinearAttention, Mla, Model


class Reader(eqx.Module):
    """What the attention of a chunk needs to know."""

    model: Model
    accelerator: Accelerator
    chunk: Chunk
    encoder: Scalar
    """Tokens that cross-attention sees [tokens]."""
    deployment: Deployment
    efficiency: Efficiency
    softness: Scalar | float

    @property
    def tokens(self) -> Scalar:
        """Prompt tokens of one attention rank."""
        return self.chunk.tokens / self.deployment.data

    @property
    def element(self) -> Scalar:
        """Of the cache [byte]."""
        return self.model.precision.kv_cache.bytes

    def core(self, cost: Cost, kind: OperatorEfficiency) -> Spent:
        """Scores and sums, in bf16 whatever the cache is stored in."""
        return self._timed(
            cost,
            self.accelerator.peak_flops[0],
            kind.of(self.model.precision.kv_cache),
            batch=jnp.maximum(self.tokens, 1.0),
        )

    def product(self, cost: Cost, rows: Scalar) -> Spent:
        """A product with the weights of attention."""
        form = self.model.precision.attention
        peak, kind = self.accelerator.peak(form), self.efficiency.gemm.of(form)
        return self._timed(cost, peak, kind, rows=jnp.maximum(rows, 1.0))

    def _timed(
        self,
        cost: Cost,
        peak: Scalar,
        kind: OperatorEfficiency,
        rows: Scalar | float = 1.0,
        batch: Scalar | float = 1.0,
    ) -> Spent:
        bandwidth = self.accelerator.bandwidth
        return roofline(cost, peak, bandwidth, kind, self.softness, rows, batch)


class Layer(NamedTuple):
    """One layer's attention over prompts."""

    projections: Spent
    """Products beyond those that all tokens share."""
    core: Spent
    """Scores and sums."""


def attention(reader: Reader, kind: Attention) -> Layer:
    """Time of one layer of a kind."""
    if isinstance(kind, Mla):
        return _latent(reader, kind)
    data, tensor = reader.deployment.data, reader.deployment.tensor
    if isinstance(kind, LinearAttention):
        core = reader.core(
            chunks.state_update(kind, reader.chunk, data, tensor), reader.efficiency.linear
        )
    else:
        core = _softmax(reader, kind)
    return Layer(core.times(0.0), core)


def _softmax(reader: Reader, kind: Gqa) -> Spent:
    cost = chunks.softmax_core(
        kind,
        reader.chunk,
        reader.encoder,
        reader.element,
        reader.deployment.data,
        reader.deployment.tensor,
        reader.softness,
    )
    return reader.core(cost, reader.efficiency.prefill_attention)


def _latent(reader: Reader, kind: Mla) -> Layer:
    """The cheaper way, and the indexer of either."""
    scores = chunks.indexer(kind, reader.chunk, reader.element, reader.deployment.data)
    selected = reader.core(scores, reader.efficiency.mla)
    best = cheaper(_absorbed(reader, kind), _expanded(reader, kind), reader.softness)
    return Layer(best.projections, best.core + selected)


def _absorbed(reader: Reader, kind: Mla) -> Layer:
    cost = _latent_cost(reader, kind, absorbed=True)
    gemms = accounting.absorbed_projections(kind, reader.deployment.tensor)
    return Layer(_projected(reader, gemms), reader.core(cost, reader.efficiency.mla))


def _expanded(reader: Reader, kind: Mla) -> Layer:
    cost = _latent_cost(reader, kind, absorbed=False)
    tensor = reader.deployment.tensor
    activation = reader.model.precision.activation_bytes
    again = chunks.expansion(kind, reader.chunk, reader.deployment.data, tensor, activation)
    rows = again.flops / (2.0 * accounting.expanded_projection(kind, tensor).weights)
    made = _projected(reader, (accounting.expanded_projection(kind, tensor),))
    return Layer(
        made + reader.product(again, rows), reader.core(cost, reader.efficiency.prefill_mla)
    )


def _latent_cost(reader: Reader, kind: Mla, absorbed: bool) -> Cost:
    data, tensor = reader.deployment.data, reader.deployment.tensor
    return chunks.latent_core(kind, reader.chunk, absorbed, reader.element, data, tensor)


def _projected(reader: Reader, gemms: tuple[accounting.Gemm, ...]) -> Spent:
    """Products of the chunk's own latents; nothing where no prompt is read."""
    form, activation = reader.model.precision.attention, reader.model.precision.activation_bytes
    cost = operators.products(gemms, reader.tokens, form.bytes, activation)
    return reader.product(cost, reader.tokens).times(chunks.runs(reader.tokens))


def cheaper(one: Layer, other: Layer, softness: Scalar | float) -> Layer:
    """The faster of two ways; relaxed, its time is a smooth minimum of both."""
    first, second = (way.projections.seconds + way.core.seconds for way in (one, other))
    chosen = jax.tree.map(lambda a, b: jnp.where(first <= second, a, b), one, other)
    least, exact = smooth.minimum(first, second, softness), jnp.minimum(first, second)
    share = jnp.where(exact > 0, least / jnp.where(exact > 0, exact, 1.0), 1.0)
    return Layer(*(part.times(share) for part in chosen))
