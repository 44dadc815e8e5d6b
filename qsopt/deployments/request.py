"""From what a user asks of a deployment to a legal one: some sizes given, others not.

Sizes left out are 1, except the expert parallel size: the most of the stage's devices that divides
the experts. With no size given the best legal layout is taken, and with no batch the largest that
fits. Where the way of the experts' communication is left open, the faster one is taken.
"""

from dataclasses import dataclass
from operator import itemgetter

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qsopt.deployments.layouts import (
    cache_shares,
    expert_counts,
    expert_sizes,
    expert_splits,
    layout_batch,
    legal_layouts,
    tensor_sizes,
    whole,
)
from qsopt.deployments.optimum import Best, best_of_each, pick, repeated, same_length
from qsopt.errors import InputError
from qsopt.physics.evaluate import compiled_metrics, metrics
from qsopt.spec.deployment import DISPATCHED, GATHERED, Deployment
from qsopt.spec.hardware import Cluster
from qsopt.spec.model import Model
from qsopt.spec.rules import LayoutRules
from qsopt.spec.service import Service

SHORT = {"tensor": "tp", "data": "dp", "pipeline": "pp", "expert": "ep", "expert_tensor": "etp"}
"""Names of the parallel sizes on the command line."""

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
    layouts = (
        _given(model, service, request)
        if request.names_layout
        else legal_layouts(model, service.cluster, service.rules)
    )
    if request.dispatched is not None:
        layouts = _of_way(layouts, request.dispatched)
    opened = [] if request.names_layout else ["best legal layout"]
    if request.batch is None:
        best = best_batch(model, service, layouts)
        opened.append("largest batch that keeps the limits")
    elif request.names_layout:
        best = _faster_way(model, service, _at_batch(layouts, request.batch))
    else:
        best = best_at(model, service, _at_batch(layouts, request.batch))
    if not bool(best.feasible) and (request.batch is None or not request.names_layout):
        best = closest(
            model, service, layouts if request.batch is None else _at_batch(layouts, request.batch)
        )
        opened = ["closest to fitting: no legal layout keeps the limits"]
    return Resolved(best.deployment, ", ".join(opened) or "as given")


def _faster_way(model: Model, service: Service, designs: Deployment) -> Best:
    """The best of the few ways of one layout, by the function that evaluates single designs, which
    is compiled anyway.
    """
    found = []
    for index in range(designs.tensor.shape[0]):
        design = jax.tree.map(itemgetter(index), designs)
        reached = compiled_metrics(model, service, design)
        found.append(Best(design, reached.throughput, reached.feasible))
    return max(found, key=lambda best: (bool(best.feasible), float(best.throughput)))


def best_batch(model: Model, service: Service, layouts: Deployment) -> Best:
    """The best of several layouts, each at its largest admissible batch."""
    (filled,) = same_length(layouts)
    best = best_of_each(repeated(model, 1), service, filled)
    return jax.tree.map(lambda leaf: leaf[0], best)


@jax.jit
def best_at(model: Model, service: Service, designs: Deployment) -> Best:
    """The best of several designs at the batch that they have."""

    def scored(design: Deployment) -> Best:
        reached = metrics(model, service, design)
        return Best(design, jnp.where(reached.feasible, reached.throughput, 0.0), reached.feasible)

    return pick(jax.vmap(scored)(designs))


@jax.jit
def closest(model: Model, service: Service, designs: Deployment) -> Best:
    """The design whose worst excess, of memory over capacity or of TPOT over its limit, is
    least.
    """

    def excess(design: Deployment) -> Best:
        reached = metrics(model, service, design)
        worst = jnp.maximum(
            reached.memory.total / reached.memory.capacity,
            reached.tpot / service.workload.tpot_limit,
        )
        return Best(design, 1.0 / worst, reached.feasible)

    return pick(jax.vmap(excess)(designs))


def _at_batch(layouts: Deployment, batch: float) -> Deployment:
    """The layouts of which `batch` sequences fill all stages and data ranks, at that batch."""
    if not 0 < batch <= MOST:
        raise InputError(f"batch = {batch:g}: give the sequences that decode at once, 1 or more")
    units = np.asarray(layouts.pipeline * layouts.data)
    legal = np.asarray(batch % units == 0)
    if not legal.any():
        unit = float(units.min())
        near = sorted({max(unit, batch // unit * unit), (batch // unit + 1) * unit})
        raise InputError(
            f"batch = {batch:g} is no multiple of pp * dp = {unit:g}, so stages or ranks would "
            f"differ; "
            f"take {' or '.join(f'{value:g}' for value in near)}"
        )
    kept = jax.tree.map(lambda leaf: np.asarray(leaf)[legal], layouts)
    return eqx.tree_at(lambda layout: layout.batch, kept, np.full(int(legal.sum()), float(batch)))


def _of_way(layouts: Deployment, dispatched: float) -> Deployment:
    kept = np.asarray(layouts.dispatched) == dispatched
    if not kept.any():
        raise InputError(
            "way = dispatched needs an expert parallel size above 1; raise ep, or take way = "
            "gathered"
        )
    return jax.tree.map(lambda leaf: np.asarray(leaf)[kept], layouts)


def _given(model: Model, service: Service, request: Request) -> Deployment:
    """The layout that a request names, once for each way that it leaves open; the cache is shared
    only where the rules say by how many.
    """
    sizes = {name: _size(name, getattr(request, name)) for name in ("tensor", "data", "pipeline")}
    stage = sizes["tensor"] * sizes["data"]
    _check_attention(model, service.cluster, **sizes)
    dcp = _cache_share(model, sizes["tensor"], service.rules.dcp or 1)
    expert, slots = _expert_split(model, stage, request, service.rules)
    ways = (GATHERED, DISPATCHED) if expert > 1 else (GATHERED,)
    split = sizes["tensor"], sizes["data"], sizes["pipeline"], expert
    return layout_batch([(*split, way, dcp, slots) for way in ways])


def _cache_share(model: Model, tensor: int, dcp: int) -> int:
    legal = cache_shares(model, tensor)
    if dcp not in legal:
        raise InputError(
            f"decode context parallel size dcp = {dcp} must divide the copies of the cache in a "
            f"tensor group of {tensor}; legal here: {', '.join(map(str, legal))}"
        )
    return dcp


def _size(name: str, value: float | None) -> int:
    """A parallel size as a whole number; 1 where it is left out."""
    if value is None:
        return 1
    if not (1 <= value <= MOST and value == int(value)):
        raise InputError(
            f"{name} parallel size ({SHORT[name]}) = {value:g}: give a whole number, 1 to the "
            f"cluster's devices"
        )
    return int(value)


def _check_attention(model: Model, cluster: Cluster, tensor: int, data: int, pipeline: int) -> None:
    devices, replica = int(cluster.devices), tensor * data * pipeline
    if replica > devices:
        raise InputError(
            f"tp * dp * pp = {replica:.6g} devices, but the cluster has {devices}; make the sizes "
            f"smaller or the cluster larger"
        )
    legal = tensor_sizes(model, devices)
    if tensor not in legal:
        raise InputError(
            f"tensor parallel size tp = {tensor} does not divide the attention heads evenly (nor "
            f"replicates KV heads evenly); "
            f"legal here: {', '.join(map(str, legal))}"
        )
    layers = whole(model.layers, "layers")
    if pipeline > layers:
        raise InputError(
            f"pipeline stages pp = {pipeline} exceed the {layers} layers; take at most {layers} "
            f"stages"
        )


def _expert_split(
    model: Model, stage: int, request: Request, rules: LayoutRules
) -> tuple[int, int]:
    """The expert parallel size asked for, or the largest that divides the experts, and the places
    for experts; expert * expert_tensor = tensor * data.
    """
    experts = expert_counts(model)
    legal = dict(expert_splits(experts, stage, rules))
    if request.expert is None and request.expert_tensor is None:
        even = max(expert_sizes(experts, stage))
        return even, legal[even]
    split = _size("expert_tensor", request.expert_tensor)
    wanted = _size("expert", request.expert) if request.expert is not None else stage // split
    if request.expert_tensor is not None and wanted * split != stage:
        raise InputError(
            f"tp * dp = {stage} but ep * etp = {wanted * split} ({wanted} * {split}): attention "
            f"and experts share the same "
            "devices; make the products equal, or leave etp out"
        )
    if wanted not in legal:
        raise InputError(
            f"expert parallel size ep = {wanted} must divide tp * dp = {stage} and, without "
            f"redundant experts, the number of experts; "
            f"legal here: {', '.join(map(str, legal))}"
        )
    return wanted, legal[wanted]
