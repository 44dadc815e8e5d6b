"""The search on whole requests: its answer against enumeration by `serve`, other objectives against
brute force over batches, budgets against questions with other budgets, and what is refused.
"""

import json
import re
import shlex
from dataclasses import replace
from functools import cache
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest
import tyro

from qsopt import InputError, Workload, load_cluster, load_efficiency, load_model
from qsopt.cli.optimize import Optimize
from qsopt.search import request_best
from qsopt.search.admission import Admission
from qsopt.search.budgets import Budgets
from qsopt.search.problem import DesignProblem, design_problem
from qsopt.search.request_answer import RequestSolution, optimize_requests
from qsopt.search.request_best import joules
from qsopt.search.request_scores import RequestScorer
from qsopt.search.solution import objective_value
from qsopt.search.variables import Variable
from qsopt.serving.answer import serving
from qsopt.serving.candidates import READER, WRITER
from qsopt.serving.metrics import compiled_request_metrics
from qsopt.serving.pairs import plan_of_pair
from qsopt.serving.trials import Rows, asked_once, asking
from qsopt.serving.ways import searched
from qsopt.spec.service import Service

MODEL = "mixtral-8x7b"
TOKENS = 2e12
PRICE = float(load_cluster("1xh200").accelerator.price_per_hour)

BOUNDS = {
    "experts": Variable("experts", 4, 16, "power_of_two"),
    "top_k": Variable("top_k", 1, 3),
    "expert_width": Variable("expert_width", 4096, 40960, step=4096),
}


def asked(objective: str = "throughput", cluster: str = "2xh200", **options: Any) -> DesignProblem:
    workload = Workload(prompt=1024.0, answer=256.0, ttft_limit=2.0, tpot_limit=0.05)
    service = Service(load_cluster(cluster), workload, load_efficiency("fitted"))
    usual = {"bounds": BOUNDS, "vary": tuple(BOUNDS), "tokens": TOKENS, "objective": objective}
    return design_problem(load_model(MODEL), service, **{**usual, **options})


@cache
def solved(objective: str = "throughput") -> RequestSolution:
    return optimize_requests(asked(objective), starts=2)


def admissible(problem: DesignProblem) -> np.ndarray:
    admission = Admission(problem)
    return admission.candidates([each.legal() for each in problem.architecture])


def test_the_answer_is_the_best_of_all_architectures_as_they_are_served() -> None:
    """Each of them by the function behind `qsopt serve`, without what the search drops."""
    problem, solution = asked(), solved()
    scorer = RequestScorer(problem)
    values = []
    for row in admissible(problem):
        served = scorer.contender(scorer.model(row))
        best = serving(
            served.served(problem.service), served.every, served.groups, 1, with_front=False
        ).best
        values.append(0.0 if best is None else float(best.reached.throughput))
    assert len(values) > 5
    assert solution.best is not None
    assert solution.value == pytest.approx(max(values), rel=1e-9)
    reached = solution.best.option.reached
    assert float(reached.throughput) == pytest.approx(solution.value, rel=1e-12)
    assert bool(reached.feasible)
    certificate = solution.certificate
    assert certificate is not None
    assert certificate.complete
    assert certificate.gap == pytest.approx(0.0, abs=1e-12)


def test_what_must_be_beaten_changes_no_answer() -> None:
    problem = asked()
    free, pressed = RequestScorer(problem), RequestScorer(problem)
    for row in admissible(problem)[::3]:
        merit = free.score(row).merit
        assert pressed.score(row, merit - 1e-6).merit == pytest.approx(merit, rel=1e-12)
        above, option = RequestScorer(problem).best(pressed.model(row), merit + 1e-6)
        assert (above, option) == (-np.inf, None)


@pytest.mark.parametrize("objective", ["per_user", "ttft", "energy"])
def test_other_objectives_against_every_batch(objective: str) -> None:
    """Over one pool at every number of units: no plan that keeps the limits is better."""
    problem = asked(objective)
    scorer = RequestScorer(problem)
    own = scorer.contender(problem.reference)
    served = own.served(problem.service)
    best = objective_value(problem, scorer.best(problem.reference)[0])
    ask = asking(served, asked_once(served), own.every, capped=False)
    single = np.flatnonzero(own.every.kind < min(WRITER, READER))
    least = np.inf
    for units in (1.0, 2.0, 3.0, 5.0, 8.0, 16.0, 40.0, 100.0, 200.0, 300.0, 400.0):
        tried = ask(Rows(0 * single, single), np.full(len(single), units)).trial
        spent = {"per_user": tried.pace.unit.seconds, "ttft": tried.ttft}.get(objective)
        if spent is None:
            spent = _joules(problem, own.every.layout, single, tried)
        least = min(least, float(np.min(np.where(tried.allowed, spent, np.inf))))
    assert np.isfinite(least)
    assert (1.0 / best if objective == "per_user" else best) <= least * (1.0 + 1e-9)


def _joules(problem: DesignProblem, layout: Any, rows: np.ndarray, tried: Any) -> np.ndarray:
    """By hand: power of each device, idle ones included, over tokens."""
    law, chip = RequestScorer(problem).wanted.power, problem.service.cluster.accelerator
    unit = tried.pace.unit
    share = law.idle + law.memory * unit.memory / unit.seconds
    share = np.minimum(share + law.compute * unit.compute / unit.seconds, 1.0)
    taken = jax.tree.map(lambda leaf: np.asarray(leaf)[rows], layout)
    used = tried.replicas * taken.replica_devices
    idle = float(problem.service.cluster.devices) - used
    return chip.power_limit * (used * share + idle * law.idle) / tried.value


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["cost", "per_user", "ttft", "energy"])
def test_an_objective_is_that_of_the_plan_and_the_best_of_the_grid(objective: str) -> None:
    problem, solution = asked(objective), solved(objective)
    scorer = RequestScorer(problem)
    merits = [scorer.score(row).merit for row in admissible(problem)]
    assert solution.value == pytest.approx(objective_value(problem, max(merits)), rel=1e-9)
    best = solution.best
    assert best is not None
    reached = best.option.reached
    known = {
        "cost": 2.0 * PRICE / 3600.0 / float(reached.throughput) * 1e6,
        "per_user": float(reached.per_user),
        "ttft": float(reached.ttft),
        "energy": solution.value,
    }
    assert solution.value == pytest.approx(known[objective], rel=1e-9)


@pytest.mark.parametrize(
    ("name", "budgets"),
    [
        ("devices", Budgets(devices=2.0, training_flops=1e26)),
        pytest.param("price_per_hour", Budgets(price_per_hour=2.5 * PRICE), marks=pytest.mark.slow),
        pytest.param("training_flops", Budgets(training_flops=1.2e23), marks=pytest.mark.slow),
    ],
)
def test_a_price_is_the_difference_of_two_optima(name: str, budgets: Budgets) -> None:
    problem = asked(cluster="4xh200", budgets=budgets)
    solution = optimize_requests(problem, starts=2)
    known = {budget.constraint: budget for budget in solution.budgets}
    price, limit = known[name], getattr(budgets, name)
    assert 0 < price.used <= limit * (1 + 1e-9)
    assert price.step is not None
    if name == "devices":
        small = optimize_requests(asked(), starts=2)
        assert solution.value == pytest.approx(small.value, rel=1e-12)
        assert (known["training_flops"].multiplier, known["training_flops"].active) == (0.0, False)
    more = limit + price.step if name != "price_per_hour" else 2.0 * PRICE + price.step
    larger = asked(cluster="4xh200", budgets=replace(budgets, **{name: more}))
    after = optimize_requests(larger, starts=8)
    brought = (after.value - solution.value) / price.step
    assert price.multiplier == pytest.approx(brought, rel=1e-9)
    assert price.active == (brought > 0)


@pytest.mark.parametrize("name", ["ttft", "tpot"])
def test_a_limit_on_time_has_the_price_of_two_optima(name: str) -> None:
    problem = asked()
    solution = optimize_requests(problem, starts=2)
    assert [each.constraint for each in solution.limits] == ["ttft", "tpot"]
    price = next(each for each in solution.limits if each.constraint == name)
    limit = float(getattr(problem.service.workload, f"{name}_limit"))
    assert 0 < price.used <= price.limit == pytest.approx(1e3 * limit)
    assert price.step is not None
    assert price.step == pytest.approx(100.0 * limit)
    longer = eqx.tree_at(
        lambda service: getattr(service.workload, f"{name}_limit"), problem.service, 1.1 * limit
    )
    after = optimize_requests(replace(problem, service=longer), starts=2)
    gain = after.value - solution.value
    assert gain >= 0.0
    assert price.multiplier == pytest.approx(gain / price.step, rel=1e-9, abs=1e-9)
    assert price.active == (price.multiplier > 0.0)
    if name == "tpot":
        assert price.active  # a longer step carries more sequences


def test_what_has_no_limit_has_no_price() -> None:
    free = Service(
        load_cluster("2xh200"), Workload(prompt=1024.0, answer=256.0), load_efficiency("fitted")
    )
    solution = optimize_requests(replace(asked(), service=free), starts=1, certify=0)
    assert solution.best is not None
    assert solution.limits == ()


def test_two_pools_take_the_least_energy_of_all_pairs() -> None:
    """Each pair of groups by the plan itself, evaluated anew."""
    problem = asked("energy", cluster="4xh200")
    scorer = RequestScorer(problem)
    own = scorer.contender(problem.reference)
    served = own.served(problem.service)
    result = searched(served, own.every, own.groups, keep=0.0)
    known = np.flatnonzero(result.pairs.requests > 0.0)
    assert len(known) > 10
    law = scorer.wanted.power
    found = request_best._joules_of_pairs(served, own.every, own.groups, result, law)
    assert np.isfinite(found[known]).all()
    assert np.isinf(np.delete(found, known)).all()
    for index in known[:: max(len(known) // 8, 1)]:
        plan = plan_of_pair(own.every, own.groups, result.found, result.pairs, int(index))
        reached = compiled_request_metrics(served, plan, way="disaggregated")
        assert found[index] == pytest.approx(joules(served, reached, law), rel=1e-9)
    best = scorer.best(problem.reference)[1]
    assert best is not None
    assert joules(served, best.reached, law) <= found.min() * (1.0 + 1e-9)


def test_no_answer_says_what_the_closest_breaks() -> None:
    limited = Workload(prompt=1024.0, answer=256.0, ttft_limit=2.0, tpot_limit=1e-4)
    service = Service(load_cluster("2xh200"), limited, load_efficiency("fitted"))
    problem = replace(asked(), service=service)
    solution = optimize_requests(problem, starts=1)
    assert solution.best is None
    assert np.isnan(solution.value)
    assert solution.closest is not None
    assert not bool(solution.closest.option.reached.meets_tpot)
    nothing = optimize_requests(asked(budgets=Budgets(training_flops=1e20)), starts=1)
    assert nothing.best is nothing.closest is None
    assert "training_flops" in {conflict.constraint for conflict in nothing.conflicts}


REQUESTS = (
    f"--like {MODEL} --cluster 2xh200 --prompt 1k --answer 256 --ttft-ms 2000 --tpot-ms 50 "
    "--vary top_k,experts --starts 2 --certify 2e4"
)


def run(capsys: pytest.CaptureFixture[str], more: str = "", words: str = REQUESTS) -> str:
    tyro.cli(Optimize, args=shlex.split(f"{words} {more}")).run()
    return capsys.readouterr().out


def test_the_command_says_it_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads(run(capsys, "--objective energy --json"), parse_constant=pytest.fail)
    assert record["question"] == "request"
    assert record["vary"] == ["experts", "top_k"]
    assert record["best"]["joules_per_output_token"] == pytest.approx(record["value"], rel=1e-9)
    assert set(record["beside"]) == {"reference", "dense_match"}
    assert record["value"] <= record["beside"]["reference"] * (1 + 1e-12)
    assert record["laws"]
    assert record["certificate"]["enumerated"] > 0
    assert "command" not in record["best"]


@pytest.mark.slow
def test_the_command_says_it_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "--max-devices 1")
    assert "beside it, each served its best way, reference" in text
    assert "budget of devices: 1 of 1 taken" in text
    assert re.search(r"TPOT: [\d.]+ of 50 ms; ", text)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("--objective advantage", "advantage: it is of a decode step"),
        ("--tp 2 --vary experts", "tp: on requests layouts and batches"),
        ("--minimize", "minimize is for the advantage"),
        ("--starts 0", "starts = 0"),
        ("--certify -1", "certify = -1"),
        ("--context 8k", "context"),
    ],
)
def test_what_has_no_answer_on_requests_is_refused(capsys, more: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        run(capsys, more)


def test_what_has_no_answer_on_a_decode_step_is_refused(capsys) -> None:
    words = f"--like {MODEL} --cluster 2xh200 --context 8k --objective ttft"
    with pytest.raises(InputError, match="objective = ttft: it is of whole requests"):
        run(capsys, "", words)
