"""Legal deployments: every way to split a model over a cluster.

tensor divides the heads of every attention layer, and divides the KV heads or is a multiple of
them; expert divides tensor * data and the experts; pipeline is at most the layers; a replica fits
the cluster. Nothing else must divide: widths and vocabularies are padded in practice. A dense model
has expert = 1. Where expert > 1 both ways of communication exist. Ranks of a tensor group may share
the cache of a sequence (decode context parallel), and an expert size that does not divide the
experts fills the places that are left with copies.
"""

import math
from collections.abc import Iterator, Sequence

import equinox as eqx
import jax
import numpy as np

from qsopt.arrays import Scalar, is_concrete
from qsopt.deployments.stacks import RUNS, Layout, Traits
from qsopt.errors import InputError
from qsopt.physics.placement import packed
from qsopt.spec.deployment import DISPATCHED, GATHERED, Deployment
from qsopt.spec.hardware import Cluster
from qsopt.spec.model import Attention, Gqa, LinearAttention, Mla, Model, MoeFfn
from qsopt.spec.rules import EVERY, NO_SLOTS, LayoutRules

MOST_DEVICES = 16384
"""Clusters up to this size are enumerated."""


def legal_layouts(
    model: Model,
    cluster: Cluster,
    rules: LayoutRules = EVERY,
    ways: tuple[float, ...] = (GATHERED, DISPATCHED),
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
    if not is_concrete((_deciding(model), cluster.devices)):
        raise InputError(
            "the legal layouts depend on heads, KV heads, experts, layers and devices, which are "
            "being traced here: close over "
            "the model and cluster, and trace only other inputs"
        )
    if int(cluster.devices) > MOST_DEVICES:
        raise InputError(
            f"{int(cluster.devices)} devices: layouts are enumerated for at most {MOST_DEVICES}; "
            f"give the parallel sizes, or "
            "compare on a part of the cluster, as replicas only repeat"
        )
    rows = sorted(
        _rows(model, int(cluster.devices), ways, rules),
        key=lambda row: (row.pipeline, *row),
    )
    if not rows:
        raise InputError(
            f"no layout has dcp = {rules.dcp} with stack {rules.stack} here; take --dcp any"
        )
    layouts = layout_batch(rows)
    return _placed(layouts, cluster) if rules.whole_domains else layouts


def _placed(layouts: Deployment, cluster: Cluster) -> Deployment:
    """The layouts of which whole domains hold a replica."""
    with jax.ensure_compile_time_eval():
        kept = np.asarray(packed(cluster, layouts)) >= 1.0
    return jax.tree.map(lambda leaf: leaf[kept], layouts)


def _deciding(model: Model) -> list[Scalar]:
    """The sizes that decide which layouts are legal."""
    heads = [
        getattr(layers.kind, name)
        for layers in model.decoder.attention
        for name in ("heads", "kv_heads")
        if hasattr(layers.kind, name)
    ]
    kinds = [layers.kind for layers in model.decoder.ffn]
    return [model.layers, *heads, *(kind.experts for kind in kinds if isinstance(kind, MoeFfn))]


def layout_batch(rows: Sequence[tuple[float, ...]]) -> Deployment:
    """Rows of (tensor, data, pipeline, expert, dispatched) and, where they matter, (dcp,
    expert_slots) as one batched `Deployment` at its smallest batch.
    """
    plain = Layout(1, 1, 1, 1, GATHERED)
    table = np.array([(*row, *plain[len(row) :]) for row in rows], dtype=float)
    tensor, data, pipeline, expert, dispatched, dcp, slots = table.T
    sizes = tensor, data, pipeline, expert, pipeline * data, dispatched, dcp, slots
    return eqx.tree_at(_fields, Deployment(), sizes)


def _fields(layout: Deployment) -> tuple[Scalar, ...]:
    sizes = layout.tensor, layout.data, layout.pipeline, layout.expert, layout.batch
    return *sizes, layout.dispatched, layout.dcp, layout.expert_slots


def _rows(
    model: Model, devices: int, ways: tuple[float, ...], rules: LayoutRules
) -> Iterator[Layout]:
    """Every pair of a split of attention and one of the experts that the rules allow."""
    experts, layers, traits = expert_counts(model), whole(model.layers, "layers"), traits_of(model)
    runs = RUNS[rules.stack]
    for tensor in tensor_sizes(model, devices):
        shares = [c for c in cache_shares(model, tensor) if rules.dcp in (None, c)]
        for data in range(1, devices // tensor + 1):
            stage = tensor * data
            splits = [
                (expert, way, dcp, slots)
                for expert, slots in expert_splits(experts, stage, rules)
                for way in (ways if expert > 1 else (GATHERED,))
                for dcp in shares
            ]
            kept = [split for split in splits if runs(Layout(tensor, data, 1, *split), traits)]
            for pipeline in range(1, min(devices // stage, layers) + 1):
                yield from (Layout(tensor, data, pipeline, *split) for split in kept)


def traits_of(model: Model) -> Traits:
    """What software asks of a model."""
    caching = [each.kind for each in model.decoder.attention if not _is_linear(each.kind)]
    latent = all(isinstance(kind, Mla) for kind in caching)
    return Traits(bool(expert_counts(model)), latent and bool(caching))


def _is_linear(kind: Attention) -> bool:
    return isinstance(kind, LinearAttention)


def cache_shares(model: Model, tensor: int) -> list[int]:
    """Ranks of a tensor group that may share a sequence's cache: divisors of it for latents, of the
    copies of a KV head for grouped heads, so that no head is split.
    """
    copies = tensor
    for layers in model.decoder.attention:
        if isinstance(layers.kind, Gqa):
            copies = math.gcd(copies, max(tensor // whole(layers.kind.kv_heads, "kv_heads"), 1))
        elif _is_linear(layers.kind):
            continue
    return [c for c in range(1, copies + 1) if copies % c == 0]


def expert_splits(experts: list[int], stage: int, rules: LayoutRules) -> list[tuple[int, int]]:
    """Expert parallel sizes of a stage, each with its places for experts (0 for one an expert).

    Args:
        experts: numbers of experts of the model's layers; none for a dense model.
        stage: devices of the stage.
        rules: whether places may hold copies.
    """
    if not experts:
        return [(1, NO_SLOTS)]
    even = [(e, NO_SLOTS) for e in expert_sizes(experts, stage)]
    if rules.expert_slots == NO_SLOTS or (rules.expert_slots is None and len(experts) > 1):
        return even
    most = max(experts)
    if rules.expert_slots is not None:
        slots = max(rules.expert_slots, most)
        return [(e, slots) for e in range(1, min(stage, slots) + 1) if stage % e == 0]
    uneven = [e for e in range(1, stage + 1) if stage % e == 0 and most % e]
    return sorted([*even, *((e, e * -(-most // e)) for e in uneven)])


def tensor_sizes(model: Model, devices: int) -> list[int]:
    """Legal tensor parallel sizes up to `devices`."""
    heads = math.gcd(*(whole(layers.kind.heads, "heads") for layers in model.decoder.attention))
    return [t for t in range(1, min(devices, heads) + 1) if _splits_heads(model, t)]


def _splits_heads(model: Model, tensor: int) -> bool:
    for layers in model.decoder.attention:
        if whole(layers.kind.heads, "heads") % tensor:
            return False
        if isinstance(layers.kind, Gqa):
            kv = whole(layers.kind.kv_heads, "kv_heads")
            if kv % tensor and tensor % kv:
                return False
    return True


def expert_counts(model: Model) -> list[int]:
    """Numbers of routed experts of the model's layers; empty for a dense model."""
    kinds = [layers.kind for layers in model.decoder.ffn]
    return sorted({whole(kind.experts, "experts") for kind in kinds if isinstance(kind, MoeFfn)})


def expert_sizes(experts: list[int], stage: int) -> list[int]:
    """Legal expert parallel sizes on a stage of `stage` devices."""
    if not experts:
        return [1]
    return [
        e
        for e in range(1, stage + 1)
        if stage % e == 0 and all(count % e == 0 for count in experts)
    ]


def whole(value: object, name: str) -> int:
    """A size as a whole number.

    Raises:
        InputError: if it is not whole.
    """
    number = float(value)  # pyright: ignore[reportArgumentType]
    if number != round(number):
        raise InputError(f"{name} = {number:g}: legal layouts need a whole number; round it first")
    return round(number)
