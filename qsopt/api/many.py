"""Many designs at once: a batch of any length, in parts that fit the cache, on all devices of all
processes.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import partial
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from qsopt.api.names import AnyCluster, AnyEfficiency, AnyModel, as_model, as_service
from qsopt.arrays import is_concrete
from qsopt.deployments.batches import pad_to, take
from qsopt.errors import InputError
from qsopt.physics.evaluate import Metrics, metrics
from qsopt.precision import in_float64, same_precision
from qsopt.programs import compiled
from qsopt.serving.metrics import RequestMetrics, request_metrics
from qsopt.serving.plan import WAYS, Plan
from qsopt.serving.replica import Served
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

PART = 8_192
"""Designs that one call evaluates on each device: more leave the cache of a core."""

FOLDED = 4_000_000
"""Designs from which on a program for their very model and service repays its compilation."""

_RECORDS = ("memory", "breakdown")
"""Of metrics, what is no number."""

Batch = tuple[Workload, Deployment | Plan]
Columns = dict[str, np.ndarray]


def evaluate_many(
    model: AnyModel,
    cluster: AnyCluster | Service,
    workload: Workload | None = None,
    deployment: Deployment | Plan | None = None,
    efficiency: AnyEfficiency = "fitted",
    *,
    way: str | None = None,
    outputs: tuple[str, ...] = ("throughput", "tpot", "feasible"),
    fold_constants: bool | None = None,
) -> Columns:
    """Metrics of many designs: a batch of deployments, of workloads, or of both together.

    Numbers of `deployment` and `workload` may be arrays of one length n (as those of
    `legal_layouts`, or of `jax.vmap(Workload)(contexts)`); what is a single number holds for all.
    Parts of `PART` designs run side by side on the cores of a CPU, or divided over all devices of
    the process. Where several processes belong together (`jax.distributed`), each evaluates its
    share, and all get the whole.

    Args:
        model: what is served: a model, or the name of one.
        cluster: on what: a cluster, a phrase such as `8xh100`, or a service.
        workload: context and limits, or prompts and answers.
        deployment: parallel sizes and batch; for requests, a plan.
        efficiency: a set, or the name of one.
        way: of serving requests, one of `WAYS`; goes with a plan.
        outputs: numbers of `Metrics`, or with a plan of `RequestMetrics`, such as `ttft`.
        fold_constants: whether to compile a program for this very model and service, with all that
            is one number for all designs as constants: some seconds once, then 1.5 times as many
            decode steps a second, and as many requests. Left out, from `FOLDED` designs on.

    Returns:
        An array of length n for each of `outputs`, in NumPy.

    Raises:
        InputError: if nothing is a batch, lengths differ, something is being traced, an output is
            unknown, or a plan lacks its way.
    """
    service = as_service(cluster, workload, efficiency, None)
    if deployment is None:
        raise InputError("give deployments, such as legal_layouts(model, cluster), or a plan")
    _check_outputs(outputs, deployment, way)
    batch = (service.workload, deployment)
    count = _length(batch)
    fold = count >= FOLDED if fold_constants is None else fold_constants
    return _evaluated(as_model(model), service, batch, way, outputs, count, fold)


def _check_outputs(outputs: tuple[str, ...], deployment: object, way: str | None) -> None:
    if isinstance(deployment, Plan) != (way in WAYS):
        raise InputError(f"give a plan together with its way, one of {', '.join(WAYS)}")
    record = RequestMetrics if isinstance(deployment, Plan) else Metrics
    known = [each.name for each in fields(record) if each.name not in _RECORDS] + ["feasible"]
    for name in outputs:
        if name not in known:
            raise InputError(f"outputs: '{name}' is none of {', '.join(known)}")


def _length(batch: Batch) -> int:
    """Designs of a batch."""
    if not is_concrete(batch):
        raise InputError("a batch that is being traced: take jax.vmap of evaluate instead")
    lengths = {np.shape(leaf)[0] for leaf in jax.tree.leaves(batch) if np.ndim(leaf) > 0}
    if len(lengths) != 1 or min(lengths) == 0:
        told = " and ".join(map(str, sorted(lengths))) or "none"
        raise InputError(f"arrays of length {told}: give one length, above 0, for all that vary")
    return lengths.pop()


@in_float64
def _evaluated(
    model: Model,
    service: Service,
    batch: Batch,
    way: str | None,
    outputs: tuple[str, ...],
    count: int,
    fold: bool,
) -> Columns:
    devices, hosts = jax.local_devices(), jax.process_count()
    share, size = -(-count // hosts), PART * len(devices)
    first = jax.process_index() * share
    last, place = first + share, _divided(devices)
    varying, fixed = eqx.partition(batch, lambda leaf: np.ndim(leaf) > 0)
    varying, same = pad_to(varying, share * hosts), (model, service, fixed)
    program = partial(_of_constants, _Constants(same)) if fold else partial(_part, same)

    def part(start: int) -> Columns:
        some = take(varying, slice(start, min(start + size, last)))
        length = jax.tree.leaves(some)[0].shape[0]
        columns = program(place(pad_to(some, size)), way=way, outputs=outputs)
        return {name: np.asarray(column)[:length] for name, column in columns.items()}

    parts = _side_by_side(part, list(range(first, last, size)))
    whole = {name: np.concatenate([each[name] for each in parts]) for name in outputs}
    return whole if hosts == 1 else _of_all_hosts(whole, count)


Same = tuple[Model, Service, Batch]
"""What all designs have in common: the batch is what of it does not vary."""


def _columns(
    same: Same, varying: Batch, *, way: str | None, outputs: tuple[str, ...]
) -> dict[str, jax.Array]:
    model, service, fixed = same

    def one(some: Batch) -> dict[str, jax.Array]:
        workload, design = eqx.combine(some, fixed)
        at = eqx.tree_at(lambda s: s.workload, service, workload)
        if isinstance(design, Plan):
            assert way is not None
            reached = request_metrics(Served(model, at), design, way)
        else:
            reached = metrics(model, at, design)
        return {name: getattr(reached, name) for name in outputs}

    return jax.vmap(one)(varying)


_part = compiled(_columns, static=("way", "outputs"))


class _Constants:
    """Numbers that a program is compiled for, told apart by their values."""

    def __init__(self, tree: Same) -> None:
        leaves, structure = jax.tree.flatten(tree)
        arrays = [np.asarray(leaf) for leaf in leaves]
        self.tree = tree
        self._values = structure, tuple((str(each.dtype), each.tobytes()) for each in arrays)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Constants) and self._values == other._values

    def __hash__(self) -> int:
        return hash(self._values)


@partial(jax.jit, static_argnums=0, static_argnames=("way", "outputs"))
def _of_constants(
    constants: _Constants, varying: Batch, *, way: str | None, outputs: tuple[str, ...]
) -> dict[str, jax.Array]:
    return _columns(constants.tree, varying, way=way, outputs=outputs)


def _divided(devices: Sequence[Any]) -> Callable[[Any], Any]:
    """How a part is divided over the devices of this process."""
    if len(devices) == 1:
        return lambda part: part
    rows = NamedSharding(Mesh(np.array(devices), ("designs",)), PartitionSpec("designs"))
    return partial(jax.device_put, device=rows)


def _side_by_side(part: Callable[[int], Columns], starts: list[int]) -> list[Columns]:
    """All parts; on a CPU on all cores, the first alone, as it compiles."""
    if jax.default_backend() != "cpu" or len(starts) < 3:
        return [part(start) for start in starts]
    first = part(starts[0])
    with ThreadPoolExecutor(os.cpu_count(), initializer=same_precision()) as threads:
        return [first, *threads.map(part, starts[1:])]


def _of_all_hosts(columns: Columns, count: int) -> Columns:
    """What all processes evaluated, each its share."""
    return {
        name: np.asarray(multihost_utils.process_allgather(column, tiled=True))[:count]
        for name, column in columns.items()
    }
