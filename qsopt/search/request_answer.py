"""The best architecture for whole requests, how good it is, and what its budgets are worth.

A budget's price is what a little more of it brings when architecture and way of serving are chosen
anew: of devices and their rental one more replica's, or as many as the cluster has; of training a
tenth. The grid is discrete, so a slope would be zero almost everywhere.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from qsopt.deployments.optimum import EQUAL
from qsopt.precision import in_float64
from qsopt.record import Result
from qsopt.search.budget_prices import binding_devices
from qsopt.search.budgets import (
    DEVICES,
    TRAINING,
    UNITS,
    BudgetPrice,
    Budgets,
    rental_of,
    taken,
)
from qsopt.search.certificate import Certificate
from qsopt.search.clock import CompileClock
from qsopt.search.conflicts import Conflict, conflicts
from qsopt.search.evaluator import Evaluator
from qsopt.search.optimize import STARTS, check_counts
from qsopt.search.problem import UNITS as OBJECTIVE_UNITS
from qsopt.search.problem import DesignProblem
from qsopt.search.request_search import RequestSearch
from qsopt.search.solution import LESS_IS_BETTER, objective_value
from qsopt.search.variables import row_values
from qsopt.serving.answer import closest
from qsopt.serving.ranking import Option
from qsopt.spec.model import Model

ENUMERATED = 1e6
"""Candidates of ways of serving that a certificate enumerates where nothing else is asked for."""

MORE = 0.1
"""Of a budget of training, the part by which it grows for its price."""


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
        budgets=() if answer is None else tuple(_budgets(search, answer, certify)),
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


# ---- budgets -------------------------------------------------------------------------------------


def _budgets(search: RequestSearch, answer: RequestAnswer, certify: float) -> Iterator[BudgetPrice]:
    """Every budget that was given, in the order of its fields."""
    problem = search.scorer.problem
    devices, unit = float(answer.option.reached.used_devices), OBJECTIVE_UNITS[problem.objective]
    used = taken(problem.service, devices, answer.model, problem.tokens)
    for name, limit in problem.budgets.given.items():
        more = _more(problem, answer, name)
        worth = 0.0 if more is None else _worth(search, problem_with(problem, more[0]), certify)
        step = None if more is None else more[1]
        slope = worth / step if step else 0.0
        yield BudgetPrice(name, limit, used[name], UNITS[name], slope, unit, step, slope != 0.0)


def _more(problem: DesignProblem, answer: RequestAnswer, name: str) -> tuple[Budgets, float] | None:
    """The budgets with more of one, and how much more; None where it cannot bind."""
    budgets = problem.budgets
    if name == TRAINING:
        more = MORE * budgets.training_flops
        return replace(budgets, training_flops=budgets.training_flops + more), more
    if binding_devices(problem) != name:
        return None
    assert problem.unlimited is not None
    devices, plan = float(problem.service.cluster.devices), answer.option.plan
    replica = min(float(each.replica_devices) for each in (plan.decode, plan.prefill))
    most = [value for key, value in budgets.devices_of(problem.unlimited).items() if key != name]
    paid = min(devices + replica, *most)
    if name == DEVICES:
        return replace(budgets, devices=paid), paid - devices
    rental = rental_of(problem.service)
    return replace(budgets, price_per_hour=paid * rental), (paid - devices) * rental


def problem_with(problem: DesignProblem, budgets: Budgets) -> DesignProblem:
    """The problem with other budgets."""
    whole = problem.service if problem.unlimited is None else problem.unlimited
    return replace(problem, budgets=budgets, service=budgets.within(whole))


def _worth(search: RequestSearch, larger: DesignProblem, certify: float) -> float:
    """What the objective gains in a problem that allows more, chosen anew from the answer on."""
    assert search.best is not None
    again = RequestSearch.of(larger)
    again.try_rows([search.best.row], "pricing")
    again.improve()
    if certify > 0 and again.best is not None:
        again.certify(certify)
    before, after = (objective_value(each.scorer.problem, each.merit) for each in (search, again))
    gain = before - after if larger.objective in LESS_IS_BETTER else after - before
    return after - before if gain > EQUAL * before else 0.0
