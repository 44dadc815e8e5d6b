"""The ratio along one length, with what both sides run in everywhere, and where the context that
the MoE was made for ends.
"""

from typing import Any

import equinox as eqx
import numpy as np

from qsopt.catalog.models import trained_context
from qsopt.comparison.compare import verdict
from qsopt.comparison.duel import best_of
from qsopt.deployments.best import Best
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
    workload = sides.inquiry.service.workload
    own = float(np.asarray(getattr(workload, what)))
    rows = [{what: value, **sides.at({what: value})} for value in _with(LENGTHS[what], own)]
    beside = float(np.asarray(workload.answer if what == "prompt" else workload.prompt))
    return _line(sides.inquiry, {"what": what, "own": own, "question": "request"}, rows, beside)


def decode_line(inquiry: Inquiry, match: Model) -> dict[str, Any]:
    """The ratio of decode alone along the context."""
    own = float(inquiry.service.workload.context)
    rows = [_at_context(inquiry, match, value) for value in _with(LENGTHS["context"], own)]
    return _line(inquiry, {"what": "context", "own": own, "question": "decode"}, rows)


def _line(
    inquiry: Inquiry, line: dict[str, Any], rows: list[dict[str, Any]], beside: float = 0.0
) -> dict[str, Any]:
    """A line whose points say whether they lie beyond the context of the MoE's config.

    Args:
        inquiry: what was asked.
        line: which length, and the one that was asked about.
        rows: its points.
        beside: tokens of a request beside that length.
    """
    trained = trained_context(inquiry.model_name)
    end = None if trained is None else trained - beside
    marked = [
        {**row, "beyond_trained_context": end is not None and row[line["what"]] > end}
        for row in rows
    ]
    return {**line, "trained_end": end, "rows": marked}


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
