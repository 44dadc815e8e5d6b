"""Budgets of devices, rental and training: what they leave, and what more of them is worth against
choosing the design anew with the budget moved.
"""

from dataclasses import replace
from functools import cache
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
import pytest
from search_problems import problem

import qsopt
from qsopt import InputError, load_cluster, load_model
from qsopt.lifetimes.training import SEQUENCE
from qsopt.physics.evaluate import compiled_metrics
from qsopt.physics.training import training_flops
from qsopt.search.architecture import with_architecture
from qsopt.search.budget_prices import budget_prices
from qsopt.search.budgets import BudgetPrice, Budgets, training_of
from qsopt.search.conflicts import conflicts
from qsopt.search.evaluator import Evaluator
from qsopt.search.optimize import optimize
from qsopt.search.polish import Polished, polished
from qsopt.search.problem import DesignProblem
from qsopt.search.refine import polished_at
from qsopt.search.relaxed import Relaxed, relaxed_problem
from qsopt.search.solution import Answer
from qsopt.search.variables import row_values

TOKENS = 2e12
MOVE = 0.01
PRICE = float(load_cluster("1xh100").accelerator.price_per_hour)
ENOUGH = 1e26

BUDGETS = {
    "devices": Budgets(devices=3.9, price_per_hour=100.0 * PRICE, training_flops=ENOUGH),
    "rental": Budgets(devices=4.0, price_per_hour=3.1 * PRICE),
    "training": Budgets(devices=8.0, training_flops=1.2e23),
}


def asked(name: str, objective: str = "throughput"):
    return problem("8xh100", budgets=BUDGETS[name], tokens=TOKENS, tpot=0.03, objective=objective)


class Case(NamedTuple):
    """The best design under a budget, and its relaxed optimum there."""

    question: DesignProblem
    relaxed: Relaxed
    answer: Answer
    optimum: Polished

    @property
    def start(self) -> dict[str, float]:
        return self.answer.architecture | {"batch": float(self.answer.deployment.batch)}

    def prices(self) -> tuple[BudgetPrice, ...]:
        return budget_prices(self.question, self.relaxed, self.optimum, self.answer)


@cache
def solved(name: str, objective: str = "throughput") -> Case:
    question = asked(name, objective)
    evaluator = Evaluator.for_problem(question)
    relaxed, variables = relaxed_problem(evaluator), question.architecture
    rows = evaluator.admission.candidates([variable.legal() for variable in variables])
    every = evaluator.designs(rows)
    design = every.single(every.index)
    values = row_values(variables, design.rows[0])
    model = with_architecture(question.reference, {n: np.asarray(v) for n, v in values.items()})
    reached = compiled_metrics(model, question.service, design.deployment)
    optimum = polished_at(evaluator, relaxed, design)
    assert optimum is not None
    return Case(question, relaxed, Answer(model, design.deployment, reached, values), optimum)


CASES = [
    ("devices", "throughput"),
    ("rental", "throughput"),
    ("training", "throughput"),
    ("training", "cost"),
    ("devices", "cost"),
]

LEAVES = {
    "devices": lambda r: r.service.cluster.devices,
    "price_per_hour": lambda r: r.service.cluster.devices,
    "training_flops": lambda r: r.ceilings.training,
}


def reached(case: Case, constraint: str, factor: float) -> float:
    """The objective of the design that is chosen anew where a budget is so many times as large."""
    leaf = LEAVES[constraint]
    here = np.asarray(float(np.asarray(leaf(case.relaxed))) * factor)
    end = polished(eqx.tree_at(leaf, case.relaxed, here), case.start, case.answer.deployment)
    assert end is not None
    throughput = float(np.exp(end.log_objective))
    if case.question.objective != "cost":
        return throughput
    rented = here if constraint in ("devices", "price_per_hour") else 8.0
    return PRICE * float(rented) / 3600.0 / throughput * 1e6


@pytest.mark.parametrize(("name", "objective"), CASES)
def test_a_price_is_what_a_moved_budget_brings(name: str, objective: str) -> None:
    """Within 2 % where the budget binds, and nothing where it does not; the budget larger by 1 %,
    as fewer devices would not hold the layout.
    """
    case = solved(name, objective)
    binds = {"devices": "devices", "rental": "price_per_hour", "training": "training_flops"}[name]
    for budget in case.prices():
        least = float(np.asarray(LEAVES[budget.constraint](case.relaxed)))
        unit = PRICE if budget.constraint == "price_per_hour" else 1.0
        ends = [reached(case, budget.constraint, factor) for factor in (1.0, 1.0 + MOVE)]
        brought = (ends[1] - ends[0]) / (MOVE * least * unit)
        expected = brought if budget.constraint == binds else 0.0
        rounding = 1e-6 * ends[0] / (least * unit)
        assert budget.multiplier == pytest.approx(expected, rel=0.02, abs=rounding)
        assert budget.active == (budget.multiplier != 0)
    worth = {budget.constraint for budget in case.prices() if budget.active}
    assert worth == (set() if (name, objective) == ("devices", "cost") else {binds})


def test_a_budget_leaves_the_part_of_the_cluster_that_it_pays_for() -> None:
    case, small = solved("devices"), problem("3xh100", tokens=TOKENS, tpot=0.03)
    one, other = (jax.tree.leaves(each.service) for each in (case.question, small))
    for here, there in zip(one, other, strict=True):
        np.testing.assert_array_equal(here, there)
    taken = {budget.constraint: budget.used for budget in case.prices()}
    answer = case.answer
    devices = float(answer.metrics.replicas) * float(answer.deployment.replica_devices)
    assert taken["devices"] == devices <= 3.0
    assert taken["price_per_hour"] == pytest.approx(devices * PRICE)
    assert taken["training_flops"] == pytest.approx(training_of(answer.model, TOKENS))


@pytest.mark.slow
def test_the_answer_of_a_search_keeps_its_budgets() -> None:
    solution = optimize(asked("training"), starts=16, certify=0)
    assert solution.best is not None
    spent = {budget.constraint: budget for budget in solution.budgets}
    assert 0.8 * 1.2e23 < spent["training_flops"].used <= 1.2e23
    assert spent["training_flops"].multiplier > 0 == spent["devices"].multiplier
    freed = optimize(replace(asked("training"), budgets=Budgets()), starts=16, certify=0)
    assert freed.value > solution.value


def test_a_design_keeps_the_budget_of_training_and_conflicts_name_it() -> None:
    evaluator = Evaluator.for_problem(asked("training"))
    rows = evaluator.admission.candidates([each.legal() for each in evaluator.problem.architecture])
    spent = evaluator.admission.sizes(rows).training
    assert 0 < spent.max() <= 1.2e23
    model = load_model("mixtral-8x7b")
    counted = training_of(model, TOKENS)
    assert counted == pytest.approx(float(training_flops(model, TOKENS, SEQUENCE)), rel=1e-12)
    active = 12.88e9  # published
    assert 6.0 * active * TOKENS == pytest.approx(counted, rel=0.1)
    nothing = problem(budgets=Budgets(training_flops=1e20), tokens=TOKENS)
    named = {
        conflict.constraint: conflict for conflict in conflicts(Evaluator.for_problem(nothing))
    }
    assert named["training_flops"].limit == 1e20
    assert named["training_flops"].value > 1e20


@pytest.mark.parametrize(
    ("budgets", "options", "words"),
    [
        ({"devices": 0.0}, {}, "max_devices = 0: give a positive"),
        ({"devices": 0.5}, {}, "one device or more"),
        ({"devices": float("nan")}, {}, "max_devices = nan"),
        ({"price_per_hour": 0.01}, {}, "one device costs"),
        ({"training_flops": -1.0}, {}, "max_training_flops = -1"),
        ({"devices": 2.0}, {"objective": "advantage"}, "an advantage has no budget"),
    ],
)
def test_budgets_without_meaning_are_refused(budgets, options, words) -> None:
    with pytest.raises(InputError, match=words):
        problem(budgets=Budgets(**budgets), **options)


def test_what_is_not_known_is_asked_for() -> None:
    def question(model: str, cluster: str, budgets: Budgets):
        return qsopt.design_problem(model, cluster, qsopt.Workload(4096), budgets=budgets)

    with pytest.raises(InputError, match="training tokens of the model are not known"):
        question("olmoe-1b-7b", "8xh100", Budgets(training_flops=1e24))
    with pytest.raises(InputError, match="no price is known"):
        question("mixtral-8x7b", "8xascend-910c", Budgets(price_per_hour=10.0))
