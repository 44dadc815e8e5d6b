"""Who wins under usual limits on both times, and how both sides are launched there."""

from typing import Any

from qsopt.report.page.sides import PageSides
from qsopt.spec.workload import NO_LIMIT

LIMITS = (
    (None, None),
    (10.0, 0.1),
    (5.0, 0.05),
    (2.0, 0.03),
    (1.0, 0.02),
    (0.5, 0.015),
    (0.5, 0.01),
)
"""Longest time to the first token and per output token [s]; None for no limit."""


def limit_rows(sides: PageSides) -> list[dict[str, Any]]:
    """Winner, ratio, layouts and launch commands under each pair of limits, those of the question
    first.
    """
    workload = sides.inquiry.service.workload
    own = tuple(_seconds(float(each)) for each in (workload.ttft_limit, workload.tpot_limit))
    pairs = [own, *(pair for pair in LIMITS if pair != own)]
    return [_row(sides, pair, asked=pair == own) for pair in pairs]


def _seconds(limit: float) -> float | None:
    return None if limit >= NO_LIMIT else limit


def _row(sides: PageSides, pair: tuple[float | None, float | None], asked: bool) -> dict[str, Any]:
    ttft, tpot = (NO_LIMIT if each is None else each for each in pair)
    found = sides.at({"ttft": ttft, "tpot": tpot}, launch=True)
    return {**found, "ttft_limit": pair[0], "tpot_limit": pair[1], "asked": asked}
