"""The dense side's own optimum: throughput of the match of any size in its best deployment.

All architectures of a search share attention, layers and vocabulary, so their matches of one kind
differ in size only: one curve. Each of its points is an exact optimum over all legal layouts; the
relaxed search interpolates it. Matches in the MoE's body may be of any real width; in released
shape they are whole, as only whole heads and layers can be split.
"""

from dataclasses import dataclass, field
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qsopt.arrays import Scalar, number
from qsopt.comparison.dense import SAME_BODY, MatchKind, match_shape, with_sizes
from qsopt.comparison.shapes import DenseShape
from qsopt.comparison.twin import aligned
from qsopt.deployments.batches import in_numpy, length, repeat, same_length, take
from qsopt.deployments.capped import BATCH, ServedModel, best_throughputs
from qsopt.deployments.layouts import layouts_of_any
from qsopt.programs import compiled
from qsopt.record import Record
from qsopt.spec.model import Model
from qsopt.spec.service import Service

POINTS = 3 * BATCH
"""Of the curve, and `BATCH` more where it ends."""

Sizes = Float[np.ndarray, " n"]
"""Of dense matches [parameters]."""


class Curve(Record):
    """Log throughput of the best dense deployment over log size."""

    log_size: Float[Array, " points"]
    log_throughput: Float[Array, " points"]
    """Of a match that fits nowhere, that of the nearest which fits."""
    largest: Scalar = number()
    """Size of the largest that fits; 1 if none does [parameters]."""

    def at(self, size: Array) -> Array:
        """Interpolated, constant beyond the ends."""
        return jnp.interp(jnp.log(size), self.log_size, self.log_throughput)


@dataclass
class DenseSide:
    """Exact optima of matches, each computed once."""

    reference: Model
    service: Service
    kind: MatchKind = SAME_BODY
    """Which matches."""
    known: dict[tuple[float, ...], float] = field(default_factory=dict)
    """Throughput by shape, of those asked for so far."""
    evaluations: int = 0
    """Matches scored so far, each once in every layout."""

    def throughputs(self, sizes: Sizes) -> Float[np.ndarray, " n"]:
        """Of matches of these sizes, 0 where none fits [tokens/s]."""
        return self._throughputs(self._shapes(sizes, exact=self.kind != SAME_BODY))

    def exact_throughputs(self, sizes: Sizes) -> Float[np.ndarray, " n"]:
        """The same, all of them whole [tokens/s]."""
        return self._throughputs(self._shapes(sizes, exact=True))

    def _shapes(self, sizes: Sizes, exact: bool) -> DenseShape:
        return in_numpy(_shapes(self.reference, np.asarray(sizes, float), self.kind, exact))

    def _throughputs(self, shapes: DenseShape) -> Float[np.ndarray, " n"]:
        keys = list(zip(*(leaf.tolist() for leaf in jax.tree.leaves(shapes)), strict=True))
        places = {key: place for place, key in enumerate(keys) if key not in self.known}
        if places:
            missing = take(shapes, sorted(places.values()))
            optima = self._optima(in_numpy(_matches(self.reference, missing, self.kind)))
            rows = [keys[place] for place in sorted(places.values())]
            self.known |= dict(zip(rows, map(float, optima), strict=True))
        return np.array([self.known[key] for key in keys])

    def _optima(self, matches: Model) -> Float[np.ndarray, " n"]:
        """Throughputs of a batch of matches in their best layouts."""
        count, service = length(matches), self.service
        models = [take(matches, place) for place in range(count)]
        (layouts,) = same_length(layouts_of_any(models, service.cluster, service.rules))
        self.evaluations += count * length(layouts)
        case = repeat(ServedModel(self.reference, service), count)
        return best_throughputs(ServedModel(matches, case.service, case.cap), layouts)

    def curve(self, low: float, high: float) -> Curve:
        """The curve between two sizes; larger matches need more memory and time, so those that fit
        are the smaller ones.
        """
        sizes = np.geomspace(low, max(high, low * 1.01), POINTS)
        # more points between the largest that fits and the next, where the curve ends
        fitting = np.flatnonzero(self.throughputs(sizes) > 0)
        last = min(fitting[-1] + 1 if fitting.size else 1, POINTS - 1)
        finer = np.geomspace(sizes[last - 1], sizes[last], BATCH + 2)[1:-1]
        sizes = np.sort(np.concatenate([sizes, finer]))
        throughputs = self.throughputs(sizes)
        fits, at = throughputs > 0, np.log(sizes)
        if not fits.any():
            return Curve(at, np.zeros(len(sizes)), np.asarray(1.0))  # pyright: ignore[reportArgumentType]
        logs = np.interp(at, at[fits], np.log(throughputs[fits]))
        return Curve(at, logs, sizes[fits][-1])  # pyright: ignore[reportArgumentType]


@partial(compiled, static=("kind", "exact"))
def _shapes(
    reference: Model, sizes: Float[Array, " n"], kind: MatchKind, exact: bool
) -> DenseShape:
    """Shapes of matches; a width of at least 1 where the sizes leave none."""

    def shape(size: Scalar) -> DenseShape:
        found = match_shape(reference, size, kind, exact=exact)
        wide = eqx.tree_at(lambda s: s.width, found, jnp.maximum(found.width, 1.0))
        return jax.tree.map(jnp.asarray, wide)

    return jax.vmap(shape)(jnp.asarray(sizes))


@partial(compiled, static=("kind",))
def _matches(reference: Model, shapes: DenseShape, kind: MatchKind) -> Model:
    """Matches of several shapes, in the structure of the MoE."""
    return jax.vmap(lambda shape: aligned(with_sizes(reference, shape, kind), reference))(shapes)
