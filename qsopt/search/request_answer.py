"""The best architecture for whole requests, how good it is, and what its limits are worth."""

import time
from dataclasses import dataclass, field

import numpy as np

from qsopt.precision import in_float64
from qsopt.record import Result
from qsopt.search.budgets import (
    BudgetPrice,
)
from qsopt.search.certificate import Certificate
from qsopt.search.clock import CompileClock
from qsopt.search.conflicts import Conflict, conflicts
from qsopt.search.evaluator import Evaluator
from qsopt.search.optimize import STARTS, check_counts
from qsopt.search.problem import DesignProblem
from qsopt.search.request_prices import budget_prices, limit_prices
from qsopt.search.request_search import RequestSearch
from qsopt.search.solution import objective_value
from qsopt.search.variables import row_values
from qsopt.serving.answer import closest
from qsopt.serving.ranking import Option
from qsopt.spec.model import Model

ENUMERATED = 1e6
"""Candidates of ways of serving that a certificate enumerates where nothing else is asked for."""


@dataclass(frozen=True)
class RequestAnswer:
    """An architecture in a way of serving."""

    model: Model = field(repr=False)
    option: Option = field(repr=False)
    """The plan, and what it reaches."""
    architecture: dict[str, float]
    """Values of the free architecture variables."""


@dataclass(frozen=True, repr=False)
class RequestSolution(Result):
    """The answer of `optimize` on whole requests, and what is known about it."""

    best: RequestAnswer | None
    """None where no design keeps the limits."""
    value: float
    """The objective at the best design; NaN without one."""
    certificate: Certificate | None
    """None if none was asked for, or there is no answer."""
    budgets: tuple[BudgetPrice, ...]
    """What the answer takes of each budget, and what more of it is worth."""
    limits: tuple[BudgetPrice, ...]
    """The same of the limits on the time to first token and per token."""
    conflicts: tuple[Conflict, ...]
    """Why no model is admissible; empty where one is."""
    closest: RequestAnswer | None = field(repr=False)
    """Where nothing keeps the limits, the smallest model in the plan that comes closest."""
    starts: int
    """Architectures that the search began at."""
    evaluations: int
    """Candidates of ways of serving looked at by the search; the certificate's not counted."""
    seconds: dict[str, float]
    """Wall time by part [s]."""


@in_float64
def optimize_requests(
    problem: DesignProblem, seed: int = 0, starts: int = STARTS, certify: float | None = None
) -> RequestSolution:
    """The best legal design of a problem on whole requests.

    Args:
        problem: the question, with a workload of requests.
        seed: of the architectures that the search begins at.
        starts: their number.
        certify: candidates of ways of serving that may be enumerated, `ENUMERATED` if left out; 0
            for no certificate. An interrupt of the enumeration leaves the answer without one.

    Raises:
        InputError: if the seed, the starts or the candidates are out of range.
    """
    certify = ENUMERATED if certify is None else certify
    check_counts(seed, starts, certify)
    began, clock, search = time.perf_counter(), CompileClock(), RequestSearch.of(problem)
    first = search.starts(starts, seed)
    search.try_rows(first, "starting")
    search.improve()
    evaluations, found = search.scorer.evaluations, time.perf_counter() - began
    certificate = search.certify(certify) if search.best is not None and certify > 0 else None
    certified = time.perf_counter() - began - found
    answer = _answer(search)
    return RequestSolution(
        best=answer,
        value=objective_value(problem, search.merit) if answer is not None else float("nan"),
        certificate=certificate,
        budgets=() if answer is None else tuple(budget_prices(search, answer.option, certify)),
        limits=() if answer is None else tuple(limit_prices(search, answer.option, certify)),
        conflicts=() if len(first) else conflicts(Evaluator.for_problem(problem)),
        closest=_closest(search, first) if answer is None else None,
        starts=len(first),
        evaluations=evaluations,
        seconds={"compile": clock.seconds, "search": found, "certify": certified},
    )


def _answer(search: RequestSearch) -> RequestAnswer | None:
    best = search.best
    if best is None or best.option is None:
        return None
    values = row_values(search.admission.variables, best.row)
    return RequestAnswer(search.scorer.model(best.row), best.option, values)


def _closest(search: RequestSearch, rows: np.ndarray) -> RequestAnswer | None:
    """The smallest of some models in the plan that comes closest; None where memory holds none."""
    if not len(rows):
        return None
    row = rows[int(np.argmin(search.admission.sizes(rows).total))]
    model = search.scorer.model(row)
    served = search.scorer.contender(model)
    near = closest(served.served(search.scorer.problem.service), served.every, served.groups)
    values = row_values(search.admission.variables, row)
    return None if near is None else RequestAnswer(model, near, values)
