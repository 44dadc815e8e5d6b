"""Legal deployments: every way to split a model over a cluster.

tensor divides the heads of every attention layer, and divides the KV heads or is a multiple of
them; expert divides tensor * data and the experts; pipeline is at most the layers; a replica fits
the cluster. Nothing else must divide: widths and vocabularies are padded in practice. A dense model
has expert = 1. Where expert > 1 both ways of communication exist.
"""

import math
from collections.abc import Iterator, Sequence

import equinox as eqx
import numpy as np

from qsopt.arrays import Scalar, is_concrete
from qsopt.errors import InputError
from qsopt.spec.deployment import DISPATCHED, GATHERED, Deployment
from qsopt.spec.hardware import Cluster
from qsopt.spec.model import Gqa, Model, MoeFfn

MOST_DEVICES = 16384
"""Clusters up to this size are enumerated."""


def legal_layouts(
    model: Model, cluster: Cluster, ways: tuple[float, ...] = (GATHERED, DISPATCHED)
) -> Deployment:
    """All legal layouts as one batched `Deployment` at its smallest batch, pipeline * data.

    Ordered by pipeline, tensor, data, expert and way, so that among equals the first is the
    simplest.

    Raises:
        InputError: if a size that decides legality is being traced or is not whole, or the cluster
            is too large.
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
    rows = sorted(_rows(model, int(cluster.devices), ways), key=lambda row: (row[2], *row))
    return layout_batch(rows)


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
    """Rows of (tensor, data, pipeline, expert, dispatched) as one batched `Deployment` at its
    smallest batch.
    """
    tensor, data, pipeline, expert, dispatched = np.array(rows, dtype=float).T
    return eqx.tree_at(
        _fields, Deployment(), (tensor, data, pipeline, expert, pipeline * data, dispatched)
    )


def _fields(layout: Deployment) -> tuple[Scalar, ...]:
    return (
        layout.tensor,
        layout.data,
        layout.pipeline,
        layout.expert,
        layout.batch,
        layout.dispatched,
    )


def _rows(model: Model, devices: int, ways: tuple[float, ...]) -> Iterator[tuple[float, ...]]:
    experts = expert_counts(model)
    for tensor in tensor_sizes(model, devices):
        for data in range(1, devices // tensor + 1):
            stage = tensor * data
            splits = [
                (e, way)
                for e in expert_sizes(experts, stage)
                for way in (ways if e > 1 else (GATHERED,))
            ]
            for pipeline in range(1, min(devices // stage, whole(model.layers, "layers")) + 1):
                yield from ((tensor, data, pipeline, e, way) for e, way in splits)


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
