"""Accelerators by name and clusters by a phrase such as `8xh100`, from TOML files that anyone can
copy and edit.

Their form is that of `hardware_file`. A link speed that a file lacks is refused where a cluster
would use it, but for cards of the catalog on PCIe: up to eight are taken to meet over it, which
`hardware_notes` says. The figures of each file in `configs/hardware` carry their source, doubt and
grade there.
"""

from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np

from qsopt.arrays import is_concrete, scalar
from qsopt.catalog.folder import configs
from qsopt.catalog.hardware_file import (
    ANNOUNCED,
    CHIP,
    COUNT,
    HardwareFacts,
    checked,
    facts_of,
    read,
    refuse_unknown,
)
from qsopt.catalog.phrases import MIXED, MOST_DEVICES, one_line, read_phrase
from qsopt.errors import InputError, exactly, unknown_name
from qsopt.spec.formats import ARITHMETICS, FORMATS, default_arithmetic
from qsopt.spec.hardware import UNKNOWN_LINK, Accelerator, Cluster
from qsopt.units import GB

HOST_CARDS = 8
"""Most cards that are taken to meet over the PCIe of one host where no other link is known."""

_APART = ("price_per_hour", "power_limit", "scale_up_devices")
"""Numbers of an accelerator that who builds and rents out the node decides."""


def accelerator_names() -> tuple[str, ...]:
    """Names of the catalog, sorted."""
    return tuple(sorted(path.stem for path in (configs() / "hardware").glob("*.toml")))


def hardware_facts(which: str | Path) -> HardwareFacts:
    """The facts of an accelerator of the catalog, or of a file that ends in `.toml`.

    Raises:
        InputError: if the name is unknown or the file is wrong.
    """
    path = Path(which) if str(which).endswith(".toml") else _catalog_file(str(which))
    return facts_of(read(path), str(path))


def load_accelerator(which: str | Path, devices: float = 1) -> Accelerator:
    """An accelerator of the catalog, or of a file that ends in `.toml`, for a cluster of so many
    devices.

    A link speed that the file lacks and that cluster does not use is `UNKNOWN_LINK`, with which no
    larger cluster can be made.

    Raises:
        InputError: if the name is unknown, the file is wrong, or it lacks a link speed that the
            cluster would use.
    """
    return _accelerator(hardware_facts(which), devices)


def load_cluster(which: str | Path) -> Cluster:
    """The cluster that a phrase names, or that a `.toml` file describes.

    A phrase is so many devices and an accelerator (`8xmi300x`; a bare `h200` is one device), or
    scale-up domains, the devices of each and an accelerator (`2x8xh200`: two nodes of eight, as
    `16xh200`; `4x4xh200`: four nodes of four, whose links end at four).
    A file states `devices = 16` and `accelerator = "h100"`, the name of a file beside it, or a
    table `[accelerator]` as in `configs/hardware`.

    Raises:
        InputError: if the phrase or the file is wrong, a domain is larger than the accelerator's,
            or a link speed that the cluster would use is unknown.
    """
    if str(which).endswith(".toml"):
        devices, facts = _from_file(Path(which))
        return Cluster(_accelerator(facts, devices), scalar(devices))
    devices, facts, name = _from_phrase(str(which))
    accelerator = _accelerator(facts, devices)
    _LOADED[_key(_numbers(accelerator))] = name
    return Cluster(accelerator, scalar(devices))


def accelerator_name(accelerator: Accelerator) -> str | None:
    """The catalog's name of an accelerator, found by its numbers; None for any other. Price, power
    limit and size of the domain do not count: they are of who builds and rents out the node.

    A record holds no name, so that all accelerators share one compilation; and one whose numbers
    were changed is not the catalog's any more.

    Raises:
        InputError: if the accelerator is being traced or batched.
    """
    numbers = _numbers(accelerator)
    if not is_concrete(numbers) or np.ndim(accelerator.bandwidth):
        raise InputError(
            "what was measured depends on the accelerator, which is being traced here: load the "
            "efficiency set before, as in load_efficiency('trtllm', 'h100')"
        )
    key = _key(numbers)
    return _LOADED.get(key) or _names_by_numbers().get(key)


def cluster_phrase(cluster: Cluster, name: str) -> str | None:
    """The phrase that names a cluster of the accelerator of that name, with its domains where they
    are not the accelerator's own; None where there is none.
    """
    devices, domain = float(cluster.devices), float(cluster.accelerator.scale_up_devices)
    own = hardware_facts(name).scale_up_devices
    if domain == own:
        return f"{devices:g}x{name}"
    whole = domain < own and devices % domain == 0
    return f"{devices / domain:g}x{domain:g}x{name}" if whole else None


def hardware_notes(cluster: Cluster) -> list[str]:
    """What a reader should know of the figures behind a cluster of the catalog's accelerators: that
    they were announced only, and that cards are taken to meet over PCIe.
    """
    name = accelerator_name(cluster.accelerator)
    if name is None:
        return []
    facts, devices = hardware_facts(name), float(cluster.devices)
    notes = []
    if facts.status == ANNOUNCED:
        notes.append(
            f"{facts.name}: figures as announced, before hardware shipped ({facts.collected})"
        )
    if facts.scale_out_bandwidth is None and devices > facts.scale_up_devices:
        notes.append(
            f"cards are taken to meet over {facts.technology}, "
            f"{(facts.scale_up_bandwidth or 0.0) / GB:g} GB/s in one direction, as no other link "
            f"between them is known"
        )
    return notes


def cards_of_a_host(facts: HardwareFacts) -> int:
    """Cards for which PCIe stands in for a link that nobody states. What a user's own file leaves
    out is asked for instead.
    """
    alone = facts.scale_up_devices == 1 and (facts.technology or "").startswith("PCIe")
    return HOST_CARDS if alone and facts in _catalog_facts() else 0


@cache
def _catalog_facts() -> frozenset[HardwareFacts]:
    return frozenset(hardware_facts(name) for name in accelerator_names())


def resized(cluster: Cluster, devices: float) -> Cluster:
    """A cluster of the same accelerator with other devices, read anew where the catalog has it.

    Raises:
        InputError: if that cluster would use a link speed that is unknown.
    """
    name = accelerator_name(cluster.accelerator)
    if name is None or not devices < MOST_DEVICES:
        return cluster
    old = cluster.accelerator
    facts = replace(hardware_facts(name), scale_up_devices=int(float(old.scale_up_devices)))
    new = replace(_accelerator(facts, int(devices)), price_per_hour=old.price_per_hour)
    return Cluster(new, scalar(int(devices)))


def _numbers(accelerator: Accelerator) -> list[Any]:
    return [
        getattr(accelerator, field.name)
        for field in fields(Accelerator)
        if field.name not in _APART
    ]


def _key(numbers: list[Any]) -> tuple[float, ...]:
    return tuple(np.concatenate([np.atleast_1d(number) for number in numbers]).tolist())


_LOADED: dict[tuple[float, ...], str] = {}
"""Names of the accelerators that this process took from the catalog, so that not all are read."""


@cache
def _names_by_numbers() -> dict[tuple[float, ...], str]:
    return {_key(_numbers(load_accelerator(name))): name for name in accelerator_names()}


def _accelerator(facts: HardwareFacts, devices: float) -> Accelerator:
    inside, between = facts.scale_up_bandwidth, facts.scale_out_bandwidth
    cards = cards_of_a_host(facts)
    most = max(facts.scale_up_devices, cards)
    if between is None and devices > most:
        raise InputError(
            f"{facts.name}: no link speed is known beyond its domain of {facts.scale_up_devices}, "
            f"and {devices:g} devices need one; use at most {most}, or state scale_out.GBps in a "
            f"copy of its file"
        )
    if between is None and cards:
        between = inside
    return Accelerator(
        peak_flops=[facts.peak(arithmetic) for arithmetic in ARITHMETICS],
        memory_bytes=scalar(facts.memory_bytes),
        bandwidth=scalar(facts.bandwidth),
        scale_up_devices=scalar(facts.scale_up_devices),
        scale_up_bandwidth=scalar(inside or UNKNOWN_LINK),
        scale_out_bandwidth=scalar(between or UNKNOWN_LINK),
        mesh_peers=scalar(facts.mesh_peers or 0.0),
        torus_links=scalar(facts.torus_links or 0.0),
        arithmetic=_arithmetic(facts),
        price_per_hour=scalar(facts.price_per_hour or float("nan")),
        power_limit=scalar(facts.tdp or float("nan")),
    )


def _arithmetic(facts: HardwareFacts) -> np.ndarray:
    """The arithmetic of each format: the file's where it states one, else the usual one."""
    own = (getattr(facts, f"{name}_arithmetic", None) for name in FORMATS)
    pairs = zip(default_arithmetic(), own, strict=True)
    return np.array([usual if name is None else ARITHMETICS.index(name) for usual, name in pairs])


def _from_phrase(phrase: str) -> tuple[int, HardwareFacts, str]:
    said = read_phrase(phrase, accelerator_names())
    facts, name = hardware_facts(said.accelerator), _catalog_file(said.accelerator).stem
    if said.domains is None:
        return said.devices, facts, name
    devices = said.domains * said.devices
    if said.devices > facts.scale_up_devices:
        raise InputError(
            f"cluster '{one_line(phrase)[:60]}': {facts.name} has scale-up domains of at most "
            f"{facts.scale_up_devices}; write {devices}x{said.accelerator}, or state "
            f"scale_up.devices in a copy of its file"
        )
    return devices, replace(facts, scale_up_devices=said.devices), name


def _from_file(path: Path) -> tuple[int, HardwareFacts]:
    table, where = read(path), str(path)
    refuse_unknown(table, ("accelerator", "devices"), where)
    chip = table.get("accelerator")
    if isinstance(chip, list):
        raise InputError(f"{where}: accelerator: {MIXED}")
    devices = checked("devices", table.get("devices"), COUNT, where)
    if isinstance(chip, dict):
        return devices, facts_of(chip, f"{where} [accelerator]")
    chip = checked("accelerator", chip, CHIP, where)
    try:
        return devices, hardware_facts(path.parent / chip if chip.endswith(".toml") else chip)
    except InputError as error:
        raise InputError(f"{where}: accelerator: {error}") from error


def _catalog_file(text: str) -> Path:
    name = one_line(text).lower()
    if name not in accelerator_names():
        raise unknown_name("accelerator", name, accelerator_names())
    return configs() / "hardware" / f"{name}.toml"


def at_price(cluster: Cluster, price: float | None) -> Cluster:
    """The cluster at another rental of a device [US dollar/hour]; None leaves the catalog's.

    Raises:
        InputError: if it is no positive number.
    """
    if price is None:
        return cluster
    if not 0 < price < float("inf"):
        raise InputError(f"price = {exactly(price)}: give a positive number of US dollars/hour")
    return eqx.tree_at(lambda c: c.accelerator.price_per_hour, cluster, scalar(price))
