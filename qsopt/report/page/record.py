"""Everything that stands on the page of a comparison, as one record."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from qsopt.arrays import scalar
from qsopt.comparison.compare import COMPARED, settle
from qsopt.comparison.contenders import RequestSide, allowed, request_duel, rival
from qsopt.comparison.dense import dense_match
from qsopt.comparison.duel import throughput_of
from qsopt.comparison.requests import MOST_LAYOUTS, requests_of_context, settle_requests
from qsopt.precision import in_float64
from qsopt.record import name_of, plain
from qsopt.report.inquiry import Inquiry
from qsopt.report.page.budget import budget_record
from qsopt.report.page.grid import grid_record
from qsopt.report.page.limits import limit_rows
from qsopt.report.page.lines import decode_line, request_line
from qsopt.report.page.operators import operator_rows
from qsopt.report.page.sides import PageSides
from qsopt.report.page.sources import bibtex, provenance_rows
from qsopt.report.page.words import verdict_sentence
from qsopt.report.records.comparison import compare_record
from qsopt.report.records.requests import compare_requests_record
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model, routed_layers
from qsopt.spec.service import Service


class Answer(NamedTuple):
    """A comparison, and what the rest of a page needs of it."""

    record: dict[str, Any]
    moe: tuple[Model, Deployment] | None
    """Model and layout that writes; None where nothing keeps the limits."""
    dense: tuple[Model, Deployment] | None
    sides: PageSides | None
    """On requests; None where there are too many layouts for the requests beside a context."""
    at_q: Callable[[float], float | None]
    """The ratio against a match of another q."""
    match: Model


@in_float64
def page_record(inquiry: Inquiry, command: str, seed: int = 0) -> dict[str, Any]:
    """The content of a page.

    Args:
        inquiry: an MoE, what it is served on and for, and its dense match.
        command: that asks the same.
        seed: of the draws behind the probability that dense wins.

    Raises:
        InputError: if the model has no routed experts, or q leaves the match no feed-forward
            layers.
    """
    routed_layers(inquiry.model, COMPARED)
    requests = inquiry.service.workload.prompt is not None
    answer = _of_requests(inquiry) if requests else _of_steps(inquiry, seed)
    record = answer.record
    named = {"moe": answer.moe, "dense": answer.dense}
    placed = {name: side for name, side in named.items() if side is not None}
    errors = (
        budget_record(inquiry, (answer.moe, answer.dense), record, answer.at_q)
        if answer.moe is not None and answer.dense is not None
        else []
    )
    return plain(
        {
            "model": inquiry.model_name,
            "dense": name_of(inquiry.named),
            "cluster": inquiry.cluster_name,
            "verdict": verdict_sentence(record, inquiry),
            "comparison": record,
            "requests": None if answer.sides is None else _asked_of(answer.sides),
            "lines": _lines(inquiry, answer, requests),
            "grid": None if answer.sides is None else grid_record(answer.sides),
            "penalties": _waterfall(record["penalties"]),
            "operators": operator_rows(inquiry, placed),
            "limits": [] if answer.sides is None else limit_rows(answer.sides),
            "errors": errors,
            "provenance": provenance_rows(inquiry, record),
            "command": command,
            "bibtex": bibtex(),
        }
    )


def _of_requests(inquiry: Inquiry) -> Answer:
    q, kind = scalar(inquiry.believe().q), inquiry.kind
    result, duel = settle_requests(inquiry.model, inquiry.service, q, kind, inquiry.named)
    sides = PageSides(inquiry, duel)
    record = compare_requests_record(result, inquiry, duel)

    def at_q(other: float) -> float | None:
        match = dense_match(inquiry.model, scalar(other), kind)
        return PageSides(inquiry, rival(duel, match, inquiry.service, kind)).at()["ratio"]

    moe, dense = (_writes(side) for side in (result.moe, result.dense))
    return Answer(record, moe, dense, sides, at_q, result.dense.model)


def _writes(side: RequestSide) -> tuple[Model, Deployment] | None:
    """Model and layout that writes answers."""
    if side.best is None or not float(side.throughput):
        return None
    return side.model, side.best.plan.decode


def _of_steps(inquiry: Inquiry, seed: int) -> Answer:
    model, service, kind = inquiry.model, inquiry.service, inquiry.kind
    q = scalar(inquiry.believe().q)
    result, duel = settle(model, service, q, kind, inquiry.named)
    record = compare_record(result, inquiry, duel, seed)
    rate = float(result.moe.metrics.throughput) if bool(result.moe.feasible) else 0.0

    def at_q(other: float) -> float | None:
        reached = throughput_of(dense_match(model, scalar(other), kind), model, service)
        return reached / rate if rate and reached else None

    moe, dense = (
        (side.model, side.deployment) if bool(side.feasible) else None
        for side in (result.moe, result.dense)
    )
    sides = _beside(inquiry, result.dense.model, requests_of_context(service))
    return Answer(record, moe, dense, sides, at_q, result.dense.model)


def _beside(inquiry: Inquiry, match: Model, asked: Service) -> PageSides | None:
    """The requests beside a context; None on clusters with too many layouts."""
    layouts = allowed(inquiry.model, match, asked)
    if max(each.tensor.shape[0] for each in layouts) > MOST_LAYOUTS:
        return None
    duel = request_duel(inquiry.model, match, asked, inquiry.kind, layouts)
    fields = {name: getattr(inquiry, name) for name in inquiry.__dataclass_fields__}
    return PageSides(Inquiry(**{**fields, "service": asked}), duel)


def _asked_of(sides: PageSides) -> dict[str, float]:
    """The requests that the map, the limits and the line over answers are about."""
    workload = sides.inquiry.service.workload
    return {
        "prompt": float(np.asarray(workload.prompt)),
        "answer": float(np.asarray(workload.answer)),
    }


def _lines(inquiry: Inquiry, answer: Answer, requests: bool) -> list[dict[str, Any]]:
    first = [] if requests else [decode_line(inquiry, answer.match)]
    if answer.sides is None:
        return first
    names = ("prompt", "answer") if requests else ("answer",)
    return first + [request_line(answer.sides, name) for name in names]


def _waterfall(penalties: dict[str, float]) -> list[dict[str, Any]]:
    """Factors one after the other, and where each bar begins and ends; empty where a side is
    infeasible.
    """
    factors = list(penalties.values())
    if not all(math.isfinite(factor) and factor > 0.0 for factor in factors):
        return []
    ends = np.cumprod(factors)
    starts = [1.0, *ends[:-1].tolist()]
    rows = [
        {"cause": name, "factor": factor, "start": start, "end": end}
        for (name, factor), start, end in zip(penalties.items(), starts, ends.tolist(), strict=True)
    ]
    whole = float(ends[-1])
    return [*rows, {"cause": "ratio", "factor": whole, "start": 1.0, "end": whole}]
