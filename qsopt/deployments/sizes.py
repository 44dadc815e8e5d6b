"""Sizes of layouts that a model allows, each by itself."""

from collections.abc import Callable

import numpy as np

from qsopt.deployments.legality import (
    allows_experts,
    expert_counts,
    shares_cache,
    splits_heads,
    splits_kv_heads,
)
from qsopt.deployments.stacks import Traits
from qsopt.errors import InputError, exactly
from qsopt.spec.layers import Gqa, LinearAttention, Mla
from qsopt.spec.model import Model
from qsopt.spec.rules import LayoutRules


def traits_of(model: Model) -> Traits:
    """What software asks of a model."""
    kinds = [layers.kind for layers in model.decoder.attention]
    caching = [kind for kind in kinds if not isinstance(kind, LinearAttention)]
    latent = all(isinstance(kind, Mla) for kind in caching)
    return Traits(bool(expert_counts(model)), latent and bool(caching))


def tensor_sizes(model: Model, devices: int) -> list[int]:
    """Legal tensor parallel sizes up to `devices`.

    Raises:
        InputError: if the heads or KV heads are not whole.
    """
    kinds = [layers.kind for layers in model.decoder.attention]
    most = min(devices, *(whole(kind.heads, "heads") for kind in kinds))
    for kind in kinds:
        if isinstance(kind, Gqa):
            whole(kind.kv_heads, "kv_heads")
    sizes = np.arange(1.0, most + 1.0)
    kept = splits_heads(model, sizes) & splits_kv_heads(model, sizes)
    return sizes[kept].astype(int).tolist()


def cache_shares(model: Model, tensor: int) -> list[int]:
    """Legal context parallel sizes of a tensor group."""
    sizes = np.arange(1.0, tensor + 1.0)
    return sizes[shares_cache(model, np.asarray(float(tensor)), sizes)].astype(int).tolist()


def expert_sizes(model: Model, stage: int, rules: LayoutRules) -> list[int]:
    """Legal expert parallel sizes on a stage of so many devices.

    Raises:
        InputError: if the experts are not whole.
    """
    return expert_sizes_up_to(model, stage, rules)(stage)


def expert_sizes_up_to(model: Model, most: int, rules: LayoutRules) -> Callable[[int], list[int]]:
    """The same as a function of the devices of a stage, at most so many: whether a size has places
    does not depend on the stage.

    Raises:
        InputError: if the experts are not whole.
    """
    for experts in expert_counts(model):
        whole(experts, "experts")
    every = np.arange(1.0, most + 1.0)
    legal = every[allows_experts(model, every, rules)]
    return lambda stage: legal[stage % legal == 0].astype(int).tolist()


def divisors(number: int) -> np.ndarray:
    """All divisors of a whole number, ascending."""
    sizes = np.arange(1.0, number + 1.0)
    return sizes[number % sizes == 0]


def whole(value: object, name: str) -> int:
    """A size as a whole number.

    Raises:
        InputError: if it is not whole.
    """
    number = float(value)  # pyright: ignore[reportArgumentType]
    if number != round(number):
        raise InputError(
            f"{name} = {exactly(number)}: legal layouts need a whole number; round it first"
        )
    return round(number)
