"""The form of a TOML file of an accelerator: what each field may hold, and errors that say what is
wrong.

A file holds the figures of a datasheet in its units; what nobody states is left out. A missing peak
is that of the next wider arithmetic (fp4 -> fp8 -> bf16 -> fp16, int8 -> bf16).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from qsopt.catalog.phrases import one_line
from qsopt.errors import InputError, unknown_name
from qsopt.files import read_toml
from qsopt.spec.formats import ARITHMETICS
from qsopt.units import GB, TFLOPS


class _Kind(NamedTuple):
    """What a field of a file may hold: the test, the words for an error, and what becomes of it."""

    accepts: Callable[[Any], bool]
    words: str
    convert: Callable[[Any], Any] = lambda value: value


def _positive(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < 1e30


_TEXT = _Kind(lambda value: isinstance(value, str) and value.strip() != "", "a text in quotes")
CHIP = _Kind(_TEXT.accepts, "a catalog name, the name of a .toml file or a table")
_DATE = _Kind(lambda value: type(value) is date, "a date without quotes such as 2026-11-22", str)
COUNT = _Kind(lambda value: type(value) is int and _positive(value), "a positive whole number")
_NUMBER = _Kind(_positive, "a positive finite number")
_SPEED = _Kind(_positive, _NUMBER.words, lambda value: value * GB)
_ARITHMETIC = _Kind(ARITHMETICS.__contains__, f"one of {', '.join(ARITHMETICS)}")
_PEAK = _Kind(_positive, _NUMBER.words, lambda value: value * TFLOPS)
ANNOUNCED = "announced"
_STATUS = _Kind(lambda value: value == ANNOUNCED, f'"{ANNOUNCED}", or leave it out')


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
    memory_bytes: int = _required("memory.bytes", COUNT)
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
    scale_up_devices: int = _required("scale_up.devices", COUNT)
    """Devices of one scale-up domain; 1 if there is none."""
    scale_up_bandwidth: float | None = _optional("scale_up.GBps", _SPEED)
    """Per device and direction inside the domain [byte/s]."""
    technology: str | None = _optional("scale_up.technology", _TEXT)
    topology: str | None = _optional("scale_up.topology", _TEXT)
    """Which devices are linked, and what one peer gets."""
    mesh_peers: int | None = _optional("scale_up.mesh_peers", COUNT)
    """Peers of a full mesh, each with its own share of the links; none behind a switch."""
    torus_links: int | None = _optional("scale_up.torus_links", COUNT)
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
    status: str | None = _optional("provenance.status", _STATUS)
    """`announced` where figures are the maker's before hardware shipped; else None."""
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


def read(path: Path) -> dict[str, Any]:
    """The table of a TOML file.

    Raises:
        InputError: if it cannot be read.
    """
    remedy = "give a catalog name, or a file like configs/hardware/h100.toml"
    return read_toml(path, remedy)


def facts_of(table: Mapping[str, Any], where: str) -> HardwareFacts:
    """The facts of a table.

    Args:
        table: of a file, or part of one.
        where: it stands, for errors.

    Raises:
        InputError: if a field is unknown, missing or wrong.
    """
    given = dict(_flat(table))
    refuse_unknown(given, [entry.metadata["key"] for entry in fields(HardwareFacts)], where)
    facts = HardwareFacts(
        **{entry.name: _value(entry, given, where) for entry in fields(HardwareFacts)}
    )
    if facts.bf16 is None and facts.fp16 is None:
        checked("peak_TFLOPS.bf16", None, _NUMBER, where)
    if facts.scale_up_devices > 1:
        checked("scale_up.GBps", facts.scale_up_bandwidth, _NUMBER, where)
    return facts


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Dotted keys and their values; an empty table stays, so that its name is checked too."""
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def refuse_unknown(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise an `InputError` for a field that has no meaning."""
    for key in sorted(set(given) - set(known)):
        raise InputError(f"{where}: {unknown_name('field', one_line(key), known)}")


def _value(entry: Field[Any], given: Mapping[str, Any], where: str) -> Any:
    key, kind = entry.metadata["key"], entry.metadata["kind"]
    if key not in given and entry.default is None:
        return None
    return kind.convert(checked(key, given.get(key), kind, where))


def checked(key: str, value: Any, kind: _Kind, where: str) -> Any:
    """A value that is there and of its kind, else an `InputError`."""
    if value is None:
        raise InputError(f"{where}: missing field {key}; write {kind.words}")
    if not kind.accepts(value):
        raise InputError(f"{where}: {key} = {one_line(repr(value))[:60]}; write {kind.words}")
    return value
