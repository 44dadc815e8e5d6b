"""From what a user asks of a deployment to a legal one: some sizes given, others not.

Sizes left out are 1, except the expert parallel size: the most of the stage's devices that divides
the experts. With no size given the best legal layout is taken, and with no batch the largest that
fits. Where the way of the experts' communication is left open, the faster one is taken.
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qsopt.arrays import Scalar
from qsopt.deployments.batches import in_numpy, length, take
from qsopt.deployments.best import Best, pick
from qsopt.deployments.layouts import layout_batch, legal_layouts
from qsopt.deployments.legality import fills_units, legality, splits_experts, with_places
from qsopt.deployments.once import best_of_one
from qsopt.deployments.sizes import cache_shares, expert_sizes, tensor_sizes, whole
from qsopt.errors import InputError, exactly
from qsopt.physics.evaluate import Metrics, compiled_metrics, metrics
from qsopt.programs import compiled
from qsopt.spec.deployment import DISPATCHED, GATHERED, PARALLEL_SIZES, Deployment
from qsopt.spec.hardware import Cluster
from qsopt.spec.model import Model
from qsopt.spec.rules import LayoutRules
from qsopt.spec.service import Service

SHORT = {field: short for short, field in PARALLEL_SIZES.items()}
"""Short names of the parallel sizes."""

MOST = 2**31
"""No parallel size or batch is larger."""


@dataclass(frozen=True)
class Request:
    """What is asked for; None is left open."""

    tensor: float | None = None
    data: float | None = None
    pipeline: float | None = None
    expert: float | None = None
    expert_tensor: float | None = None
    batch: float | None = None
    dispatched: float | None = None

    @property
    def names_layout(self) -> bool:
        """Whether any parallel size is given."""
        return any(
            size is not None
            for size in (self.tensor, self.data, self.pipeline, self.expert, self.expert_tensor)
        )


@dataclass(frozen=True)
class Resolved:
    """A legal deployment, and how it came about."""

    deployment: Deployment
    chosen: str
    """`as given`, or what was chosen by qsopt."""


def resolve(model: Model, service: Service, request: Request) -> Resolved:
    """The legal deployment that a request stands for.

    Where no legal layout keeps the limits, it is the one that comes closest to fitting, at its
    smallest batch.

    Raises:
        InputError: if a size is illegal for this model and cluster.
    """
    layouts = open_layouts(model, service, request)
    opened = [] if request.names_layout else ["best legal layout"]
    if request.batch is None:
        best = best_batch(model, service, layouts)
        opened.append("largest batch that keeps the limits")
    elif request.names_layout:
        best = _faster_way(model, service, at_batch(layouts, request.batch))
    else:
        best = best_at(model, service, at_batch(layouts, request.batch))
    if not bool(best.feasible) and (request.batch is None or not request.names_layout):
        best = closest(
            model, service, layouts if request.batch is None else at_batch(layouts, request.batch)
        )
        opened = ["closest to fitting: no legal layout keeps the limits"]
    return Resolved(best.deployment, ", ".join(opened) or "as given")


def open_layouts(model: Model, service: Service, request: Request) -> Deployment:
    """The legal layouts that a request leaves open, batch aside.

    Raises:
        InputError: if a size is illegal for this model and cluster.
    """
    if request.names_layout:
        layouts = _given(model, service, request)
    else:
        layouts = legal_layouts(model, service.cluster, service.rules)
    return layouts if request.dispatched is None else _of_way(layouts, request.dispatched)


def _faster_way(model: Model, service: Service, designs: Deployment) -> Best:
    """The best of the few ways of one layout, by the function that evaluates single designs, which
    is compiled anyway.
    """
    ways = []
    for design in (take(designs, index) for index in range(length(designs))):
        result = in_numpy(compiled_metrics(model, service, design))
        ways.append(Best(design, result.throughput, result.feasible))
    return max(ways, key=lambda best: (bool(best.feasible), float(best.throughput)))


def best_batch(model: Model, service: Service, layouts: Deployment) -> Best:
    """The best of several layouts, each at its largest admissible batch."""
    return best_of_one(model, service, layouts)


@compiled
def best_at(model: Model, service: Service, designs: Deployment) -> Best:
    """The best of several designs at the batch that they have."""

    def scored(design: Deployment) -> Best:
        result = metrics(model, service, design)
        return Best(design, jnp.where(result.feasible, result.throughput, 0.0), result.feasible)

    return pick(jax.vmap(scored)(designs))


@compiled
def closest(model: Model, service: Service, designs: Deployment) -> Best:
    """The design whose `excess` is least."""

    def closeness(design: Deployment) -> Best:
        result = metrics(model, service, design)
        return Best(design, 1.0 / excess(result, service), result.feasible)

    return pick(jax.vmap(closeness)(designs))


def excess(result: Metrics, service: Service) -> Scalar:
    """The larger of memory over capacity and TPOT over its limit; above 1 a limit is broken."""
    memory = result.memory.total / result.memory.capacity
    return jnp.maximum(memory, result.tpot / service.workload.tpot_limit)


def at_batch(layouts: Deployment, batch: float) -> Deployment:
    """The layouts of which `batch` sequences fill all stages and data ranks, at that batch."""
    if not 0 < batch <= MOST:
        raise InputError(
            f"batch = {exactly(batch)}: give the sequences that decode at once, 1 or more"
        )
    legal = np.asarray(fills_units(layouts, batch))
    if not legal.any():
        unit = float(np.min(layouts.pipeline * layouts.data))
        near = sorted({max(unit, batch // unit * unit), (batch // unit + 1) * unit})
        raise InputError(
            f"batch = {exactly(batch)} is no multiple of pp * dp = {exactly(unit)}, so stages "
            "or ranks would "
            f"differ; take {' or '.join(f'{value:g}' for value in near)}"
        )
    kept = take(layouts, legal)
    return eqx.tree_at(lambda layout: layout.batch, kept, np.full(int(legal.sum()), float(batch)))


def _of_way(layouts: Deployment, dispatched: float) -> Deployment:
    kept = np.asarray(layouts.dispatched) == dispatched
    if not kept.any():
        raise InputError(
            "way = dispatched needs an expert parallel size above 1; raise ep, or take way = "
            "gathered"
        )
    return take(layouts, kept)


def _given(model: Model, service: Service, request: Request) -> Deployment:
    """The layout that a request names, once for each way that it leaves open; the cache is shared
    only where the rules say by how many.
    """
    tensor, data, pipeline = (
        _size(name, getattr(request, name)) for name in ("tensor", "data", "pipeline")
    )
    dcp, rules = service.rules.dcp or 1, service.rules
    check_sizes(model, service.cluster, Deployment(tensor, data, pipeline, dcp=dcp))
    expert = _expert_size(model, tensor * data, request, rules)
    ways = (GATHERED, DISPATCHED) if expert > 1 else (GATHERED,)
    layouts = layout_batch([(tensor, data, pipeline, expert, way, dcp) for way in ways])
    return with_places(model, layouts, rules)


def _size(name: str, value: float | None) -> int:
    """A parallel size as a whole number; 1 where it is left out."""
    if value is None:
        return 1
    if not (1 <= value <= MOST and value == int(value)):
        raise InputError(
            f"{name} parallel size ({SHORT[name]}) = {exactly(value)}: give a whole number, 1 "
            "to the "
            f"cluster's devices"
        )
    return int(value)


def check_sizes(model: Model, cluster: Cluster, layout: Deployment) -> None:
    """Refuse sizes that attention cannot have here, whatever the experts have.

    Raises:
        InputError: naming the size and what would be legal.
    """
    kept, devices = legality(model, cluster, layout), int(cluster.devices)
    if not kept.devices:
        raise InputError(
            f"tp * dp * pp = {float(layout.replica_devices):.6g} devices, but the cluster has "
            f"{devices}; make the sizes smaller or the cluster larger"
        )
    tensor, legal = int(layout.tensor), tensor_sizes(model, devices)
    if not kept.heads:
        raise InputError(
            f"tensor parallel size tp = {tensor} does not divide the attention heads evenly (nor "
            f"replicates KV heads evenly); legal here: {_listed(legal)}"
        )
    if not kept.stages:
        layers = whole(model.layers, "layers")
        raise InputError(
            f"pipeline stages pp = {int(layout.pipeline)} exceed the {layers} layers; take at "
            f"most {layers} stages"
        )
    if not kept.cache:
        raise InputError(
            f"decode context parallel size dcp = {int(layout.dcp)} must divide the copies of the "
            f"cache in a tensor group of {tensor}; legal here: "
            f"{_listed(cache_shares(model, tensor))}"
        )


def _listed(sizes: list[int]) -> str:
    return ", ".join(map(str, sizes))


def _expert_size(model: Model, stage: int, request: Request, rules: LayoutRules) -> int:
    """The expert parallel size asked for, or the largest that divides the experts; expert *
    expert_tensor = tensor * data.
    """
    legal = expert_sizes(model, stage, rules)
    if request.expert is None and request.expert_tensor is None:
        return max(size for size in legal if splits_experts(model, np.asarray(float(size))))
    split = _size("expert_tensor", request.expert_tensor)
    expert = _size("expert", request.expert) if request.expert is not None else stage // split
    if request.expert_tensor is not None and expert * split != stage:
        raise InputError(
            f"tp * dp = {stage} but ep * etp = {expert * split} ({expert} * {split}): attention "
            f"and experts share the same devices; make the products equal, or leave etp out"
        )
    if expert not in legal:
        raise InputError(
            f"expert parallel size ep = {expert} must divide tp * dp = {stage} and, without "
            f"redundant experts, the number of experts; legal here: {_listed(legal)}"
        )
    return expert
