"""The usual variables of a search: where each may move around a reference."""

from collections.abc import Mapping

from qsopt.deployments.sizes import whole
from qsopt.errors import InputError
from qsopt.search.architecture import reference_value
from qsopt.search.variables import Variable
from qsopt.spec.hardware import Cluster
from qsopt.spec.layers import Gqa
from qsopt.spec.model import Model

LARGEST_BATCH = 2.0**24
"""Sequences of a replica that no search goes beyond."""

WIDTH_STEP = 128
"""Expert widths are multiples of this, or of the largest power of two that divides the reference's.
"""


def usual_variable(reference: Model, name: str) -> Variable:
    """An architecture variable within a factor of four of the reference.

    Raises:
        InputError: if the reference has no such thing.
    """
    value = reference_value(reference, name)
    if value <= 0:
        raise InputError(f"the reference has no {name}: leave it out of what varies")
    if name == "experts":
        return Variable(name, max(1.0, value / 4), 4 * value, step=max(1.0, value // 16))
    if name in ("top_k", "shared_experts"):
        return Variable(name, 1.0, 4 * value)
    if name == "kv_heads":
        kind = next(
            layers.kind for layers in reference.decoder.attention if isinstance(layers.kind, Gqa)
        )
        return Variable(name, 1.0, float(kind.heads), "divisor", float(kind.heads))
    if name == "layers":
        return Variable(name, max(1.0, value // 2), 2 * value)
    step = float(min(WIDTH_STEP, int(value) & -int(value)))
    return Variable(name, max(step, value / 4), 4 * value, step=step)


def usual_size(cluster: Cluster, reference: Model, name: str) -> Variable:
    """A variable of the deployment, as far as the cluster goes."""
    devices = float(cluster.devices)
    most = {"batch": LARGEST_BATCH, "pp": min(devices, 4.0 * whole(reference.layers, "layers"))}
    return Variable(name, 1.0, most.get(name, devices))


def fixed_variable(name: str, fixed: Mapping[str, float]) -> Variable:
    """A variable of the deployment that stays; at 1 where nothing is said."""
    value = float(fixed.get(name, 1.0))
    return Variable(name, value, value, free=False)
