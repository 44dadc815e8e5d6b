"""Accelerators by name and clusters by a phrase such as `8xh100`, from TOML files that anyone can
copy and edit.

Their form is that of `hardware_file`. A link speed that a file lacks is refused where a cluster
would use it. The figures of each file in `configs/hardware` carry
their source, doubt and grade there.
"""

import re
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from qsopt.arrays import is_concrete, scalar
from qsopt.catalog.folder import configs
from qsopt.catalog.hardware_file import (
    CHIP,
    COUNT,
    HardwareFacts,
    checked,
    facts_of,
    one_line,
    read,
    refuse_unknown,
)
from qsopt.errors import InputError, unknown_name
from qsopt.spec.formats import ARITHMETICS, FORMATS, default_arithmetic
from qsopt.spec.hardware import Accelerator, Cluster

_MOST = 1e9
"""A phrase names fewer devices."""


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

    A link speed that the file lacks and that cluster does not use is some finite number.

    Raises:
        InputError: if the name is unknown, the file is wrong, or it lacks a link speed that the
            cluster would use.
    """
    return _accelerator(hardware_facts(which), devices)


def load_cluster(which: str | Path) -> Cluster:
    """The cluster that a phrase names (`8xmi300x`; a bare `h200` is one device), or that a `.toml`
    file describes.

    A file states `devices = 16` and `accelerator = "h100"`, the name of a file beside it, or a
    table `[accelerator]` as in `configs/hardware`.

    Raises:
        InputError: if the phrase or the file is wrong, or a link speed that the cluster would use
            is unknown.
    """
    devices, facts = (
        _from_file(Path(which)) if str(which).endswith(".toml") else _from_phrase(str(which))
    )
    return Cluster(_accelerator(facts, devices), scalar(devices))


def accelerator_name(accelerator: Accelerator) -> str | None:
    """The catalog's name of an accelerator, found by its numbers (its price apart); None for any
    other.

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
    return _names_by_numbers().get(_key(numbers))


def resized(cluster: Cluster, devices: float) -> Cluster:
    """A cluster of the same accelerator with other devices, read anew where the catalog has it.

    Raises:
        InputError: if that cluster would use a link speed that is unknown.
    """
    name = accelerator_name(cluster.accelerator)
    known = name is not None and devices < _MOST
    return load_cluster(f"{int(devices)}x{name}") if known else cluster


def _numbers(accelerator: Accelerator) -> list[Any]:
    return [
        getattr(accelerator, field.name)
        for field in fields(Accelerator)
        if field.name != "price_per_hour"
    ]


def _key(numbers: list[Any]) -> tuple[float, ...]:
    return tuple(np.concatenate([np.atleast_1d(number) for number in numbers]).tolist())


@cache
def _names_by_numbers() -> dict[tuple[float, ...], str]:
    return {_key(_numbers(load_accelerator(name))): name for name in accelerator_names()}


def _accelerator(facts: HardwareFacts, devices: float) -> Accelerator:
    inside, between = facts.scale_up_bandwidth, facts.scale_out_bandwidth
    if between is None and devices > facts.scale_up_devices:
        raise InputError(
            f"{facts.name}: no link speed is known beyond its domain of {facts.scale_up_devices}, "
            f"and {devices:g} devices"
            f" need one; use at most {facts.scale_up_devices}, or state scale_out.GBps in a copy "
            f"of its file"
        )
    return Accelerator(
        peak_flops=[facts.peak(arithmetic) for arithmetic in ARITHMETICS],
        memory_bytes=scalar(facts.memory_bytes),
        bandwidth=scalar(facts.bandwidth),
        scale_up_devices=scalar(facts.scale_up_devices),
        scale_up_bandwidth=scalar(inside or between or facts.bandwidth),
        scale_out_bandwidth=scalar(between or inside or facts.bandwidth),
        mesh_peers=scalar(facts.mesh_peers or 0.0),
        torus_links=scalar(facts.torus_links or 0.0),
        arithmetic=_arithmetic(facts),
        price_per_hour=scalar(facts.price_per_hour or float("nan")),
    )


def _arithmetic(facts: HardwareFacts) -> np.ndarray:
    """The arithmetic of each format: the file's where it states one, else the usual one."""
    own = (getattr(facts, f"{name}_arithmetic", None) for name in FORMATS)
    pairs = zip(default_arithmetic(), own, strict=True)
    return np.array([usual if name is None else ARITHMETICS.index(name) for usual, name in pairs])


def _from_phrase(phrase: str) -> tuple[int, HardwareFacts]:
    count, name = _named(phrase)
    return count, hardware_facts(name)


def _named(phrase: str) -> tuple[int, str]:
    text = one_line(phrase).lower()
    count, _, name = (part.strip() for part in text.partition("x"))
    counted = name in accelerator_names() or count.isdecimal()
    if text in accelerator_names() or not counted:
        return 1, text
    if not name or not re.fullmatch("0*[1-9][0-9]{0,8}", count):
        raise InputError(
            f"cluster '{text[:60]}': write a positive whole number of devices and an accelerator, "
            f"as in 8xh100"
        )
    return int(count), name


def _from_file(path: Path) -> tuple[int, HardwareFacts]:
    table, where = read(path), str(path)
    refuse_unknown(table, ("accelerator", "devices"), where)
    devices = checked("devices", table.get("devices"), COUNT, where)
    chip = table.get("accelerator")
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
