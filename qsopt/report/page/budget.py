"""Which errors make the interval of a ratio: each alone, on the same scale."""

import math
from collections.abc import Callable
from typing import Any

from qsopt.report.inquiry import Inquiry
from qsopt.report.records.intervals import of_dense, ratio_budget
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model

_WORDS = {
    "moe": "speed of the MoE as served",
    "dense": "speed of the dense model as served",
    "both": "both speeds, as measured to go together",
}


def budget_record(
    inquiry: Inquiry,
    sides: tuple[tuple[Model, Deployment], tuple[Model, Deployment]],
    record: dict[str, Any],
    at_q: Callable[[float], float | None],
) -> list[dict[str, Any]]:
    """Rows of what an error alone would make of the ratio: central 80 % intervals, and the range
    over the shapes of dense matches, which is no error but a choice.

    Args:
        inquiry: what was asked.
        sides: model and layout that writes, of the MoE and of the dense side.
        record: of the comparison.
        at_q: the ratio against a match of another q.
    """
    ratio = record["ratio_dense_over_moe"]
    if ratio is None:
        return []
    (_, moe), (match, dense) = sides
    placed = (inquiry, moe), (of_dense(inquiry, match), dense)
    speeds = ratio_budget(*placed, ratio, record["question"] == "request") or {}
    rows = [_row(_WORDS[name], ends) for name, ends in speeds.items()]
    if record["q_interval"] is not None:
        known = [found for found in map(at_q, record["q_interval"]) if found]
        rows += [_row("q, the size of a dense model of the same quality", known)] if known else []
    shapes = [row["ratio_dense_over_moe"] for row in record["matches"]]
    known = [value for value in shapes if value and math.isfinite(value)]
    if len(known) > 1:
        rows.append(_row("shape of the dense model (a choice)", known))
    return rows


def _row(what: str, ends: list[float]) -> dict[str, Any]:
    return {"what": what, "low": min(ends), "high": max(ends)}
