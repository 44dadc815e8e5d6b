"""`qsopt list`: what the catalog holds."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from qsopt.catalog.accelerators import accelerator_names, hardware_facts
from qsopt.catalog.models import load_model, model_facts, model_names
from qsopt.physics.parameters import parameter_count
from qsopt.quality import BAND, laws
from qsopt.quality.fit_range import short
from qsopt.report.records import to_json
from qsopt.report.text import show_rows

_COLUMNS = {
    "models": {
        "name": "model",
        "total": "total",
        "active": "active",
        "published_total": "published",
        "source": "source",
    },
    "hardware": {
        "name": "accelerator",
        "memory_bytes": "memory [byte]",
        "bandwidth_bytes_per_s": "bandwidth [byte/s]",
        "bf16_flops": "bf16 [FLOP/s]",
        "fp8_flops": "fp8 [FLOP/s]",
        "scale_up_devices": "domain",
        "scale_up_bytes_per_s": "link [byte/s]",
        "usd_per_hour": "US$/h",
    },
    "laws": {
        "name": "law",
        "in_band": "band",
        "uses_tokens": "needs tokens",
        "fitted_on": "fitted on",
        "source": "source",
    },
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
            print(to_json(rows))
        else:
            show_rows(rows, _COLUMNS[self.what])


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
                "source": facts.source,
                "doubt": facts.doubt,
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
