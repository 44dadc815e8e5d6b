"""Legal deployments: every way to split a model over a cluster (see `legality` for the rules).

Where expert > 1 both ways of communication exist. Ranks of a tensor group may share the cache of a
sequence (decode context parallel), and an expert size that does not divide the experts fills the
places that are left with copies.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from qsopt.arrays import Scalar, is_concrete
from qsopt.deployments.batches import Tree, same_length, take
from qsopt.deployments.legality import deciding_sizes, has_replica, splits, with_places
from qsopt.deployments.sizes import cache_shares, expert_sizes_up_to, tensor_sizes, traits_of, whole
from qsopt.deployments.stacks import RUNS, Layout, Traits
from qsopt.errors import InputError
from qsopt.spec.deployment import DISPATCHED, GATHERED, Deployment
from qsopt.spec.hardware import Cluster
from qsopt.spec.model import Model
from qsopt.spec.rules import EVERY, LayoutRules

MOST_DEVICES = 16384
"""Clusters up to this size are enumerated."""

WAYS = (GATHERED, DISPATCHED)
"""Both ways of communication."""


def legal_layouts(
    model: Model, cluster: Cluster, rules: LayoutRules = EVERY, ways: tuple[float, ...] = WAYS
) -> Deployment:
    """All legal layouts as one batched `Deployment` at its smallest batch, pipeline * data.

    Ordered by pipeline, tensor, data, expert, way and context parallel size, so that among equals
    the first is the simplest.

    Args:
        model: what is deployed.
        cluster: on what.
        rules: freedoms, and software.
        ways: ways of communication that count.

    Raises:
        InputError: if a size that decides legality is being traced or is not whole, the cluster is
            too large, or the rules leave no layout.
    """
    if not is_concrete(_deciding(model, cluster, rules)):
        raise InputError(
            "the legal layouts depend on heads, KV heads, experts, layers and devices, which are "
            "being traced here: close over the model and cluster, and over the q of a twin of "
            "released shape (that of a same-body twin may be traced), and trace only other inputs"
        )
    listed = _listed(_Asked.of(model, cluster, rules, ways))
    return jax.tree.map(np.array, listed)  # arrays of their own in each precision


@dataclass(frozen=True)
class _Asked:
    """A list of layouts by the numbers that decide it."""

    sizes: tuple[float, ...]
    """Of the model and of the cluster."""
    traits: Traits
    rules: LayoutRules
    ways: tuple[float, ...]
    model: Model = field(compare=False)
    cluster: Cluster = field(compare=False)

    @classmethod
    def of(
        cls, model: Model, cluster: Cluster, rules: LayoutRules, ways: tuple[float, ...]
    ) -> "_Asked":
        """What is asked of a model and a cluster of which those numbers are concrete."""
        sizes = tuple(float(size) for size in _deciding(model, cluster, rules))
        model, cluster = _without_tracers((model, cluster))
        return cls(sizes, traits_of(model), rules, tuple(ways), model, cluster)


def _deciding(model: Model, cluster: Cluster, rules: LayoutRules) -> list[Scalar]:
    """The numbers that decide which layouts are legal."""
    domain = [cluster.accelerator.scale_up_devices] if rules.whole_domains else []
    return [*deciding_sizes(model), cluster.devices, *domain]


def _without_tracers(tree: Tree) -> Tree:
    """A record that may be kept when a trace has ended; what was traced there decides nothing."""
    return jax.tree.map(lambda leaf: leaf if is_concrete(leaf) else np.nan, tree)


@lru_cache(maxsize=32)
def _listed(asked: _Asked) -> Deployment:
    """The list, made once: a comparison needs those of both sides many times."""
    return _combined([asked.model], asked.cluster, asked.rules, asked.ways)


def layouts_of_any(
    models: Sequence[Model], cluster: Cluster, rules: LayoutRules = EVERY
) -> Deployment:
    """Layouts that are legal for any of several dense models, in the order of `legal_layouts`; see
    `legality.splits` for which of them each model has.

    Args:
        models: of one structure, with the same kinds of attention.
        cluster: on what.
        rules: freedoms, and software.

    Raises:
        InputError: as for one model, where none of them has a layout.
    """
    distinct: dict[tuple[float, ...], Model] = {}
    for model in models:
        layers, *heads = map(float, deciding_sizes(model))
        # more layers than devices change nothing
        distinct.setdefault((min(layers, float(cluster.devices)), *heads), model)
    divided = [model for model in distinct.values() if _is_whole(model)]
    if len(divided) <= 1:
        return legal_layouts((divided or models)[0], cluster, rules)
    layouts = _combined(divided, cluster, rules)
    return take(layouts, np.any([splits(model, layouts) for model in divided], axis=0))


def _is_whole(model: Model) -> bool:
    """Whether the sizes that decide which layouts are legal are whole numbers."""
    return all(float(size).is_integer() for size in deciding_sizes(model))


def _combined(
    models: Sequence[Model],
    cluster: Cluster,
    rules: LayoutRules,
    ways: tuple[float, ...] = WAYS,
) -> Deployment:
    """All combinations of sizes that are legal for any of several models with the same experts."""
    devices = _checked_devices(cluster)
    sizes = LayoutSizes(
        tensor=_union(tensor_sizes(model, devices) for model in models),
        data=range(1, devices + 1),
        pipeline=range(1, max(whole(model.layers, "layers") for model in models) + 1),
        shares=lambda tensor: _union(cache_shares(model, tensor) for model in models),
        expert=expert_sizes_up_to(models[0], devices, rules),
    )
    layouts = combined_layouts(cluster, sizes, traits_of(models[0]), rules, ways)
    return with_places(models[0], layouts, rules)


def _union(sizes: Iterable[Collection[int]]) -> list[int]:
    return sorted({size for some in sizes for size in some})


def _checked_devices(cluster: Cluster) -> int:
    devices = int(cluster.devices)
    if devices > MOST_DEVICES:
        raise InputError(
            f"{devices} devices: layouts are enumerated for at most {MOST_DEVICES}; give the "
            "parallel sizes, or compare on a part of the cluster, as replicas only repeat"
        )
    return devices


# ---- layouts from sizes --------------------------------------------------------------------------


class LayoutSizes(NamedTuple):
    """Sizes from which layouts are combined, each legal by itself; ascending."""

    tensor: Collection[int]
    """Tensor parallel sizes."""
    data: Collection[int]
    """Attention data parallel sizes."""
    pipeline: Collection[int]
    """Pipeline stages."""
    shares: Callable[[int], Collection[int]]
    """Context parallel sizes, by the tensor parallel size."""
    expert: Callable[[int], Collection[int]]
    """Expert parallel sizes, by the devices of a stage."""


def combined_layouts(
    cluster: Cluster,
    sizes: LayoutSizes,
    traits: Traits,
    rules: LayoutRules = EVERY,
    ways: tuple[float, ...] = WAYS,
) -> Deployment:
    """All combinations of sizes that the cluster has room for and the rules' software runs, in the
    order of `legal_layouts`, with as many places as experts.

    Raises:
        InputError: if there is none.
    """
    devices = int(cluster.devices)
    table = _with_stages(_splits(devices, sizes, traits, rules, ways), sizes.pipeline, devices)
    if not len(table) and rules.dcp is None and rules.stack == "any":
        raise InputError(
            "no legal layout has these parallel sizes here; leave some of tp, dp, pp and ep open, "
            "or take smaller ones"
        )
    if not len(table):
        raise InputError(
            f"no layout has dcp = {rules.dcp} with stack {rules.stack} here; take --dcp any"
        )
    layouts = layout_batch(table)
    (filled,) = same_length(layouts)
    return take(layouts, has_replica(cluster, filled, rules)[: len(table)])


Table = Float[np.ndarray, "layouts sizes"]
"""Layouts as rows of (tensor, data, pipeline, expert, dispatched, dcp)."""


def _splits(
    devices: int,
    sizes: LayoutSizes,
    traits: Traits,
    rules: LayoutRules,
    ways: tuple[float, ...],
) -> Table:
    """Every pair of a split of attention and one of the experts that the rules allow, in one
    stage.
    """
    runs, experts = RUNS[rules.stack], cache(sizes.expert)
    kept: list[tuple[float, ...]] = []
    for tensor in sizes.tensor:
        shares = [dcp for dcp in sizes.shares(tensor) if rules.dcp in (None, dcp)]
        for data in sizes.data:
            stage = tensor * data
            if stage > devices:
                break
            splits = (
                Layout(tensor, data, 1, expert, way, dcp)
                for expert in experts(stage)
                for way in (sorted(ways) if expert > 1 else (GATHERED,))
                for dcp in shares
            )
            kept += [layout[:6] for layout in splits if runs(layout, traits)]
    return np.array(kept, dtype=float).reshape(-1, 6)


def _with_stages(splits: Table, pipeline: Collection[int], devices: int) -> Table:
    """The same in every number of stages that so many devices have room for, fewest first."""
    stage, parts = splits[:, 0] * splits[:, 1], [splits[:0]]
    for stages in pipeline:
        part = splits[stage * stages <= devices]
        if not len(part):
            break
        part[:, 2] = stages
        parts.append(part)
    return np.concatenate(parts)


def layout_batch(rows: Sequence[tuple[float, ...]] | Table) -> Deployment:
    """Rows of (tensor, data, pipeline, expert, dispatched) and, where they matter, (dcp,
    expert_slots) as one batched `Deployment` at its smallest batch.
    """
    given = np.array(rows, dtype=float)
    plain = np.array(Layout(1, 1, 1, 1, GATHERED), dtype=float)
    table = np.tile(plain, (len(given), 1))
    table[:, : given.shape[1]] = given
    tensor, data, pipeline, expert, dispatched, dcp, slots = table.T.copy()
    sizes = tensor, data, pipeline, expert, pipeline * data, dispatched, dcp, slots
    return eqx.tree_at(_fields, Deployment(), sizes)


def _fields(layout: Deployment) -> tuple[Scalar, ...]:
    sizes = layout.tensor, layout.data, layout.pipeline, layout.expert, layout.batch
    return *sizes, layout.dispatched, layout.dcp, layout.expert_slots
