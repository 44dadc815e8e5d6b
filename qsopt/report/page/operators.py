"""Where the time of a decode step goes, side by side."""

from typing import Any

import equinox as eqx
import numpy as np

from qsopt.comparison.twin import aligned
from qsopt.physics.evaluate import compiled_metrics
from qsopt.report.inquiry import Inquiry
from qsopt.report.records.design import breakdown_records
from qsopt.report.records.serving import decode_service
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model


def operator_rows(
    inquiry: Inquiry, sides: dict[str, tuple[Model, Deployment]]
) -> list[dict[str, Any]]:
    """Time of each operator of a decode step of both sides' layouts: of the step, and device time
    per output token, which is what throughput counts.

    Args:
        inquiry: what was asked.
        sides: model and layout that writes, by name.
    """
    service = inquiry.service
    if service.workload.prompt is not None:
        service = decode_service(service)
    rows = []
    for name, (model, layout) in sides.items():
        like = aligned(model, inquiry.model)
        held = eqx.tree_at(lambda d: d.batch, layout, np.asarray(float(layout.batch)))
        reached = compiled_metrics(like, service, held)
        tokens = float(layout.batch) * float(service.workload.tokens_per_step)
        devices = float(layout.replica_devices)
        rows += [
            {
                "side": name,
                "operator": row["operator"].replace("_", " "),
                "seconds": row["seconds"],
                "device_us_per_token": row["seconds"] * devices / tokens * 1e6,
                "bound": row["bound"],
            }
            for row in breakdown_records(reached.breakdown)
        ]
    return rows
