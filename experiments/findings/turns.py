"""The answer length from which on a dense match serves more than an MoE, by the crossover finder,
within the context that the MoE was trained for, and its 80 % interval: where the ratio crosses 1
with the errors of measured ratios, on straight lines in logs between the answers that were looked
at.
"""

import numpy as np

from experiments.findings.sides import Asked, asked, at_law, outcome, sides
from experiments.framework.pieces import Row
from qsopt.catalog.models import trained_context
from qsopt.maps.crossover import Crossovers, Grid, crossovers
from qsopt.maps.pair import MatchedPair

LEAST, MOST = 64.0, 65536.0
"""Answers that are looked at [tokens]."""

GRID = Grid(points=6, finer=3, width=0.1)
"""A break-even is known to a tenth."""


def flags(model: str, match: str, cluster: str, prompt: float, cached: float, law: str = "") -> Row:
    """The question as flags of `qsopt compare`; the q of a law as published where one is named."""
    how = {"twin": match} if match in ("same-body", "released") else {"dense": match}
    answer = {"prompt": prompt, "answer": 1024.0}
    return {"model": model, "cluster": cluster, **how, **at_law(law), **answer, "cached": cached}


def break_even(
    model: str, match: str, cluster: str, prompt: float, cached: float, law: str = ""
) -> list[Row]:
    """The last answer length at which the verdict turns to dense, and the ratio at both ends."""
    question = flags(model, match, cluster, prompt, cached, law)
    case = asked(question)
    most = _longest(case, prompt)
    where = {"model": model, "match": match, "cluster": cluster, "prompt": prompt, "cached": cached}
    where |= {"law": law} if law else {}
    if most < 2.0 * LEAST:
        return []
    pair = MatchedPair(case.model, case.service, case.q, case.inquiry.kind, case.inquiry.named)
    found = crossovers(pair, "answer", LEAST, most, GRID)
    turn = _turn(found)
    near = asked(question | {"answer": turn["from"] or most})
    errors = outcome(near, *sides(near))
    return [
        {
            **where,
            "q": case.q,
            "shortest": LEAST,
            "longest": most,
            **turn,
            **_interval(found, errors),
        }
    ]


def _longest(case: Asked, prompt: float) -> float:
    """The longest answer within the trained context [tokens]."""
    trained = trained_context(case.question.model)
    return MOST if trained is None else float(min(MOST, trained - prompt))


def _turn(found: Crossovers) -> Row:
    last = found.crossings[-1] if found.crossings else None
    always = last is None and found.at_high.verdict in ("dense wins", "moe infeasible")
    turned = last is not None and last.direction == "to dense"
    return {
        "from": LEAST if always else last.value if last is not None and turned else None,
        "always": always,
        "crossings": len(found.crossings),
        "at_short": found.at_low.ratio,
        "at_long": found.at_high.ratio,
        "evaluated": found.evaluated,
    }


def _interval(found: Crossovers, errors: Row) -> Row:
    """The turn if the measured ratio were as high, and as low, as the interval of the predicted one
    reaches; None where dense wins nowhere, or there is no interval.
    """
    if errors["low"] is None:
        return {"from_low": None, "from_high": None}
    low, high = errors["low"] / errors["ratio"], errors["high"] / errors["ratio"]
    return {"from_low": _turn_at(found, high), "from_high": _turn_at(found, low)}


def _turn_at(found: Crossovers, factor: float) -> float | None:
    """The last answer from which on dense wins if all ratios are so many times as large."""
    fits = (found.throughputs > 0.0).all(axis=1)
    answers = np.log(found.values[fits])
    heights = np.log(found.throughputs[fits, 1] / found.throughputs[fits, 0] * factor)
    behind = np.flatnonzero(heights <= 0.0)
    if behind.size == 0:
        return LEAST
    last = int(behind[-1])
    if last == len(heights) - 1:
        return None
    share = heights[last] / (heights[last] - heights[last + 1])
    return float(np.exp(answers[last] + share * (answers[last + 1] - answers[last])))
