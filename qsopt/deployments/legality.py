"""What makes a layout legal, said once: for the lists of layouts, for what a user asks for, and for
the search, with whole sizes and with real ones.

tensor divides the heads of every attention layer, and divides the KV heads or is a multiple of them
(beyond them they are replicated); ranks of a tensor group share the cache of a sequence where they
would hold copies of it, so dcp divides the copies; expert divides the tensor * data devices of a
stage, and the routed experts of every layer or else there are places for copies; it is 1 for a
dense model; pipeline is at most the layers; a replica fits the cluster, and its groups whole
scale-up domains where the rules ask for that (see `physics.placement`); its sequences fill all
stages and data ranks evenly; tokens are dispatched only where expert > 1. Nothing else must divide:
widths and vocabularies are padded in practice.

Every rule works on numbers, on arrays of them and on traced values.
"""

from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from qsopt.arrays import Scalar, is_concrete
from qsopt.deployments.batches import in_numpy
from qsopt.physics import placement
from qsopt.programs import compiled
from qsopt.spec.deployment import GATHERED, Deployment
from qsopt.spec.hardware import Cluster
from qsopt.spec.layers import Gqa, MoeFfn
from qsopt.spec.model import Model
from qsopt.spec.rules import EVERY, NO_SLOTS, LayoutRules

Kept = Bool[Array, "*layouts"]
"""Whether a rule is kept, by every layout of a batch."""


class Legality(NamedTuple):
    """Which rules a layout keeps."""

    devices: Kept
    """The cluster has the devices of a replica."""
    domains: Kept
    """Its scale-up domains have room for the groups of a replica."""
    expert_devices: Kept
    """expert divides the devices of a stage."""
    experts_per_rank: Kept
    """expert divides the experts, or there are places for copies."""
    heads: Kept
    """tensor divides the heads, and splits or replicates the KV heads evenly."""
    cache: Kept
    """dcp divides the copies of the cache."""
    stages: Kept
    """There are no more stages than layers."""
    batch: Kept
    """The sequences fill all stages and data ranks evenly."""
    way: Kept
    """Tokens are dispatched only to experts that are spread."""


def legality(
    model: Model, cluster: Cluster, layout: Deployment, rules: LayoutRules = EVERY
) -> Legality:
    """Which rules a layout keeps on a cluster."""
    model, layout = in_numpy(model), in_numpy(layout)
    return Legality(
        devices=layout.replica_devices <= in_numpy(cluster.devices),
        domains=has_replica(cluster, layout, rules),
        expert_devices=layout.stage_devices % layout.expert == 0,
        experts_per_rank=has_places(model, layout.expert, layout.expert_slots),
        heads=splits_heads(model, layout.tensor) & splits_kv_heads(model, layout.tensor),
        cache=shares_cache(model, layout.tensor, layout.dcp),
        stages=layout.pipeline <= model.layers,
        batch=fills_units(layout, layout.batch),
        way=(layout.dispatched == GATHERED) | (layout.expert > 1),
    )


def is_legal(
    model: Model, cluster: Cluster, layout: Deployment, rules: LayoutRules = EVERY
) -> Kept:
    """Whether a layout keeps every rule."""
    first, *others = legality(model, cluster, layout, rules)
    for kept in others:
        first = first & kept
    return first


def splits(model: Model, layout: Deployment) -> Kept:
    """Whether a model can be split as a layout splits it, wherever and with whatever experts."""
    heads = splits_heads(model, layout.tensor) & splits_kv_heads(model, layout.tensor)
    stages = layout.pipeline <= model.layers
    return heads & shares_cache(model, layout.tensor, layout.dcp) & stages


def deciding_sizes(model: Model) -> list[Scalar]:
    """The sizes of a model that decide which layouts are legal."""
    heads = [layers.kind.heads for layers in model.decoder.attention]
    return [model.layers, *heads, *_kv_heads(model), *expert_counts(model)]


# ---- attention -----------------------------------------------------------------------------------


def splits_heads(model: Model, tensor: Scalar) -> Kept:
    """Whether a tensor parallel size divides the heads of every attention layer."""
    kept = tensor > 0
    for layers in model.decoder.attention:
        kept = kept & (in_numpy(layers.kind.heads) % tensor == 0)
    return kept


def splits_kv_heads(model: Model, tensor: Scalar) -> Kept:
    """Whether a tensor parallel size divides the KV heads of every layer that has them, or is a
    multiple of them.
    """
    kept = tensor > 0
    for kv_heads in _kv_heads(model):
        kept = kept & ((kv_heads % tensor == 0) | (tensor % kv_heads == 0))
    return kept


def shares_cache(model: Model, tensor: Scalar, dcp: Scalar) -> Kept:
    """Whether so many ranks of a tensor group may share the cache of a sequence: a divisor of the
    group for latents, of the copies of a KV head for grouped heads, so that no head is split.
    """
    kept = tensor % dcp == 0
    for kv_heads in _kv_heads(model):
        kept = kept & ((dcp == 1) | (tensor / kv_heads % dcp == 0))
    return kept


def _kv_heads(model: Model) -> list[Scalar]:
    kinds = [layers.kind for layers in model.decoder.attention]
    return [in_numpy(kind.kv_heads) for kind in kinds if isinstance(kind, Gqa)]


# ---- experts -------------------------------------------------------------------------------------


def expert_counts(model: Model) -> list[Scalar]:
    """Routed experts of every kind of routed layers; empty for a dense model."""
    kinds = [layers.kind for layers in model.decoder.ffn]
    return [in_numpy(kind.experts) for kind in kinds if isinstance(kind, MoeFfn)]


def splits_experts(model: Model, expert: Scalar) -> Kept:
    """Whether an expert parallel size divides the routed experts of every layer; 1 alone does
    where there are none.
    """
    counts = expert_counts(model)
    kept = expert > 0 if counts else expert == 1
    for experts in counts:
        kept = kept & (experts % expert == 0)
    return kept


def has_places(model: Model, expert: Scalar, slots: Scalar) -> Kept:
    """Whether every expert has a place and every rank a place: without places of their own the
    ranks must divide the experts.
    """
    counts = expert_counts(model)
    even = (slots == NO_SLOTS) & splits_experts(model, expert)
    if not counts:
        return even
    placed = (slots > NO_SLOTS) & (expert <= slots)
    for experts in counts:
        placed = placed & (slots >= experts)
    return even | placed


def places(model: Model, expert: Scalar, rules: LayoutRules) -> Scalar:
    """Places for experts under the rules: as many as these say, else as many as fill every rank
    evenly; `NO_SLOTS` for as many as experts, where expert divides them.

    Layers that differ in their experts get no more of themselves: no number fills the ranks of all.
    """
    counts, none = expert_counts(model), NO_SLOTS * expert
    where, maximum = _where_and_maximum(model, expert)
    if not counts or rules.expert_slots == NO_SLOTS:
        return none
    if rules.expert_slots is not None:
        return reduce(maximum, counts, none + float(rules.expert_slots))
    if _differ(counts):
        return none
    even = expert * -(-counts[0] // expert)
    return where(splits_experts(model, expert), none, even)


def _where_and_maximum(*values: object) -> tuple[Callable, Callable]:
    """Of NumPy for concrete values, of JAX for traced ones."""
    array = np if is_concrete(values) else jnp
    return array.where, array.maximum


def _differ(counts: list[Scalar]) -> bool:
    """Whether routed layers are known to differ in their experts; a search moves all of them
    alike.
    """
    return len({float(experts) for experts in counts if is_concrete(experts)}) > 1


def with_places(model: Model, layout: Deployment, rules: LayoutRules) -> Deployment:
    """The layout with its places for experts under the rules."""
    slots = places(model, layout.expert, rules)
    return eqx.tree_at(lambda d: d.expert_slots, layout, slots)


def allows_experts(model: Model, expert: Scalar, rules: LayoutRules) -> Kept:
    """Whether an expert parallel size has places under the rules."""
    return has_places(model, expert, places(model, expert, rules))


# ---- clusters and batches ------------------------------------------------------------------------


def has_replica(cluster: Cluster, layout: Deployment, rules: LayoutRules) -> Kept:
    """Whether the cluster has room for a replica."""
    with jax.ensure_compile_time_eval():  # concrete clusters are counted inside of traces too
        return in_numpy(_replicas(cluster, layout, rules.whole_domains)) >= 1


_replicas = compiled(placement.replicas, static=("whole_domains",), by_numpy=True)


def fills_units(layout: Deployment, batch: Scalar) -> Kept:
    """Whether so many sequences fill all stages and data ranks of a replica evenly."""
    return batch % (layout.pipeline * layout.data) == 0


# ---- the same where sizes are real ---------------------------------------------------------------

SIZE_LIMITS = (
    "devices",
    "expert_devices",
    "experts_per_rank",
    "heads",
    "stages",
    "smallest_batch",
)
"""What is left of the rules where sizes are real and divide everything, in the order of
`size_ratios`.
"""


def size_ratios(model: Model, cluster: Cluster, layout: Deployment) -> tuple[Scalar, ...]:
    """Each size over the most that it may be: 1 and less is legal.

    Attention can be split as far as the layer with the fewest heads allows.
    """
    heads = [jnp.asarray(layers.kind.heads) for layers in model.decoder.attention]
    return (
        layout.replica_devices / cluster.devices,
        layout.expert / layout.stage_devices,
        layout.expert / layout.slots(jnp.min(jnp.stack(expert_counts(model)))),
        layout.tensor / jnp.min(jnp.stack(heads)),
        layout.pipeline / model.layers,
        layout.pipeline * layout.data / layout.batch,
    )
