"""`qsopt list`: what the catalog holds."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro
from rich.markup import escape

from qsopt.catalog.accelerators import accelerator_names, hardware_facts
from qsopt.catalog.models import load_model, model_facts, model_names
from qsopt.physics.parameters import parameter_count
from qsopt.quality import BAND, laws
from qsopt.quality.fit_range import short
from qsopt.report.records import answer_json
from qsopt.report.text import console, show_rows
from qsopt.units import GB, TB, TFLOPS

_COLUMNS: dict[str, dict[str, tuple[str, float]]] = {
    "models": {
        "name": ("model", 1.0),
        "total": ("total [B]", GB),
        "active": ("active [B]", GB),
        "published_total": ("published [B]", GB),
        "published_active": ("active [B]", GB),
    },
    "hardware": {
        "name": ("accelerator", 1.0),
        "memory_bytes": ("GB", GB),
        "bandwidth_bytes_per_s": ("TB/s", TB),
        "bf16_flops": ("bf16", TFLOPS),
        "fp8_flops": ("fp8", TFLOPS),
        "fp4_flops": ("fp4", TFLOPS),
        "scale_up_devices": ("domain", 1.0),
        "scale_up_bytes_per_s": ("GB/s", GB),
        "usd_per_hour": ("US$/h", 1.0),
    },
    "laws": {
        "name": ("law", 1.0),
        "in_band": ("band", 1.0),
        "uses_tokens": ("needs tokens", 1.0),
        "fitted_on": ("fitted on", 1.0),
        "source": ("source", 1.0),
    },
}
"""Headings, and what a number is divided by to stand in the heading's unit."""

_NOTES = {
    "models": "parameters with all tables counted, and as published; sources and notes: --json",
    "hardware": "dense peaks in TFLOP/s; domain: devices joined by links of so many GB/s in one "
    "direction; * as announced; sources, doubts and dates of prices: --json",
    "laws": "band: whether a law counts in the band of docs/quality.md",
}


@dataclass(frozen=True)
class List:
    """Models, hardware or quality laws of the catalog."""

    what: Annotated[Literal["models", "hardware", "laws"], tyro.conf.Positional]
    """models, hardware or laws."""
    json: bool = False
    """Print JSON and nothing else to stdout."""

    def run(self) -> None:
        """Print the list."""
        rows = {"models": _models, "hardware": _hardware, "laws": _laws}[self.what]()
        if self.json:
            print(answer_json(rows))
        else:
            columns = _COLUMNS[self.what]
            scaled = [
                {key: _scaled(row[key], unit) for key, (_, unit) in columns.items()} for row in rows
            ]
            for row, told in zip(rows, scaled, strict=True):
                told["name"] += "*" * (row.get("status") is not None)
            show_rows(scaled, {key: heading for key, (heading, _) in columns.items()})
            console().print(escape(_NOTES[self.what]))


def _scaled(value: Any, unit: float) -> Any:
    """A number in the unit of its column, with the digits that people read."""
    if type(value) not in (int, float):
        return {True: "yes", False: "no"}.get(value, value) if type(value) is bool else value
    number = value / unit
    return f"{number:,.0f}" if number >= 1000.0 else f"{number:.4g}"


def _models() -> list[dict[str, Any]]:
    rows = []
    for name in model_names():
        count, facts = parameter_count(load_model(name)), model_facts(name)
        rows.append(
            {
                "name": name,
                "total": float(count.total),
                "active": float(count.active),
                "published_total": facts.published_total,
                "published_active": facts.published_active,
                "source": facts.source,
                "note": facts.note,
            }
        )
    return rows


def _hardware() -> list[dict[str, Any]]:
    rows = []
    for name in accelerator_names():
        facts = hardware_facts(name)
        rows.append(
            {
                "name": name,
                "memory_bytes": facts.memory_bytes,
                "bandwidth_bytes_per_s": facts.bandwidth,
                **{
                    f"{kind}_flops": getattr(facts, kind) for kind in ("bf16", "fp8", "fp4", "int8")
                },
                "scale_up_devices": facts.scale_up_devices,
                "scale_up_bytes_per_s": facts.scale_up_bandwidth,
                "scale_out_bytes_per_s": facts.scale_out_bandwidth,
                "tdp_watt": facts.tdp,
                "usd_per_hour": facts.price_per_hour,
                "price_note": facts.price_note,
                "price_date": facts.price_date,
                "status": facts.status,
                "grade": facts.grade,
                "source": facts.source,
                "doubt": facts.doubt,
                "date": facts.collected,
            }
        )
    return rows


def _laws() -> list[dict[str, Any]]:
    return [
        {
            "name": each.name,
            "in_band": each.name in BAND,
            "uses_tokens": each.uses_tokens,
            "fitted_on": ", ".join(
                f"{span.quantity} {short(span.low)}-{short(span.high)} {span.unit}".strip()
                for span in each.range
            ),
            "source": each.source,
        }
        for each in laws().values()
    ]
