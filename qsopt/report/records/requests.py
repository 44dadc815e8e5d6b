"""A comparison on whole requests as a plain record."""

import dataclasses
from typing import Any

from qsopt.arrays import scalar
from qsopt.comparison.compare import verdict
from qsopt.comparison.contenders import RequestDuel, RequestSide, rival
from qsopt.comparison.dense import dense_match, kinds_of
from qsopt.comparison.duel import throughput_of
from qsopt.comparison.requests import RequestComparison, outcome
from qsopt.precision import in_float64
from qsopt.report.inquiry import Inquiry
from qsopt.report.records.comparison import overall, penalties_record, twin_record
from qsopt.report.records.design import model_record
from qsopt.report.records.intervals import Intervals, of_dense, ratio_intervals, speed_errors
from qsopt.report.records.quality import belief_record
from qsopt.report.records.serving import (
    decode_service,
    option_record,
    request_violations,
    workload_record,
)


@in_float64
def compare_requests_record(
    result: RequestComparison, inquiry: Inquiry, duel: RequestDuel
) -> dict[str, Any]:
    """Everything that `qsopt compare` says about requests.

    Args:
        result: the comparison.
        inquiry: what was asked, with the times of a server in its service.
        duel: behind the comparison.
    """
    sides = {"moe": result.moe, "dense": result.dense}
    return {
        "model": inquiry.model_name,
        "cluster": inquiry.cluster_name,
        "hardware_notes": inquiry.hardware_notes,
        "question": "request",
        **workload_record(inquiry.service.workload),
        "moe": _side(result.moe, inquiry),
        "dense": _side(result.dense, of_dense(inquiry, result.dense.model)),
        "reason": _reasons(sides, inquiry),
        "s": float(result.numbers.s),
        "q": float(result.numbers.q),
        "qs": float(result.numbers.qs),
        "ratio_dense_over_moe": float(result.ratio),
        "intervals": _intervals(result.moe, result.dense, float(result.ratio), inquiry),
        "verdict": result.verdict,
        "break_even_q": result.break_even_q,
        "penalties": penalties_record(result.penalties),
        "penalties_by_phase": {
            "prefill": penalties_record(result.causes.prefill),
            "decode": penalties_record(result.causes.decode),
        },
        "dense_twin": {
            "ffn_width": float(result.dense.model.decoder.ffn[0].kind.width),
            **model_record(result.dense.model),
        },
        "efficiency": inquiry.efficiency_name,
        "twin": twin_record(result.dense.model, inquiry.kind),
        **_matches(result, inquiry, duel),
        "flips": [flip._asdict() for flip in result.flips],
        "decode_alone": _decode_alone(result, inquiry),
        **belief_record(inquiry.believe(), inquiry.law_name),
    }


def _matches(result: RequestComparison, inquiry: Inquiry, duel: RequestDuel) -> dict[str, Any]:
    """Every dense match, each in its own best way, and whether they agree."""
    model, service = inquiry.model, inquiry.service
    made = dataclasses.replace(inquiry, named=None).believe().q if inquiry.named else None
    size = scalar(result.numbers.q if made is None else made)
    kinds = kinds_of(model) if inquiry.named is None else (*kinds_of(model), inquiry.kind)
    rows = []
    for kind in kinds:
        q, dense = result.numbers.q, result.dense
        if kind != inquiry.kind:
            match = dense_match(model, size, kind)
            q, dense = size, rival(duel, match, service, kind).dense.side(service)
        ratio, who = outcome(result.moe, dense)
        rows.append(
            {
                "twin": twin_record(dense.model, kind),
                "q": float(q),
                "dense": _side(dense, of_dense(inquiry, dense.model)),
                "ratio_dense_over_moe": ratio,
                "intervals": _intervals(result.moe, dense, ratio, inquiry),
                "verdict": who,
            }
        )
    return {"matches": rows, "verdict_overall": overall([row["verdict"] for row in rows])}


def _decode_alone(result: RequestComparison, inquiry: Inquiry) -> dict[str, Any]:
    """Both sides by the decode steps of these requests, as `--context` has them."""
    service = decode_service(inquiry.service)
    moe, dense = (
        throughput_of(side.model, inquiry.model, service) for side in (result.moe, result.dense)
    )
    ratio = dense / moe if moe and dense else None
    return {"ratio_dense_over_moe": ratio, "verdict": verdict(moe, dense)}


def _side(side: RequestSide, inquiry: Inquiry) -> dict[str, Any] | None:
    """The best way of one side, that the question is about; None where nothing keeps the
    limits.
    """
    if side.best is None or not float(side.throughput):
        return None
    return {**model_record(side.model), **option_record(side.best, inquiry)}


def _intervals(
    moe: RequestSide, dense: RequestSide, ratio: float, inquiry: Inquiry
) -> Intervals | None:
    """Of the ratio; None where a side has no way."""
    if moe.best is None or dense.best is None:
        return None
    sides = (
        (inquiry, moe.best.plan.decode),
        (of_dense(inquiry, dense.model), dense.best.plan.decode),
    )
    return ratio_intervals(ratio, speed_errors(*sides, requests=True))


def _reasons(sides: dict[str, RequestSide], inquiry: Inquiry) -> str | None:
    """Why nothing keeps the limits, side by side."""
    broken = {name: side for name, side in sides.items() if not float(side.throughput)}
    return "; ".join(f"{name}: {_reason(side, inquiry)}" for name, side in broken.items()) or None


def _reason(side: RequestSide, inquiry: Inquiry) -> str:
    """The limits that the plan breaks which comes closest."""
    if side.best is None:
        return "no layout holds the weights and one sequence"
    return ", ".join(
        f"{row['constraint']} of the closest plan is {row['value']:.3g} {row['unit']} where "
        f"{row['limit']:.3g} are allowed"
        for row in request_violations(inquiry.service, side.best.reached)
    )
