"""One point of a map as numbers: what it changes in the model, the cluster and the workload.

Every point states every number, changed or not, so all kinds of maps share one compiled function.
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qsopt.arrays import Scalar, number
from qsopt.comparison.twin import dense_twin, with_dense_ffn
from qsopt.deployments.capped import NO_CAP, ServedModel
from qsopt.errors import InputError
from qsopt.physics.accounting import compiled_parameter_count
from qsopt.spec.model import Layers, Model, MoeFfn, map_ffn, moe_layers
from qsopt.spec.service import Service


class Condition(eqx.Module):
    """The numbers of a point."""

    context: Scalar = number()
    """Tokens in the KV cache of a sequence [tokens]."""
    batch: Scalar = number()
    """Sequences that may decode at once in the whole cluster."""
    devices: Scalar = number()
    """Devices in the cluster."""
    bandwidth: Scalar = number()
    """Of a device's memory [byte/s]."""
    capacity: Scalar = number()
    """Memory of a device [byte]."""
    scale_up: Scalar = number()
    """Links inside a domain, per device and direction [byte/s]."""
    scale_out: Scalar = number()
    """Links between domains [byte/s]."""
    domain: Scalar = number()
    """Devices of a scale-up domain."""
    tpot: Scalar = number()
    """Longest time per output token [s]."""
    chosen: Scalar = number(1.0)
    """Factor on the experts that a token uses."""
    width: Scalar = number(0.0)
    """Feed-forward width of the dense twin."""


def condition_of(service: Service, batch: float | None = None) -> Condition:
    """The numbers of a service as it is.

    Args:
        service: cluster and workload.
        batch: sequences that may decode at once in the whole cluster; as many as fit if left out.
    """
    cluster, workload = service.cluster, service.workload
    accelerator = cluster.accelerator
    return Condition(
        context=workload.context,
        batch=NO_CAP if batch is None else batch,
        devices=cluster.devices,
        bandwidth=accelerator.bandwidth,
        capacity=accelerator.memory_bytes,
        scale_up=accelerator.scale_up_bandwidth,
        scale_out=accelerator.scale_out_bandwidth,
        domain=accelerator.scale_up_devices,
        tpot=workload.tpot_limit,
    )


def case_at(model: Model, service: Service, condition: Condition, dense: bool) -> ServedModel:
    """The MoE, or its dense twin, and what it is deployed for at a point."""
    side = with_dense_ffn(model, condition.width) if dense else with_chosen(model, condition.chosen)
    return ServedModel(side, _service_at(service, condition), condition.batch)


def _service_at(service: Service, condition: Condition) -> Service:
    def leaves(p: Service) -> tuple[Scalar, ...]:
        chip = p.cluster.accelerator
        links = chip.scale_up_bandwidth, chip.scale_out_bandwidth, chip.scale_up_devices
        return (
            p.workload.context,
            p.workload.tpot_limit,
            p.cluster.devices,
            chip.bandwidth,
            chip.memory_bytes,
            *links,
        )

    at = condition
    numbers = (
        at.context,
        at.tpot,
        at.devices,
        at.bandwidth,
        at.capacity,
        at.scale_up,
        at.scale_out,
        at.domain,
    )
    return eqx.tree_at(leaves, service, numbers)


def with_chosen(model: Model, factor: Scalar) -> Model:
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
    experts: float

    @classmethod
    def of(cls, model: Model) -> "Sparsity":
        """Of an MoE.

        Raises:
            InputError: if the model is dense.
        """
        moe = moe_layers(model)
        if moe is None:
            raise InputError(
                "the model is dense: a map compares a Mixture-of-Experts model with its dense twin"
            )
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
        return self.own + self.slope * (top_k / self.top_k - 1.0)

    def factors(self, shares: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Factors on the experts per token that make these s.

        Raises:
            InputError: if one is outside one expert to all of them.
        """
        low, high = self.at(1.0), self.at(self.experts)
        if shares.min() < low * (1.0 - 1e-9) or shares.max() > high * (1.0 + 1e-9):
            raise InputError(
                f"sparsity from {shares.min():.4g} to {shares.max():.4g}: with 1 to "
                f"{self.experts:g} experts per token s lies "
                f"between {low:.4g} and {high:.4g}"
            )
        factors = (shares - self.own) / self.slope + 1.0
        return np.clip(factors, 1.0 / self.top_k, self.experts / self.top_k)


@jax.jit
def twin_widths(
    model: Model, factors: Float[Array, " n"], qs: Float[Array, " n"]
) -> Float[Array, " n"]:
    """Feed-forward widths of the exact twins of the model with so many times the experts per token,
    by q.
    """

    def width(factor: Scalar, q: Scalar) -> Scalar:
        return dense_twin(with_chosen(model, factor), q).decoder.ffn[0].kind.width

    return jax.vmap(width)(jnp.asarray(factors), jnp.asarray(qs))
