"""Shadow prices on whole requests: what a little more of a budget or of a limit brings when
architecture and way of serving are chosen anew. The grid is discrete, so a slope would be zero
almost everywhere.

Of devices and their rental a little is one more replica's, or as many as the cluster has; of
training and of a time a tenth.
"""

from collections.abc import Iterator
from dataclasses import replace

import equinox as eqx

from qsopt.deployments.best import EQUAL
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
from qsopt.search.problem import UNITS as OBJECTIVE_UNITS
from qsopt.search.problem import DesignProblem
from qsopt.search.request_search import RequestSearch
from qsopt.search.solution import LESS_IS_BETTER, objective_value
from qsopt.serving.ranking import Option
from qsopt.spec.workload import NO_LIMIT
from qsopt.units import MILLISECOND

MORE = 0.1
"""Of a budget of training or a limit on time, the part by which it grows for its price."""

LIMITS = {"ttft": "ttft_limit", "tpot": "tpot_limit"}
"""Limits on time by what a plan reaches, which is of `RequestMetrics`, and its field of a
workload.
"""


def limit_prices(search: RequestSearch, option: Option, certify: float) -> Iterator[BudgetPrice]:
    """Prices of the limits on time that were given [objective's unit over ms].

    Args:
        search: that found the answer.
        option: the answer's plan.
        certify: candidates of ways of serving that may be enumerated in either search.
    """
    problem = search.scorer.problem
    for name, field in LIMITS.items():
        limit = float(getattr(problem.service.workload, field))
        if limit >= NO_LIMIT:
            continue
        longer = eqx.tree_at(
            lambda s, field=field: getattr(s.workload, field),
            problem.service,
            limit * (1.0 + MORE),
        )
        step = MORE * limit / MILLISECOND
        worth = _worth(search, replace(problem, service=longer), certify)
        used = float(getattr(option.reached, name)) / MILLISECOND
        yield _price(problem, name, limit / MILLISECOND, used, "ms", worth, step)


def budget_prices(search: RequestSearch, option: Option, certify: float) -> Iterator[BudgetPrice]:
    """Prices of every budget that was given, in the order of its fields; arguments as above."""
    problem = search.scorer.problem
    assert search.best is not None
    model = search.scorer.model(search.best.row)
    used = taken(problem.service, float(option.reached.used_devices), model, problem.tokens)
    for name, limit in problem.budgets.given.items():
        more = _more(problem, option, name)
        worth = 0.0 if more is None else _worth(search, problem_with(problem, more[0]), certify)
        step = None if more is None else more[1]
        yield _price(problem, name, limit, used[name], UNITS[name], worth, step)


def _price(
    problem: DesignProblem,
    name: str,
    limit: float,
    used: float,
    unit: str,
    worth: float,
    step: float | None,
) -> BudgetPrice:
    slope = worth / step if step else 0.0
    in_words = OBJECTIVE_UNITS[problem.objective]
    return BudgetPrice(name, limit, used, unit, slope, in_words, step, slope != 0.0)


def _more(problem: DesignProblem, option: Option, name: str) -> tuple[Budgets, float] | None:
    """The budgets with more of one, and how much more; None where it cannot bind."""
    budgets = problem.budgets
    if name == TRAINING:
        more = MORE * budgets.training_flops
        return replace(budgets, training_flops=budgets.training_flops + more), more
    if binding_devices(problem) != name:
        return None
    assert problem.unlimited is not None
    devices, plan = float(problem.service.cluster.devices), option.plan
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
