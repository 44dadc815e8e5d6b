"""Accelerators by name and clusters by a phrase such as `8xh100`, from TOML files that anyone can
copy and edit.

A file holds the figures of a datasheet in its units; what nobody states is left out. A missing peak
is that of the next wider arithmetic (fp4 -> fp8 -> bf16 -> fp16, int8 -> bf16). A missing link
speed is refused where a cluster would use it. The figures of each file in `configs/hardware` carry
their source, doubt and grade there.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qsopt.arrays import is_concrete, scalar
from qsopt.catalog.folder import configs
from qsopt.errors import InputError, unknown_name
from qsopt.spec.formats import ARITHMETICS, FORMATS, default_arithmetic
from qsopt.spec.hardware import Accelerator, Cluster
from qsopt.units import GB, TFLOPS

_MOST = 1e9
"""A phrase names fewer devices."""


class _Kind(NamedTuple):
    """What a field of a file may hold: the test, the words for an error, and what becomes of it."""

    accepts: Callable[[Any], bool]
    words: str
    convert: Callable[[Any], Any] = lambda value: value


def _positive(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < 1e30


_TEXT = _Kind(lambda value: isinstance(value, str) and value.strip() != "", "a text in quotes")
_CHIP = _Kind(_TEXT.accepts, "a catalog name, the name of a .toml file or a table")
_DATE = _Kind(lambda value: type(value) is date, "a date without quotes such as 2026-11-22", str)
_COUNT = _Kind(lambda value: type(value) is int and _positive(value), "a positive whole number")
_NUMBER = _Kind(_positive, "a positive finite number")
_SPEED = _Kind(_positive, _NUMBER.words, lambda value: value * GB)
_ARITHMETIC = _Kind(ARITHMETICS.__contains__, f"one of {', '.join(ARITHMETICS)}")
_PEAK = _Kind(_positive, _NUMBER.words, lambda value: value * TFLOPS)


def _required(key: str, kind: _Kind) -> Any:
    return field(metadata={"key": key, "kind": kind})


def _optional(key: str, kind: _Kind) -> Any:
    return field(default=None, metadata={"key": key, "kind": kind})


@dataclass(frozen=True, kw_only=True)
class HardwareFacts:
    """What one accelerator's file states, in SI units; None where it is silent. Each field names
    its key in the file.
    """

    name: str = _required("name", _TEXT)
    """Product name."""
    vendor: str | None = _optional("vendor", _TEXT)
    architecture: str | None = _optional("architecture", _TEXT)
    memory_bytes: int = _required("memory.bytes", _COUNT)
    """Device memory as software sees it [byte]."""
    bandwidth: float = _required("memory.bandwidth_GBps", _SPEED)
    """Memory bandwidth [byte/s]."""
    memory_kind: str | None = _optional("memory.kind", _TEXT)
    bf16: float | None = _optional("peak_TFLOPS.bf16", _PEAK)
    """Dense matrix peak, as of all arithmetics below [FLOP/s]."""
    fp8: float | None = _optional("peak_TFLOPS.fp8", _PEAK)
    int8: float | None = _optional("peak_TFLOPS.int8", _PEAK)
    fp4: float | None = _optional("peak_TFLOPS.fp4", _PEAK)
    fp16: float | None = _optional("peak_TFLOPS.fp16", _PEAK)
    tf32: float | None = _optional("peak_TFLOPS.tf32", _PEAK)
    fp32: float | None = _optional("peak_TFLOPS.fp32", _PEAK)
    scale_up_devices: int = _required("scale_up.devices", _COUNT)
    """Devices of one scale-up domain; 1 if there is none."""
    scale_up_bandwidth: float | None = _optional("scale_up.GBps", _SPEED)
    """Per device and direction inside the domain [byte/s]."""
    technology: str | None = _optional("scale_up.technology", _TEXT)
    topology: str | None = _optional("scale_up.topology", _TEXT)
    """Which devices are linked, and what one peer gets."""
    mesh_peers: int | None = _optional("scale_up.mesh_peers", _COUNT)
    """Peers of a full mesh, each with its own share of the links; none behind a switch."""
    torus_links: int | None = _optional("scale_up.torus_links", _COUNT)
    """Links of a torus or ring, each to one neighbour."""
    scale_out_bandwidth: float | None = _optional("scale_out.GBps", _SPEED)
    """Per device and direction between domains [byte/s]."""
    scale_out_note: str | None = _optional("scale_out.note", _TEXT)
    int8_arithmetic: str | None = _optional("arithmetic.int8", _ARITHMETIC)
    """What products with weights of a format run in, where it is not the format's own usual
    arithmetic: a property of the accelerator and of the software for it.
    """
    int4_arithmetic: str | None = _optional("arithmetic.int4", _ARITHMETIC)
    mxfp4_arithmetic: str | None = _optional("arithmetic.mxfp4", _ARITHMETIC)
    nvfp4_arithmetic: str | None = _optional("arithmetic.nvfp4", _ARITHMETIC)
    arithmetic_note: str | None = _optional("arithmetic.note", _TEXT)
    """Where that stands."""
    tdp: float | None = _optional("power.tdp_W", _NUMBER)
    """Thermal design power [watt]."""
    price_per_hour: float | None = _optional("price.usd_per_hour", _NUMBER)
    """Rental of a device [US dollar/hour]."""
    price_note: str | None = _optional("price.note", _TEXT)
    price_date: str | None = _optional("price.date", _DATE)
    """When the price was listed."""
    source: str | None = _optional("provenance.source", _TEXT)
    """Where the figures stand."""
    doubt: str | None = _optional("provenance.doubt", _TEXT)
    """Where sources disagree, and what is unverified."""
    grade: str | None = _optional("provenance.grade", _TEXT)
    """A: two independent sources agree; B: one source, or they differ; C: mostly unverified."""
    collected: str | None = _optional("provenance.date", _DATE)
    """Date of the figures."""

    def peak(self, arithmetic: str) -> float:
        """Peak of this arithmetic, or of the next wider one that the file states [FLOP/s]."""
        wider = {"fp4": "fp8", "fp8": "bf16", "int8": "bf16", "bf16": "fp16"}
        return getattr(self, arithmetic) or self.peak(wider[arithmetic])


def accelerator_names() -> tuple[str, ...]:
    """Names of the catalog, sorted."""
    return tuple(sorted(path.stem for path in (configs() / "hardware").glob("*.toml")))


def hardware_facts(which: str | Path) -> HardwareFacts:
    """The facts of an accelerator of the catalog, or of a file that ends in `.toml`.

    Raises:
        InputError: if the name is unknown or the file is wrong.
    """
    path = Path(which) if str(which).endswith(".toml") else _catalog_file(str(which))
    return _facts(_read(path), str(path))


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
    text = _one_line(phrase).lower()
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
    table, where = _read(path), str(path)
    _refuse_unknown(table, ("accelerator", "devices"), where)
    devices = _checked("devices", table.get("devices"), _COUNT, where)
    chip = table.get("accelerator")
    if isinstance(chip, dict):
        return devices, _facts(chip, f"{where} [accelerator]")
    chip = _checked("accelerator", chip, _CHIP, where)
    try:
        return devices, hardware_facts(path.parent / chip if chip.endswith(".toml") else chip)
    except InputError as error:
        raise InputError(f"{where}: accelerator: {error}") from error


def _catalog_file(text: str) -> Path:
    name = _one_line(text).lower()
    if name not in accelerator_names():
        raise unknown_name("accelerator", name, accelerator_names())
    return configs() / "hardware" / f"{name}.toml"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); give an existing TOML file or a catalog "
            f"name"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: not valid TOML ({error}); compare with configs/hardware/h100.toml"
        ) from error


def _facts(table: Mapping[str, Any], where: str) -> HardwareFacts:
    given = dict(_flat(table))
    _refuse_unknown(given, [entry.metadata["key"] for entry in fields(HardwareFacts)], where)
    facts = HardwareFacts(
        **{entry.name: _value(entry, given, where) for entry in fields(HardwareFacts)}
    )
    if facts.bf16 is None and facts.fp16 is None:
        _checked("peak_TFLOPS.bf16", None, _NUMBER, where)
    if facts.scale_up_devices > 1:
        _checked("scale_up.GBps", facts.scale_up_bandwidth, _NUMBER, where)
    return facts


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Dotted keys and their values; an empty table stays, so that its name is checked too."""
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _refuse_unknown(given: Iterable[str], known: Iterable[str], where: str) -> None:
    for key in sorted(set(given) - set(known)):
        raise InputError(f"{where}: {unknown_name('field', _one_line(key), known)}")


def _value(entry: Field[Any], given: Mapping[str, Any], where: str) -> Any:
    key, kind = entry.metadata["key"], entry.metadata["kind"]
    if key not in given and entry.default is None:
        return None
    return kind.convert(_checked(key, given.get(key), kind, where))


def _checked(key: str, value: Any, kind: _Kind, where: str) -> Any:
    if value is None:
        raise InputError(f"{where}: missing field {key}; write {kind.words}")
    if not kind.accepts(value):
        raise InputError(f"{where}: {key} = {_one_line(repr(value))[:60]}; write {kind.words}")
    return value
