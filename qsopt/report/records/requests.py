"""A comparison on whole requests as a plain record."""

import dataclasses
from typing import Any

from qsopt.comparison.compare import Comparison
from qsopt.comparison.requests import RequestComparison, RequestSide
from qsopt.precision import in_float64
from qsopt.report.inquiry import Inquiry
from qsopt.report.records.comparison import twin_record
from qsopt.report.records.design import model_record
from qsopt.report.records.quality import belief_record
from qsopt.report.records.serving import (
    evaluate_request_record,
    request_violations,
    workload_record,
)

CHOSEN = "best way, layout and chunk"


@in_float64
def compare_requests_record(
    result: RequestComparison, inquiry: Inquiry, alone: Comparison
) -> dict[str, Any]:
    """Everything that `qsopt compare` says about requests.

    Args:
        result: the comparison on requests.
        inquiry: what was asked.
        alone: the comparison of both sides by decode alone.
    """
    held, workload = inquiry.believe(), inquiry.service.workload
    sides = {"moe": result.moe, "dense": result.dense}
    return {
        "model": inquiry.model_name,
        "cluster": inquiry.cluster_name,
        "question": "request",
        **workload_record(workload),
        **{name: _side(side, inquiry) for name, side in sides.items()},
        "reason": "; ".join(
            f"{name}: {_reason(side, inquiry)}"
            for name, side in sides.items()
            if not float(side.throughput)
        )
        or None,
        "s": float(result.numbers.s),
        "q": float(result.numbers.q),
        "qs": float(result.numbers.qs),
        "ratio_dense_over_moe": float(result.ratio),
        "verdict": result.verdict,
        "break_even_q": float(result.break_even_q),
        "flips": [flip._asdict() for flip in result.flips],
        "decode_alone": {
            "ratio_dense_over_moe": float(alone.ratio),
            "verdict": alone.verdict,
            "penalties": {
                name: float(getattr(alone.penalties, name))
                for name in alone.penalties.__dataclass_fields__
            },
        },
        "dense_twin": {
            "ffn_width": float(result.dense.model.decoder.ffn[0].kind.width),
            **model_record(result.dense.model),
        },
        "twin": twin_record(alone, inquiry.kind),
        **belief_record(held, inquiry.law_name),
        "efficiency": inquiry.efficiency_name,
    }


def _side(side: RequestSide, inquiry: Inquiry) -> dict[str, Any] | None:
    """The best way of one side; None where nothing keeps the limits."""
    if side.best is None or not float(side.throughput):
        return None
    asked = dataclasses.replace(inquiry, model=side.model, model_name=None, named=None, q=inquiry.q)
    return evaluate_request_record(side.best, asked, CHOSEN)


def _reason(side: RequestSide, inquiry: Inquiry) -> str:
    """Why nothing keeps the limits, told by the plan that comes closest."""
    if side.best is None:
        return "no layout fits the memory"
    broken = request_violations(inquiry.service, side.best.reached)
    return ", ".join(
        f"{row['constraint']} of the closest plan is {row['value']:.3g} {row['unit']} where "
        f"{row['limit']:.3g} are allowed"
        for row in broken
    )
