"""`intervals` and `expected_error` of the commands, and of the same questions in Python."""

from collections.abc import Callable
from typing import Any

import pytest

import qsopt
from qsopt.fitted.memory import COLUMNS, memory_fit

SERVED = "--model olmoe-1b-7b --cluster 1xh100"
COMPARED = "compare --model mixtral-8x7b --cluster 8xh100 --context 8192 --q 2 --json"


def assert_sound(record: dict[str, Any], names: set[str]) -> None:
    """Each interval has its ends in order, that of 50 % inside that of 80 %."""
    assert set(record["intervals"]) == names
    for name, ends in record["intervals"].items():
        assert list(ends) == ["50", "80"], name
        assert 0.0 <= ends["80"][0] <= ends["50"][0] < ends["50"][1] <= ends["80"][1], name


DECODE = {
    "throughput_tokens_per_s",
    "tokens_per_s_per_device",
    "tokens_per_s_per_user",
    "tpot_s",
    "joules_per_output_token",
    "room_bytes_per_device",
}


def test_evaluate(answer: Callable[..., Any]) -> None:
    layout = "--context 4096 --tp 1 --batch 32 --json"
    record = answer(f"evaluate {SERVED} {layout}")
    assert_sound(record, DECODE)
    low, high = record["intervals"]["tpot_s"]["50"]
    assert 0.0 < record["expected_error"]["step_time"] < 1.0
    assert high / low == pytest.approx((1 + record["expected_error"]["step_time"]) ** 2)
    found = qsopt.evaluate(
        "olmoe-1b-7b", "1xh100", qsopt.Workload(4096.0), qsopt.Deployment(batch=32)
    )
    assert found.to_dict()["intervals"] == record["intervals"]
    stranger = answer(f"evaluate --model olmoe-1b-7b --cluster 1xl40s {layout}")
    assert "errors of kernels added" in stranger["expected_error"]["basis"]
    ends = stranger["intervals"]["tpot_s"]["80"]
    assert ends[1] / ends[0] > high / low
    software = answer(f"evaluate {SERVED} {layout} --efficiency trtllm")
    assert_sound(software, DECODE - {"joules_per_output_token"})  # nobody measured its power
    bound = answer(f"evaluate {SERVED} {layout} --efficiency ideal")
    assert bound["intervals"] is bound["expected_error"] is None


def test_requests(answer: Callable[..., Any]) -> None:
    names = DECODE | {"end_to_end_s", "requests_per_s", "ttft_s"}
    asked = f"{SERVED} --prompt 1024 --answer 128 --efficiency vllm --json"
    record = answer(f"evaluate {asked} --tp 1 --batch 16")
    assert_sound(record, names)
    best = answer(f"serve {asked}")["best"]
    assert_sound(best, names)
    low, high = best["intervals"]["tokens_per_s_per_device"]["80"]
    longest, shortest = (
        best["end_to_end_s"] * best["tokens_per_s_per_device"] / end for end in (low, high)
    )
    assert best["intervals"]["end_to_end_s"]["80"] == pytest.approx([shortest, longest])


def test_room(answer: Callable[..., Any]) -> None:
    """Ends are as many bytes off as measured rooms were, wider where the model was not seen."""
    widths = {}
    for model in ("olmoe-1b-7b", "llama-3.1-8b"):
        record = answer(f"evaluate --model {model} --cluster 1xh100 --context 4096 --tp 1 --json")
        held = record["memory_bytes_per_device"]
        room, ends = record["room_bytes_per_device"], record["intervals"]["room_bytes_per_device"]
        assert 0.0 < room < held["usable"] - held["weights"]
        seen = COLUMNS[model != "llama-3.1-8b"]
        expected = memory_fit().room[seen]
        assert ends["80"] == pytest.approx([room + expected[0], room + expected[-1]])
        assert ends["50"] == pytest.approx([room + expected[1], room + expected[-2]])
        widths[model] = ends["80"][1] - ends["80"][0]
    assert widths["olmoe-1b-7b"] > widths["llama-3.1-8b"]
    assert memory_fit().room_interval(1.0, None) == {
        name: [0.0, pytest.approx(ends[1], abs=2.0)]
        for name, ends in (memory_fit().room_interval(2.0, None) or {}).items()
    }
    assert memory_fit().room_interval(-1.0, None) is None


def test_compare(answer: Callable[..., Any]) -> None:
    record = answer(COMPARED)
    assert_sound(record, {"ratio_dense_over_moe"})
    assert_sound(record["moe"], DECODE)
    assert_sound(record["matches"][0], {"ratio_dense_over_moe"})
    low, high = record["intervals"]["ratio_dense_over_moe"]["80"]
    sides = [
        record[name]["intervals"]["throughput_tokens_per_s"]["80"] for name in ("dense", "moe")
    ]
    apart = [(sides[0][1] / sides[0][0]), (sides[1][1] / sides[1][0])]
    assert high / low < apart[0] * apart[1]
    assert record["expected_error"]["dense"]["step_time"] > 0.0


def test_texts_have_the_interval_beside_the_number(run: Callable[..., Any]) -> None:
    text = run(f"evaluate {SERVED} --context 4096 --tp 1 --batch 32").out
    assert text.count("(80 %: ") == len(DECODE) - 1  # the room is that of the memory's own table
    text = run(COMPARED.removesuffix("--json")).out
    assert "times the throughput of the MoE (80 %: " in text


def test_compare_on_requests(answer: Callable[..., Any]) -> None:
    words = "--prompt 2048 --answer 256 --q 2 --efficiency vllm --json"
    record = answer(f"compare --model olmoe-1b-7b --cluster 1xh100 {words}")
    assert_sound(record, {"ratio_dense_over_moe"})
    assert_sound(record["dense"], DECODE | {"end_to_end_s", "requests_per_s", "ttft_s"})
    assert_sound(record["matches"][0], {"ratio_dense_over_moe"})
