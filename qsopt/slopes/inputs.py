"""What a throughput may be asked to be sensitive to: every input by name, as a factor on its value.

A factor makes elasticities: d log throughput / d log factor at factor 1. Inputs that a model lacks
(shared experts of a model without any, experts of a dense one) are left out.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from qsopt.arrays import Scalar
from qsopt.record import Record
from qsopt.spec.deployment import Deployment
from qsopt.spec.efficiency import LINK_TIERS, OPERATOR_KINDS
from qsopt.spec.formats import ARITHMETICS
from qsopt.spec.layers import Layers, MoeFfn, map_ffn
from qsopt.spec.model import Model, moe_layers
from qsopt.spec.service import Service
from qsopt.spec.workload import NO_LIMIT


class Design(Record):
    """A model in a deployment: everything that its throughput depends on."""

    model: Model
    """What is served."""
    service: Service
    """On what, and for what."""
    deployment: Deployment
    """Parallel sizes, batch and way."""


@dataclass(frozen=True)
class Input:
    """One input of a design."""

    name: str
    """Among the sensitivities."""
    unit: str
    """Of its value."""
    value: Callable[[Design], Scalar] = field(repr=False)
    """The input's value in a design; 1 for a group of inputs that move together."""
    scale: Callable[[Design, Scalar], Design] = field(repr=False)
    """The design with the input multiplied by a factor."""


def design_inputs(design: Design) -> tuple[Input, ...]:
    """The inputs that a design has."""
    moe = moe_layers(design.model)
    routed = (
        () if moe is None else tuple(_ROUTED if float(moe.shared_experts) > 0 else _ROUTED[:-1])
    )
    limit = (_TPOT,) if float(design.service.workload.tpot_limit) < NO_LIMIT else ()
    return (*routed, *_WORKLOAD, *_HARDWARE, *limit)


def named_inputs(names: tuple[str, ...]) -> tuple[Input, ...]:
    """Inputs of any design by name, in this order."""
    known = {each.name: each for each in (*_ROUTED, *_WORKLOAD, *_HARDWARE, _TPOT)}
    return tuple(known[name] for name in names)


def scaled(design: Design, inputs: tuple[Input, ...], logs: Float[Array, " inputs"]) -> Design:
    """The design with the log of each input moved by an amount."""
    for given, factor in zip(inputs, jnp.unstack(jnp.exp(logs)), strict=True):
        design = given.scale(design, factor)
    return design


def _expert_input(name: str, unit: str, field: str) -> Input:
    """An input of all routed layers."""

    def scale(design: Design, factor: Scalar) -> Design:
        def changed(layers: Layers) -> Layers:
            if not isinstance(layers.kind, MoeFfn):
                return layers
            return eqx.tree_at(
                lambda group: getattr(group.kind, field),
                layers,
                replace_fn=lambda value: value * factor,
            )

        return eqx.tree_at(lambda d: d.model, design, map_ffn(design.model, changed))

    return Input(name, unit, lambda design: getattr(moe_layers(design.model), field), scale)


def leaf_input(name: str, unit: str, leaf: Callable[[Design], Scalar]) -> Input:
    """An input that is one number of the design."""

    def scale(design: Design, factor: Scalar) -> Design:
        return eqx.tree_at(leaf, design, leaf(design) * factor)

    return Input(name, unit, leaf, scale)


def _peak_input(index: int, name: str) -> Input:
    """The peak of one arithmetic; one that the device lacks counts as its own though it is that of
    the next wider.
    """

    def scale(design: Design, factor: Scalar) -> Design:
        peaks = jnp.asarray(design.service.cluster.accelerator.peak_flops)
        return eqx.tree_at(
            lambda d: d.service.cluster.accelerator.peak_flops, design, peaks.at[index].mul(factor)
        )

    return Input(
        f"peak_{name}",
        "FLOP/s",
        lambda design: design.service.cluster.accelerator.peak_flops[index],
        scale,
    )


def _group_input(name: str, leaves: Callable[[Design], list[Any]]) -> Input:
    """Several numbers that move together, so that their factor is what has a value: 1."""

    def scale(design: Design, factor: Scalar) -> Design:
        return eqx.tree_at(leaves, design, [leaf * factor for leaf in leaves(design)])

    return Input(name, "factor", lambda design: jnp.ones(()), scale)


def _launches(design: Design) -> list[Any]:
    return [getattr(design.service.efficiency, kind).launch for kind in OPERATOR_KINDS]


def _link_latencies(design: Design) -> list[Any]:
    tiers = [getattr(design.service.efficiency, tier) for tier in LINK_TIERS]
    return [latency for tier in tiers for latency in (tier.collective, tier.step)]


def _host_times(design: Design) -> list[Any]:
    server = design.service.efficiency.server
    return [server.host, server.host_layer]


_ROUTED = (
    _expert_input("experts", "expert", "experts"),
    _expert_input("top_k", "expert", "top_k"),
    _expert_input("expert_width", "column", "width"),
    _expert_input("shared_experts", "expert", "shared_experts"),
)
_WORKLOAD = (leaf_input("context", "token", lambda design: design.service.workload.context),)
_HARDWARE = (
    leaf_input("bandwidth", "byte/s", lambda design: design.service.cluster.accelerator.bandwidth),
    leaf_input("capacity", "byte", lambda design: design.service.cluster.accelerator.memory_bytes),
    *(_peak_input(index, name) for index, name in enumerate(ARITHMETICS)),
    leaf_input(
        "scale_up_bandwidth",
        "byte/s",
        lambda design: design.service.cluster.accelerator.scale_up_bandwidth,
    ),
    leaf_input(
        "scale_out_bandwidth",
        "byte/s",
        lambda design: design.service.cluster.accelerator.scale_out_bandwidth,
    ),
    _group_input("launch_latency", _launches),
    _group_input("link_latency", _link_latencies),
    _group_input("host_time", _host_times),
)
_TPOT = leaf_input("tpot_limit", "s", lambda design: design.service.workload.tpot_limit)
