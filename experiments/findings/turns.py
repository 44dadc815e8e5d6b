"""The answer length from which on a dense match serves more than an MoE, by the crossover finder,
within the context that the MoE was trained for.
"""

from experiments.findings.sides import Asked, asked
from experiments.framework.pieces import Row
from qsopt.catalog.models import trained_context
from qsopt.maps.crossover import Crossovers, Grid, crossovers
from qsopt.maps.pair import MatchedPair

LEAST, MOST = 64.0, 65536.0
"""Answers that are looked at [tokens]."""

GRID = Grid(points=6, finer=3, width=0.1)
"""A break-even is known to a tenth."""


def flags(
    model: str, match: str, cluster: str, prompt: float, cached: float, law: str | None = None
) -> Row:
    """The question as flags of `qsopt compare`; the bare q of a law where one is named."""
    how = {"twin": match} if match in ("same-body", "released") else {"dense": match}
    how |= {"law": law, "law_raw": True} if law else {}
    answer = {"prompt": prompt, "answer": 1024.0}
    return {"model": model, "cluster": cluster, **how, **answer, "cached": cached}


def break_even(
    model: str, match: str, cluster: str, prompt: float, cached: float, law: str | None = None
) -> list[Row]:
    """The last answer length at which the verdict turns to dense, and the ratio at both ends."""
    case = asked(flags(model, match, cluster, prompt, cached, law))
    most = _longest(case, prompt)
    where = {"model": model, "match": match, "cluster": cluster, "prompt": prompt, "cached": cached}
    where |= {"law": law} if law else {}
    if most < 2.0 * LEAST:
        return []
    pair = MatchedPair(case.model, case.service, case.q, case.inquiry.kind, case.inquiry.named)
    found = crossovers(pair, "answer", LEAST, most, GRID)
    return [{**where, "q": case.q, "longest": most, **_outcome(found)}]


def _longest(case: Asked, prompt: float) -> float:
    """The longest answer within the trained context [tokens]."""
    trained = trained_context(case.question.model)
    return MOST if trained is None else float(min(MOST, trained - prompt))


def _outcome(found: Crossovers) -> Row:
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
