"""The ratio along one length, with what both sides run in everywhere."""

from typing import Any

import equinox as eqx
import numpy as np

from qsopt.comparison.compare import verdict
from qsopt.comparison.duel import best_of
from qsopt.deployments.optimum import Best
from qsopt.report.inquiry import Inquiry
from qsopt.report.page.sides import PageSides
from qsopt.report.records.design import deployment_record
from qsopt.report.records.intervals import central_ratio, of_dense, ratio_intervals, speed_errors
from qsopt.spec.model import Model
from qsopt.spec.service import Service

LENGTHS = {
    "prompt": 4.0 ** np.arange(4, 9),
    "answer": 4.0 ** np.arange(2, 8),
    "context": 2.0 ** np.arange(10, 21),
}
"""Where a line has points, beside the length that was asked about [tokens]."""


def _with(values: np.ndarray, own: float) -> list[float]:
    return sorted({*values.tolist(), own})


def request_line(sides: PageSides, what: str) -> dict[str, Any]:
    """The ratio on requests along the length of their prompt or answer."""
    own = float(np.asarray(getattr(sides.inquiry.service.workload, what)))
    rows = [{what: value, **sides.at({what: value})} for value in _with(LENGTHS[what], own)]
    return {"what": what, "own": own, "question": "request", "rows": rows}


def decode_line(inquiry: Inquiry, match: Model) -> dict[str, Any]:
    """The ratio of decode alone along the context."""
    own = float(inquiry.service.workload.context)
    rows = [_at_context(inquiry, match, value) for value in _with(LENGTHS["context"], own)]
    return {"what": "context", "own": own, "question": "decode", "rows": rows}


def _at_context(inquiry: Inquiry, match: Model, context: float) -> dict[str, Any]:
    service = eqx.tree_at(lambda s: s.workload.context, inquiry.service, np.asarray(context))
    moe, dense = (best_of(side, inquiry.model, service) for side in (inquiry.model, match))
    rates = float(moe.throughput), float(dense.throughput)
    row: dict[str, Any] = {
        "context": context,
        "verdict": verdict(*rates),
        "ratio": None,
        "interval": None,
    }
    if all(rates):
        row["ratio"] = rates[1] / rates[0]
        other = of_dense(inquiry, match), dense.deployment
        errors = speed_errors((inquiry, moe.deployment), other, requests=False)
        row["interval"] = central_ratio(ratio_intervals(row["ratio"], errors))
    for name, model, best in (("moe", inquiry.model, moe), ("dense", match, dense)):
        row[name] = _decode_side(model, service, best) if float(best.throughput) else None
    return row


def _decode_side(model: Model, service: Service, best: Best) -> dict[str, Any]:
    layout, rate, devices = best.deployment, float(best.throughput), float(service.cluster.devices)
    replicas = np.floor(devices / float(layout.replica_devices))
    record = deployment_record(model, service, layout, replicas)
    return {
        "tokens_per_s": rate,
        "tokens_per_s_per_device": rate / devices,
        "tpot_s": float(replicas * layout.batch) / rate,
        "layout": record["in_words"],
    }
