"""The dense side's own optimum: throughput of the twin of any size in its best deployment.

All architectures of a search share attention, layers and vocabulary, so their twins differ in the
width of the feed-forward layers only: one curve. Each of its points is an exact optimum over all
legal layouts; the relaxed search interpolates it.
"""

from dataclasses import dataclass, field

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qsopt.arrays import Scalar, number
from qsopt.comparison.twin import WIDTH_STEP, aligned, with_dense_ffn
from qsopt.deployments.batches import length, repeat, same_length
from qsopt.deployments.capped import BATCH, ServedModel, best_throughputs
from qsopt.deployments.layouts import legal_layouts
from qsopt.spec.model import Model
from qsopt.spec.service import Service

POINTS = 3 * BATCH
"""Of the curve, and `BATCH` more where it ends."""


class Curve(eqx.Module):
    """Log throughput of the best dense deployment over log width."""

    log_width: Float[Array, " points"]
    log_throughput: Float[Array, " points"]
    """Of a twin that fits nowhere, that of the widest which fits."""
    widest: Scalar = number()
    """Width of the widest that fits; 1 if none does."""

    def at(self, width: Array) -> Array:
        """Interpolated, constant beyond the ends."""
        return jnp.interp(jnp.log(jnp.maximum(width, 1.0)), self.log_width, self.log_throughput)


@dataclass
class DenseSide:
    """Exact optima of twins, each computed once."""

    reference: Model
    service: Service
    known: dict[float, float] = field(default_factory=dict)
    """Throughput by width, of those asked for so far."""
    evaluations: int = 0
    """Twins scored so far, each once in every layout."""

    def throughputs(self, widths: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Of twins of these widths, 0 where none fits [tokens/s]."""
        missing = np.array(sorted(set(map(float, widths)) - self.known.keys()))
        if missing.size:
            twin = with_dense_ffn(self.reference, missing[0])
            (layouts,) = same_length(legal_layouts(twin, self.service.cluster, self.service.rules))
            cases = eqx.tree_at(
                lambda c: c.model,
                repeat(ServedModel(twin, self.service), len(missing)),
                _twins(self.reference, missing),
            )
            self.evaluations += len(missing) * length(layouts)
            optima = best_throughputs(cases, layouts)
            self.known |= dict(zip(map(float, missing), map(float, optima), strict=True))
        return np.array([self.known[float(width)] for width in widths])

    def exact_throughputs(self, widths: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Of twins of these real widths, rounded as exact twins are [tokens/s]."""
        return self.throughputs(WIDTH_STEP * np.maximum(np.round(widths / WIDTH_STEP), 1.0))

    def curve(self, low: float, high: float) -> Curve:
        """The curve between two widths; wider twins need more memory and time, so those that fit
        are the narrower ones.
        """
        widths = np.geomspace(max(low, 1.0), max(high, low * 1.01, 2.0), POINTS)
        # more points between the widest that fits and the next, where the curve ends
        last = min(max(int(np.sum(self.throughputs(widths) > 0)), 1), POINTS - 1)
        finer = np.geomspace(widths[last - 1], widths[last], BATCH + 2)[1:-1]
        widths = np.sort(np.concatenate([widths, finer]))
        throughputs = self.throughputs(widths)
        fits = throughputs > 0
        if not fits.any():
            return Curve(np.log(widths), np.zeros(len(widths)), np.asarray(1.0))  # pyright: ignore[reportArgumentType]
        logs = np.log(np.where(fits, throughputs, throughputs[fits][-1]))
        return Curve(np.log(widths), logs, widths[fits][-1])  # pyright: ignore[reportArgumentType]


@jax.jit
def _twins(reference: Model, widths: Float[Array, " n"]) -> Model:
    """Twins of several widths, in the structure of the MoE."""
    return jax.vmap(lambda width: aligned(with_dense_ffn(reference, width), reference))(
        jnp.asarray(widths)
    )
