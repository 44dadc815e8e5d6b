"""The commands' JSON: its keys, and numbers that must agree with each other."""

import json
import shlex

import pytest
import tyro

from qsopt import InputError
from qsopt.cli.crossover import Crossover
from qsopt.cli.optimize import Optimize
from qsopt.cli.sensitivity import SensitivityCommand

COMMANDS = {
    "sensitivity": (
        SensitivityCommand,
        "--model mixtral-8x7b --cluster 4xh100 --context 8192 --batch 64 --tp 4",
        {"gradient", "elasticity", "at_largest_batch", "shadow_prices", "deployment"},
    ),
    "crossover": (
        Crossover,
        "--model mixtral-8x7b --cluster 4xh100 --over context --from 512 --to 32768",
        {"crossings", "at_low", "at_high", "edges", "q"},
    ),
    "optimize": (
        Optimize,
        "--like mixtral-8x7b --cluster 4xh100 --context 8192 --vary "
        "experts,top-k,expert_width,tp,dp,pp,ep,batch",
        {
            "best",
            "objective",
            "value",
            "relaxed_value",
            "certificate",
            "shadow_prices",
            "elasticities",
            "starts",
            "evaluations",
        },
    ),
}


def printed(capsys, name: str, more: str = "") -> str:
    command, words, _ = COMMANDS[name]
    tyro.cli(command, args=shlex.split(f"{words} {more}")).run()
    out = capsys.readouterr()
    assert out.err == ""
    return out.out


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=pytest.mark.slow if x == "optimize" else ()) for x in COMMANDS]
)
def test_json_has_its_keys_and_the_table_says_the_same(capsys, name):
    record = json.loads(printed(capsys, name, "--json"), parse_constant=pytest.fail)
    assert COMMANDS[name][2] <= set(record)
    if name == "sensitivity":
        assert set(record["gradient"]) == set(record["elasticity"])
        assert {"constraint", "multiplier", "unit"} <= set(record["shadow_prices"][0])
    if name == "crossover":
        assert all({"value", "direction"} <= set(crossing) for crossing in record["crossings"])
        assert record["at_low"]["value"] == 512
    if name == "optimize":
        assert record["value"] == pytest.approx(record["best"]["throughput_tokens_per_s"])
        assert set(record["best"]["architecture"]) == {"experts", "top_k", "expert_width"}
        assert set(record["certificate"]) >= {"enumerated", "exact_optimum", "gap", "complete"}
        assert "seconds" not in record, "answers of one question are the same bytes"
        assert record["certificate"]["complete"]
    assert "mixtral-8x7b" in printed(capsys, name)


def test_no_answer_is_told_not_raised(capsys):
    record = json.loads(printed(capsys, "optimize", "--tpot-ms 0.1 --json"))
    assert record["best"] is None
    assert [conflict["constraint"] for conflict in record["conflicts"]] == ["tpot"]
    assert "tpot" in printed(capsys, "optimize", "--tpot-ms 0.1")


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("optimize", "--q 3", "needs a law"),
        ("optimize", "--starts 0", "starts = 0"),
        ("crossover", "--to 100", "smaller"),
    ],
)
def test_bad_questions_are_refused(capsys, name, more, words):
    with pytest.raises(InputError, match=words):
        printed(capsys, name, more)
