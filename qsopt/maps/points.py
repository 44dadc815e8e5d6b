"""Points of a map: the cluster, the workload and what else each of them changes.

Every point states every number, changed or not, so all kinds of maps share one compiled function.
Efficiencies and rules are those of the map.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qsopt.arrays import Scalar, number
from qsopt.comparison.dense import MatchKind, match_shape
from qsopt.comparison.shapes import DenseShape
from qsopt.deployments.capped import NO_CAP, ServedModel
from qsopt.errors import InputError
from qsopt.physics.parameters import compiled_parameter_count, parameter_count
from qsopt.programs import compiled
from qsopt.serving.trials import Asked
from qsopt.spec.hardware import Cluster
from qsopt.spec.layers import Layers, MoeFfn, map_ffn
from qsopt.spec.model import Model, routed_layers
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload


class MapPoint(eqx.Module):
    """A point of a map; with arrays [x, y] for numbers, all of them."""

    cluster: Cluster
    """Of the service there."""
    workload: Workload
    """Of the service there."""
    cap: Scalar = number(NO_CAP)
    """Sequences that may decode at once in the whole cluster."""
    top_k_factor: Scalar = number(1.0)
    """Factor on the experts that a token of the MoE uses."""
    shape: DenseShape = DenseShape(0.0, 0.0, 0.0, 0.0)
    """Of the dense match, where it is made for the MoE."""


SERVICE_NUMBERS: dict[str, Callable[[Service | MapPoint | Asked], Scalar]] = {
    "context": lambda at: at.workload.context,
    "tpot": lambda at: at.workload.tpot_limit,
    "devices": lambda at: at.cluster.devices,
    "bandwidth": lambda at: at.cluster.accelerator.bandwidth,
    "capacity": lambda at: at.cluster.accelerator.memory_bytes,
    "scale_up": lambda at: at.cluster.accelerator.scale_up_bandwidth,
    "scale_out": lambda at: at.cluster.accelerator.scale_out_bandwidth,
    "domain": lambda at: at.cluster.accelerator.scale_up_devices,
}
"""Numbers of a service that maps and crossovers move, by the name of the axis."""


REQUEST_NUMBERS: dict[str, Callable[[Service | Asked], Scalar]] = {
    "prompt": lambda at: at.workload.prompt,
    "answer": lambda at: at.workload.answer,
    "cached": lambda at: at.workload.cached,
    "ttft": lambda at: at.workload.ttft_limit,
    "load": lambda at: at.workload.load,
    "acceptance": lambda at: at.workload.acceptance,
}
"""Numbers of whole requests that maps and crossovers move."""

NUMBERS = SERVICE_NUMBERS | REQUEST_NUMBERS
"""All of them."""


def point_grid(
    service: Service,
    cap: float | None,
    shape: tuple[int, int],
    changes: Iterable[tuple[Callable[[MapPoint], Scalar] | None, Float[np.ndarray, "x y"]]],
) -> MapPoint:
    """The points of a map, every number an array that begins with [x, y].

    Args:
        service: what no axis changes.
        cap: sequences that may decode at once in the whole cluster; as many as fit if None.
        shape: points along both axes.
        changes: numbers of a point, and their values at all points; those of None are left out.
    """
    point = MapPoint(service.cluster, service.workload, NO_CAP if cap is None else cap)
    points = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (*shape, *np.shape(leaf))), point)
    for number_of, values in changes:
        if number_of is not None:
            points = eqx.tree_at(number_of, points, values)
    return points


def served_at(side: Model, service: Service, point: MapPoint) -> ServedModel:
    """A side of the comparison, and what it is deployed for at a point."""
    moved = point.cluster, point.workload
    return ServedModel(
        side, eqx.tree_at(lambda s: (s.cluster, s.workload), service, moved), point.cap
    )


def with_top_k_factor(model: Model, factor: Scalar) -> Model:
    """The model with so many times the experts per token in all routed layers; its total does not
    change.
    """

    def changed(layers: Layers) -> Layers:
        if not isinstance(layers.kind, MoeFfn):
            return layers
        return eqx.tree_at(lambda group: group.kind.top_k, layers, layers.kind.top_k * factor)

    return map_ffn(model, changed)


@dataclass(frozen=True)
class Sparsity:
    """How s = N_active / N_total of an MoE follows the experts per token, at fixed total
    parameters: a straight line.
    """

    own: float
    """s of the model as it is."""
    slope: float
    """ds over the factor on the experts per token."""
    top_k: float
    """Experts per token of the model as it is."""
    experts: float
    """Routed experts of a layer."""

    @classmethod
    def from_model(cls, model: Model) -> "Sparsity":
        """The line of an MoE.

        Raises:
            InputError: if the model is dense.
        """
        purpose = "a map compares a Mixture-of-Experts model with its dense twin"
        moe = routed_layers(model, purpose)
        count = compiled_parameter_count(model)
        total = float(count.total)
        return cls(
            float(count.active) / total,
            float(count.routed_active) / total,
            float(moe.top_k),
            float(moe.experts),
        )

    def at(self, top_k: float) -> float:
        """s with so many experts per token, real."""
        return self.at_factor(top_k / self.top_k)

    def at_factor(self, factor: Scalar) -> Scalar:
        """s with so many times the experts per token."""
        return self.own + self.slope * (factor - 1.0)

    def factors(self, shares: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Factors on the experts per token that make these s.

        Raises:
            InputError: if one is outside one expert to all of them.
        """
        low, high = self.at(1.0), self.at(self.experts)
        if shares.min() < low * (1.0 - 1e-9) or shares.max() > high * (1.0 + 1e-9):
            raise InputError(
                f"sparsity from {shares.min():.4g} to {shares.max():.4g}: with 1 to "
                f"{self.experts:g} experts per token s lies between {low:.4g} and {high:.4g}"
            )
        factors = (shares - self.own) / self.slope + 1.0
        return np.clip(factors, 1.0 / self.top_k, self.experts / self.top_k)


@partial(compiled, static=("kind",))
def match_shapes(
    model: Model, factors: Float[Array, " n"], qs: Float[Array, " n"], kind: MatchKind
) -> DenseShape:
    """Shapes of the exact matches of the model with so many times the experts per token, by q."""

    def shape(factor: Scalar, q: Scalar) -> DenseShape:
        changed = with_top_k_factor(model, factor)
        return match_shape(changed, q * parameter_count(changed).active, kind)

    return jax.vmap(shape)(jnp.asarray(factors), jnp.asarray(qs))
