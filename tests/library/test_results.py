"""Results print as plain numbers, and say as a dictionary what the command prints for the same
question.
"""

import copy
import json
import pickle
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qsopt
from qsopt.cli import main
from qsopt.record import plain

NAME, PHRASE, WORKLOAD = "mixtral-8x7b", "2xh200", qsopt.Workload(8192.0)
LAYOUT = qsopt.Deployment(tensor=2, expert=2, batch=64)
WHERE = f"--model {NAME} --cluster {PHRASE} --context 8192"


def solution() -> qsopt.Solution:
    workload = qsopt.Workload(8192.0, tpot_limit=0.05)
    problem = qsopt.design_problem(NAME, PHRASE, workload, vary=["tp", "batch"])
    found = qsopt.optimize(problem, starts=2, certify=0)
    assert isinstance(found, qsopt.Solution)
    return found


def map_of_four() -> Any:
    service = qsopt.Service(qsopt.load_cluster(PHRASE), WORKLOAD, qsopt.load_efficiency("ideal"))
    x, y = (
        qsopt.axis(name, NAME, service, low, high, 2)
        for name, low, high in (("context", 1e3, 1e4), ("devices", 2.0, 4.0))
    )
    found = qsopt.phase_map(NAME, service, x=x, y=y)
    assert isinstance(found, qsopt.PhaseMap)
    return found


QUESTIONS: dict[str, tuple[Callable[[], Any], str]] = {
    "evaluate": (
        lambda: qsopt.evaluate(NAME, PHRASE, WORKLOAD, LAYOUT, "trtllm"),
        f"evaluate {WHERE} --tp 2 --batch 64 --way gathered --efficiency trtllm",
    ),
    "compare": (
        lambda: qsopt.compare(NAME, PHRASE, WORKLOAD, law="all"),
        f"compare {WHERE} --law all",
    ),
    "sensitivity": (
        lambda: qsopt.sensitivity(NAME, PHRASE, WORKLOAD, LAYOUT),
        f"sensitivity {WHERE} --tp 2 --batch 64 --way gathered",
    ),
    "crossovers": (
        lambda: qsopt.crossovers(NAME, PHRASE, WORKLOAD, over="context", low=1200.0, high=1400.0),
        f"crossover {WHERE} --over context --from 1200 --to 1400",
    ),
    "phase_map": (
        map_of_four,
        f"map {WHERE} --efficiency ideal --x context --x-from 1000 --x-to 10000 --x-points 2 "
        "--y devices --y-from 2 --y-to 4 --y-points 2",
    ),
    "optimize": (
        solution,
        f"optimize {WHERE} --tpot-ms 50 --vary tp,batch --starts 2 --certify 0".replace(
            "--model", "--like"
        ),
    ),
}


@cache
def result(name: str) -> Any:
    return QUESTIONS[name][0]()


@pytest.mark.parametrize("name", QUESTIONS)
def test_to_dict_is_the_json_of_the_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUESTIONS[name][1].split(), "--json"]) == 0
    printed, found = json.loads(capsys.readouterr().out), result(name).to_dict()
    assert printed.pop("schema_version") == 1
    for record in (printed, found):
        record.pop("seconds", None)
    assert list(found) == list(printed)
    assert json.loads(json.dumps(found)) == printed


@pytest.mark.parametrize("name", QUESTIONS)
def test_results_print_short_and_in_numbers(name: str) -> None:
    text = repr(result(name))
    assert not any(sign in text for sign in ("f32[", "f64[", "float64", "array("))
    assert len(text.splitlines()) <= 80
    assert max(map(len, text.splitlines())) <= 110


def test_records_print_in_numbers() -> None:
    cluster = qsopt.load_cluster(PHRASE)
    records = (
        (qsopt.load_model(NAME), ("mixtral-8x7b", "experts=8", "hidden=4096", "kv_cache=bf16")),
        (cluster, ("devices=2", "bandwidth=4.8e+12")),
        (WORKLOAD, ("Workload(decode_context=8192)",)),
        (LAYOUT, ("Deployment(tensor=2, expert=2, batch=64)",)),
        (qsopt.load_efficiency("fitted"), ("name='fitted'", "straggler=1")),
        (qsopt.Service(cluster, WORKLOAD, qsopt.ideal()), ("context=8192",)),
        (qsopt.number_format("fp8"), ("fp8",)),
        (qsopt.parameter_count(NAME), ("routed=45097156608",)),
    )
    for record, words in records:
        for word in words:
            assert word in repr(record), repr(record)


def test_traced_records_print_too() -> None:
    texts = []
    jax.jit(lambda context: texts.append(repr(qsopt.Workload(context))))(1.0)
    assert texts == ["Workload(decode_context=traced float64[])"]


def test_a_result_without_its_question_says_so() -> None:
    found = result("evaluate")
    layout = qsopt.Deployment(tensor=2)
    through = jax.jit(lambda context: qsopt.evaluate(NAME, PHRASE, qsopt.Workload(context), layout))
    for lost in (jax.tree.map(jnp.asarray, found), through(1.0), copy.copy(found)):
        with pytest.raises(qsopt.InputError, match="does not know its question"):
            lost.to_dict()
    assert float(pickle.loads(pickle.dumps(found)).throughput) == float(found.throughput)


def test_results_of_different_questions_stack() -> None:
    found = [qsopt.evaluate(NAME, phrase, WORKLOAD, LAYOUT) for phrase in (PHRASE, "4xh100")]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)
    np.testing.assert_array_equal(stacked.tpot, [one.tpot for one in found])


def test_records_become_dictionaries() -> None:
    assert WORKLOAD.to_dict() == {
        "decode_context": 8192.0,
        "prompt": None,
        "answer": None,
        "cached": 0.0,
        "tokens_per_step": 1.0,
        "acceptance": 1.0,
        "ttft_limit": 1e15,
        "tpot_limit": 1e15,
        "load": 0.0,
        "utilization": 0.9,
        "encoder_context": None,
    }
    assert plain({"a": (np.float64(1.0), float("nan")), "b": jnp.arange(2)}) == {
        "a": [1.0, None],
        "b": [0, 1],
    }
    assert json.dumps(qsopt.load_model(NAME).to_dict())
