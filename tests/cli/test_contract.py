"""The contract of the command line: keys, types, exit status, and numbers that must agree with each
other.
"""

import itertools
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from qsopt.catalog.accelerators import accelerator_names
from qsopt.catalog.folder import configs
from qsopt.catalog.models import model_names

Answer = Callable[..., Any]

EVALUATE = (
    "qsopt evaluate --model deepseek-v3 --cluster 8xh200 --context 4096 --batch 128 --tp 1 "
    "--dp 8 --ep 8 --pp 1"
)
COMPARE = (
    "compare --model deepseek-v3 --cluster 8xmi300x --context 131072 --efficiency ideal "
    "--weight-dtype bf16 --twin same-body --json"
)

DESIGNS = {
    "mla moe": f"{EVALUATE} --efficiency fitted --json".removeprefix("qsopt "),
    "gqa moe": "evaluate --model mixtral-8x7b --cluster 8xh100 --context 4096 --batch 64 --tp 2 "
    "--json",
    "dense": "evaluate --model llama-3.1-70b --cluster 8xh200 --context 8192 --batch 32 --tp 4 "
    "--efficiency ideal --json",
    "pipeline": "evaluate --model mixtral-8x7b --cluster 9xh100 --context 1000 --batch 12 --pp 4 "
    "--utilization 0.8 --json",
    "hybrid": "evaluate --model qwen3-next-80b-a3b --cluster 4xh200 --context 65536 --tp 2 --json",
    "encoder": "evaluate --model switch-c --cluster 64xh200 --context 512 --encoder-context 256 "
    "--dp 64 --batch 64 --json",
    "speculative": "evaluate --model mixtral-8x7b --cluster 8xh100 --context 4096 "
    "--tokens-per-step 2.5 --tpot-ms 40 --json",
    "infeasible": "evaluate --model deepseek-v3 --cluster 8xh100 --context 4096 --batch 128 --dp "
    "8 --tpot-ms 1 --json",
}

KEYS = {
    "feasible": bool,
    "violations": list,
    "throughput_tokens_per_s": float,
    "tokens_per_s_per_device": float,
    "tokens_per_s_per_user": float,
    "tpot_s": float,
    "memory_bytes_per_device": dict,
    "max_batch": int,
    "reuse_tokens_per_weight_read": float,
    "experts_hit": float | None,
    "parameters": dict,
    "kv_bytes_per_token": float,
    "breakdown": list,
    "efficiency": str,
    "deployment": dict,
}

PARTS = ("weights", "kv_cache", "activations", "reserve")

UTILIZATION, TOLERANCE = 0.9, 1e-9


def flag(command: str, name: str, default: float) -> float:
    """The value of a flag on a command line."""
    words = command.split()
    return float(words[words.index(name) + 1]) if name in words else default


def check_design(record: dict[str, Any], command: str, devices: int) -> None:
    """Everything that must hold in the record of one design, whatever the design."""
    for key, kind in KEYS.items():
        assert isinstance(record[key], kind), key
    memory, layout = record["memory_bytes_per_device"], record["deployment"]
    assert {*PARTS, "total", "capacity", "usable"} <= set(memory)
    assert memory["total"] == pytest.approx(sum(memory[part] for part in PARTS))
    assert memory["usable"] == pytest.approx(
        memory["capacity"] * flag(command, "--utilization", UTILIZATION)
    )
    limit = flag(command, "--tpot-ms", math.inf) * 1e-3
    expected = {"memory"} if memory["total"] > memory["usable"] * (1 + TOLERANCE) else set()
    expected |= {"tpot"} if record["tpot_s"] > limit * (1 + TOLERANCE) else set()
    assert {row["constraint"] for row in record["violations"]} == expected
    assert record["feasible"] == (not expected)
    for row in record["violations"]:
        assert set(row) == {"constraint", "value", "limit", "unit"}
        assert row["value"] > row["limit"]
    assert (layout["batch"] <= record["max_batch"]) == ("memory" not in expected)
    check_layout(layout, devices)
    assert record["throughput_tokens_per_s"] == pytest.approx(
        layout["replicas"] * layout["batch"] / record["tpot_s"]
    )
    assert record["tokens_per_s_per_device"] == pytest.approx(
        record["throughput_tokens_per_s"] / devices
    )
    assert record["tokens_per_s_per_user"] == pytest.approx(1 / record["tpot_s"])
    assert 0 < record["parameters"]["active"] <= record["parameters"]["total"]
    check_breakdown(record["breakdown"], record["tpot_s"] * flag(command, "--tokens-per-step", 1.0))


def check_layout(layout: dict[str, Any], devices: int) -> None:
    assert {"tp", "dp", "pp", "ep", "etp", "batch", "way", "replicas"} <= set(layout)
    assert all(
        type(layout[size]) is int and layout[size] >= 1
        for size in ("tp", "dp", "pp", "ep", "etp", "batch", "replicas")
    )
    assert layout["ep"] * layout["etp"] == layout["tp"] * layout["dp"]
    assert layout["replicas"] == devices // (layout["tp"] * layout["dp"] * layout["pp"])
    assert layout["batch"] % (layout["dp"] * layout["pp"]) == 0
    assert layout["way"] in ("gathered", "dispatched")
    assert layout["way"] == "gathered" or layout["ep"] > 1


def check_breakdown(rows: list[dict[str, Any]], step: float) -> None:
    assert sum(row["share"] for row in rows) == pytest.approx(1, rel=1e-9)
    assert sum(row["seconds"] for row in rows) == pytest.approx(step, rel=1e-9)
    for row in rows:
        assert set(row) == {"operator", "seconds", "share", "flops", "bytes", "bound"}
        assert row["bound"] in ("compute", "memory", "link", "latency")
        assert row["seconds"] > 0
        assert row["flops"] >= 0
        assert row["bytes"] >= 0


def devices_of(command: str) -> int:
    words = command.split()
    return int(words[words.index("--cluster") + 1].split("x")[0])


# ---- evaluate ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DESIGNS)
def test_design_record(answer: Answer, name: str) -> None:
    record = answer(DESIGNS[name])
    check_design(record, DESIGNS[name], devices_of(DESIGNS[name]))
    assert record["feasible"] == (name != "infeasible")


def test_documented_command(answer: Answer) -> None:
    record = answer(DESIGNS["mla moe"])
    layout = {"tp": 1, "dp": 8, "pp": 1, "ep": 8, "etp": 1, "batch": 128, "replicas": 1}
    assert {key: record["deployment"][key] for key in layout} == layout
    assert record["parameters"] == {"total": 671_026_419_200, "active": 37_552_297_472}
    assert record["kv_bytes_per_token"] == 61 * 576 * 2
    assert record["efficiency"] == "fitted"
    assert record["reuse_tokens_per_weight_read"] == 128 * 8 / 256
    assert 8 < record["experts_hit"] < 256


def test_uniform_routing_hits_the_expected_number_of_experts(answer: Answer) -> None:
    record = answer(
        "evaluate --model mixtral-8x7b --cluster 2xh100 --context 4096 --batch 8 --tp 2 "
        "--efficiency ideal --json"
    )
    assert record["experts_hit"] == pytest.approx(8 * (1 - (1 - 2 / 8) ** 8))


def test_dense_model_hits_no_experts(answer: Answer) -> None:
    record = answer(DESIGNS["dense"])
    assert record["experts_hit"] is None
    assert record["reuse_tokens_per_weight_read"] == 32


@pytest.mark.parametrize(
    ("given", "layout"),
    [
        ("--tp 2", {"tp": 2, "dp": 1, "pp": 1, "ep": 2, "etp": 1}),
        ("--dp 8", {"tp": 1, "dp": 8, "pp": 1, "ep": 8, "etp": 1}),
        ("--pp 4", {"tp": 1, "dp": 1, "pp": 4, "ep": 1, "etp": 1}),
        ("--ep 1", {"tp": 1, "dp": 1, "pp": 1, "ep": 1, "etp": 1}),
        ("--tp 2 --dp 3", {"tp": 2, "dp": 3, "pp": 1, "ep": 2, "etp": 3}),
        ("--tp 4 --dp 2 --ep 2", {"tp": 4, "dp": 2, "pp": 1, "ep": 2, "etp": 4}),
        ("--tp 4 --etp 2", {"tp": 4, "dp": 1, "pp": 1, "ep": 2, "etp": 2}),
        ("--tp 4 --dp 2 --ep 4 --etp 2", {"tp": 4, "dp": 2, "pp": 1, "ep": 4, "etp": 2}),
        ("--tp 4 --pp 2", {"tp": 4, "dp": 1, "pp": 2, "ep": 4, "etp": 1}),
    ],
)
def test_sizes_left_out(answer: Answer, given: str, layout: dict[str, int]) -> None:
    record = answer(
        f"evaluate --model mixtral-8x7b --cluster 8xh200 --context 4096 --batch 24 {given} --json"
    )
    assert {key: record["deployment"][key] for key in layout} == layout
    assert record["chosen"] == "as given"


def test_expert_size_left_out_of_a_dense_model_is_one(answer: Answer) -> None:
    record = answer(
        "evaluate --model llama-3.1-70b --cluster 8xh200 --context 4096 --batch 4 --tp 4 --json"
    )
    assert record["deployment"]["ep"] == 1


def layouts_of_mixtral(devices: int) -> Iterable[str]:
    """Every legal layout of a model with 8 KV heads and 8 experts, written as flags."""
    for tp, dp, pp in itertools.product(range(1, devices + 1), repeat=3):
        if tp * dp * pp > devices or 8 % tp:
            continue
        for ep in (e for e in (1, 2, 4, 8) if tp * dp % e == 0):
            for way in ("gathered", "dispatched") if ep > 1 else ("gathered",):
                yield f"--tp {tp} --dp {dp} --pp {pp} --ep {ep} --way {way}"


@pytest.mark.parametrize("batch", ["", "--batch 12"])
def test_best_layout_is_the_best_of_all(answer: Answer, batch: str) -> None:
    case = f"evaluate --model mixtral-8x7b --cluster 4xh100 --context 4096 {batch} --json"
    best = answer(case)
    assert "best legal layout" in best["chosen"]
    rivals = [
        answer(f"{case} {given}")
        for given in layouts_of_mixtral(4)
        if not batch or 12 % (int(given.split()[3]) * int(given.split()[5])) == 0
    ]
    highest = max(rival["throughput_tokens_per_s"] for rival in rivals if rival["feasible"])
    assert best["throughput_tokens_per_s"] == pytest.approx(highest, rel=1e-8)


def test_largest_batch_fits_and_one_unit_more_does_not(answer: Answer) -> None:
    case = "evaluate --model mixtral-8x7b --cluster 8xh100 --context 4096 --tp 2 --dp 2 --json"
    largest = answer(case)
    batch = largest["deployment"]["batch"]
    assert "largest batch" in largest["chosen"]
    assert batch == largest["max_batch"]
    assert answer(f"{case} --batch {batch}")["feasible"]
    assert not answer(f"{case} --batch {batch + 2}")["feasible"]


def test_largest_batch_keeps_the_tpot_limit(answer: Answer) -> None:
    case = (
        "evaluate --model mixtral-8x7b --cluster 8xh100 --context 4096 --tp 2 --tpot-ms 20 --json"
    )
    record = answer(case)
    batch = record["deployment"]["batch"]
    assert record["tpot_s"] <= 0.02
    assert batch < record["max_batch"]
    assert not answer(f"{case} --batch {batch + 1}")["feasible"]


def test_way_left_out_is_the_faster(answer: Answer) -> None:
    case = "evaluate --model mixtral-8x7b --cluster 8xh100 --context 4096 --batch 64 --dp 8 --json"
    ways = {way: answer(f"{case} --way {way}") for way in ("gathered", "dispatched")}
    for way, record in ways.items():
        assert record["deployment"]["way"] == way
        check_design(record, case, 8)
    gathered, dispatched = (
        ways[way]["throughput_tokens_per_s"] for way in ("gathered", "dispatched")
    )
    assert gathered != dispatched
    assert answer(case)["throughput_tokens_per_s"] == max(gathered, dispatched)


FORMAT_BYTES = {
    "fp32": 4,
    "bf16": 2,
    "fp8": 1,
    "fp8_block": 1,
    "int8": 1,
    "nvfp4": 9 / 16,
    "mxfp4": 17 / 32,
    "int4": 33 / 64,
}


@pytest.mark.parametrize("model", ["deepseek-v3", "mixtral-8x7b"])
def test_weight_dtype_scales_all_weights(answer: Answer, model: str) -> None:
    case = (
        f"evaluate --model {model} --cluster 8xh200 --context 4096 --batch 8 --dp 8 "
        f"--efficiency ideal --json"
    )
    held = {
        name: answer(f"{case} --weight-dtype {name}")["memory_bytes_per_device"]
        for name in FORMAT_BYTES
    }
    for name, size in FORMAT_BYTES.items():
        assert held[name]["weights"] == pytest.approx(held["fp8"]["weights"] * size, rel=1e-12)
        assert held[name]["kv_cache"] == held["fp8"]["kv_cache"]


def test_weights_of_one_device_are_parameters_times_bytes(answer: Answer) -> None:
    record = answer(
        "evaluate --model mixtral-8x7b --cluster 1xmi300x --context 4096 --batch 1 --tp 1 --json"
    )
    assert record["memory_bytes_per_device"]["weights"] == pytest.approx(
        2 * record["parameters"]["total"], rel=1e-12
    )
    assert record["memory_bytes_per_device"]["kv_cache"] == pytest.approx(
        4096 * record["kv_bytes_per_token"], rel=1e-12
    )


def test_kv_dtype_scales_the_cache_only(answer: Answer) -> None:
    case = "evaluate --model deepseek-v3 --cluster 8xh200 --context 4096 --batch 128 --dp 8 --json"
    wide, narrow = answer(case), answer(f"{case} --kv-dtype fp8")
    assert (wide["kv_bytes_per_token"], narrow["kv_bytes_per_token"]) == (70272, 35136)
    memory, halved = wide["memory_bytes_per_device"], narrow["memory_bytes_per_device"]
    assert memory["kv_cache"] == 2 * halved["kv_cache"] == 16 * 4096 * 70272
    assert memory["weights"] == halved["weights"]


def test_dtype_names_have_aliases(answer: Answer) -> None:
    case = "evaluate --model mixtral-8x7b --cluster 8xh200 --context 4096 --batch 8 --tp 2 --json"
    assert answer(f"{case} --weight-dtype BF16") == answer(f"{case} --weight-dtype float16")


@pytest.mark.parametrize("folder", [False, True])
def test_model_as_path(answer: Answer, tmp_path: Path, folder: bool) -> None:
    shutil.copy(configs() / "models" / "mixtral-8x7b.json", tmp_path / "config.json")
    path = tmp_path if folder else tmp_path / "config.json"
    case = ["--cluster", "2xh100", "--context", "4096", "--batch", "8", "--tp", "2", "--json"]
    by_path, by_name = (
        answer("evaluate", "--model", str(model), *case) for model in (path, "Mixtral-8x7B")
    )
    assert by_path.pop("model") == str(path)
    by_name.pop("model")
    assert by_path == by_name


def test_cluster_and_efficiency_as_files(answer: Answer, tmp_path: Path) -> None:
    shutil.copy(configs() / "hardware" / "h100.toml", tmp_path / "mine.toml")
    shutil.copy(configs() / "efficiency" / "kernels.toml", tmp_path / "eta.toml")
    (tmp_path / "cluster.toml").write_text('devices = 2\naccelerator = "mine.toml"\n')
    case = [
        "evaluate",
        "--model",
        "mixtral-8x7b",
        "--context",
        "4096",
        "--batch",
        "8",
        "--tp",
        "2",
        "--json",
    ]
    own = answer(
        *case,
        "--cluster",
        str(tmp_path / "cluster.toml"),
        "--efficiency",
        str(tmp_path / "eta.toml"),
    )
    catalog = answer(*case, "--cluster", "2xh100", "--efficiency", "kernels")
    for key in KEYS.keys() - {"efficiency"}:
        assert own[key] == catalog[key]


@pytest.mark.parametrize("given", ["", "--batch 64", "--tp 1", "--tp 1 --batch 64"])
def test_infeasible_design_is_an_answer(answer: Answer, given: str) -> None:
    record = answer(f"evaluate --model mixtral-8x7b --cluster 1xh100 --context 4096 {given} --json")
    check_design(record, "", 1)
    assert not record["feasible"]
    (broken,) = record["violations"]
    memory = record["memory_bytes_per_device"]
    assert broken["constraint"] == "memory"
    assert (broken["value"], broken["limit"]) == (memory["total"], memory["usable"])
    assert record["max_batch"] < record["deployment"]["batch"]


def test_context_of_zero_is_an_answer(answer: Answer) -> None:
    record = answer(
        "evaluate --model mixtral-8x7b --cluster 2xh100 --context 0 --batch 8 --tp 2 --json"
    )
    assert record["feasible"]
    assert record["memory_bytes_per_device"]["kv_cache"] == 0


# ---- compare -------------------------------------------------------------------------------------


def check_comparison(record: dict[str, Any], command: str) -> None:
    """Everything that must hold in the record of a comparison in which both sides are feasible."""
    for side in ("moe", "dense"):
        check_design(record[side], command, devices_of(command))
        assert record[side]["feasible"]
    moe, dense, factors = record["moe"], record["dense"], record["penalties"]
    ratio = record["ratio_dense_over_moe"]
    assert ratio == pytest.approx(
        dense["throughput_tokens_per_s"] / moe["throughput_tokens_per_s"], rel=1e-9
    )
    assert {"reuse", "residency", "communication", "other"} <= set(factors)
    assert math.prod(factors.values()) == pytest.approx(ratio, rel=1e-9)
    assert record["qs"] == pytest.approx(record["q"] * record["s"], rel=1e-12)
    assert record["s"] == pytest.approx(
        moe["parameters"]["active"] / moe["parameters"]["total"], rel=1e-12
    )
    assert record["verdict"] == ("dense wins" if ratio > 1 else "moe wins")
    assert dense["parameters"]["total"] == dense["parameters"]["active"]
    # the twin's width is a multiple of 128, which moves its size a little
    assert dense["parameters"]["total"] == pytest.approx(
        record["q"] * moe["parameters"]["active"], rel=1e-2
    )
    assert dense["kv_bytes_per_token"] == moe["kv_bytes_per_token"]
    assert isinstance(record["law"], str)


def test_comparison_record(answer: Answer) -> None:
    record = answer(COMPARE)
    check_comparison(record, COMPARE)
    assert record["moe"]["memory_bytes_per_device"]["reserve"] == 0
    assert record["reason"] is None


def test_comparison_with_given_q(answer: Answer) -> None:
    case = (
        "compare --model mixtral-8x7b --cluster 8xh100 --context 4096 --q 2 --twin same-body --json"
    )
    record = answer(case)
    check_comparison(record, case)
    assert record["q"] == 2


def test_geometric_law(answer: Answer) -> None:
    case = (
        "compare --model mixtral-8x7b --cluster 8xh100 --context 4096 --law geometric "
        "--law-raw --twin same-body --json"
    )
    record = answer(case)
    check_comparison(record, case)
    assert record["q"] == pytest.approx(record["s"] ** -0.5, rel=1e-12)
    assert record["law"] == "geometric"


def test_moe_side_is_what_evaluate_finds(answer: Answer) -> None:
    case = "--model mixtral-8x7b --cluster 8xh100 --context 4096 --json"
    side = answer(f"compare {case} --q 2")["moe"]
    alone = answer(f"evaluate {case}")
    assert side["throughput_tokens_per_s"] == pytest.approx(
        alone["throughput_tokens_per_s"], rel=1e-8
    )


@pytest.mark.parametrize(("twin", "near"), [("same-body", 0.02), ("released", 0.05)])
def test_break_even_q_flips_the_verdict(answer: Answer, twin: str, near: float) -> None:
    """Of real sizes; whole layers, heads and widths of a released shape jump by more."""
    case = f"compare --model mixtral-8x7b --cluster 8xh100 --context 4096 --twin {twin} --json"
    flip = answer(f"{case} --q 2")["break_even_q"]
    assert answer(f"{case} --q {(1 - near) * flip}")["verdict"] == "dense wins"
    assert answer(f"{case} --q {(1 + near) * flip}")["verdict"] == "moe wins"


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        ("--model mixtral-8x7b --cluster 1xrtx-4090 --context 4096", "both infeasible"),
        ("--model mixtral-8x7b --cluster 1xh100 --context 4096", "moe infeasible"),
        ("--model mixtral-8x7b --cluster 8xh100 --context 4096 --q 100", "dense infeasible"),
        (
            "--model mixtral-8x7b --cluster 8xh100 --context 4096 --q 2 --tpot-ms 0.001",
            "both infeasible",
        ),
    ],
)
def test_infeasible_comparison_is_an_answer(answer: Answer, case: str, verdict: str) -> None:
    record = answer(f"compare {case} --json")
    gone = {
        "both infeasible": {"moe", "dense"},
        "moe infeasible": {"moe"},
        "dense infeasible": {"dense"},
    }[verdict]
    assert record["verdict"] == verdict
    assert {side for side in ("moe", "dense") if record[side] is None} == gone
    assert all(side in record["reason"] for side in gone)
    assert ("TPOT" if "--tpot-ms" in case else "GB") in record["reason"]
    assert record["ratio_dense_over_moe"] is None
    assert set(record["penalties"].values()) == {None}
    assert record["qs"] == pytest.approx(record["q"] * record["s"])


def test_plot_is_written_and_stdout_stays_pure(answer: Answer, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "ratio.png"
    case = [
        "compare",
        "--model",
        "mixtral-8x7b",
        "--cluster",
        "2xh100",
        "--context",
        "4096",
        "--q",
        "2",
        "--json",
        "--plot",
    ]
    assert answer(*case, str(path))["q"] == 2
    assert path.read_bytes().startswith(b"\x89PNG")


# ---- list ----------------------------------------------------------------------------------------


def test_list_models(answer: Answer) -> None:
    rows = answer("list models --json")
    assert [row["name"] for row in rows] == model_names()
    for row in rows:
        assert {"name", "total", "active", "published_total", "source"} <= set(row)
        assert row["total"] == pytest.approx(row["published_total"], rel=0.05)
        assert 0 < row["active"] <= row["total"]
        assert row["source"]


def test_list_hardware(answer: Answer) -> None:
    rows = answer("list hardware --json")
    assert tuple(row["name"] for row in rows) == accelerator_names()
    for row in rows:
        assert row["memory_bytes"] > 1e9
        assert row["bandwidth_bytes_per_s"] > 1e10
        assert row["source"]


# ---- text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            "evaluate --model mixtral-8x7b --cluster 8xh100 --context 4096 --tp 2",
            ("mixtral-8x7b", "tokens/s", "tp2", "fitted"),
        ),
        (
            "evaluate --model mixtral-8x7b --cluster 1xh100 --context 4096",
            ("infeasible", "memory", "times its limit"),
        ),
        (
            "evaluate --model llama-3.1-8b --cluster 1xh100 --context 4096 --batch 4",
            ("none: dense",),
        ),
        (
            "compare --model mixtral-8x7b --cluster 8xh100 --context 4096 --q 2 --twin same-body",
            (
                "verdict: dense wins",
                "q = 2.000",
                "would flip it",
                "of draws of them at q = 2.00",
            ),
        ),
        (
            "compare --model mixtral-8x7b --cluster 1xrtx-4090 --context 4096",
            ("verdict: both infeasible", "no deployment fits"),
        ),
        ("list models", ("deepseek-v3", "published")),
        ("list hardware", ("mi300x", "domain")),
    ],
)
def test_text(run: Callable[..., Any], command: str, words: tuple[str, ...]) -> None:
    outcome = run(command)
    assert (outcome.status, outcome.err) == (0, "")
    for word in words:
        assert word in outcome.out
    assert "\x1b" not in outcome.out


@pytest.mark.parametrize("name", ["model [v2]", "model[bold]", "model[", "a[/b]"])
def test_text_shows_paths_as_they_are(run: Callable[..., Any], tmp_path: Path, name: str) -> None:
    """Square brackets are markup to the library that prints tables."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(configs() / "models" / "mixtral-8x7b.json", path)
    outcome = run(
        *[
            "evaluate",
            "--cluster",
            "2xh100",
            "--context",
            "4096",
            "--batch",
            "8",
            "--tp",
            "2",
            "--model",
        ],
        str(path),
    )
    assert outcome.status == 0
    assert str(path) in outcome.out


# ---- as a process --------------------------------------------------------------------------------


def process(command: str, home: Path, **options: Any) -> subprocess.Popen[str]:
    program = str(Path(sys.executable).with_name("qsopt"))
    environment = {
        **os.environ,
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        **options,
    }
    words = [program, *command.removeprefix("qsopt ").split()]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_process_prints_only_json_and_writes_only_its_cache(tmp_path: Path) -> None:
    running = process(f"{EVALUATE} --efficiency fitted --json", tmp_path)
    out, err = running.communicate(timeout=120)
    assert (running.returncode, err) == (0, "")
    check_design(json.loads(out), "", 8)
    assert {path.name for path in tmp_path.iterdir()} <= {"cache"}


def test_process_refuses_in_one_line(tmp_path: Path) -> None:
    running = process(
        "evaluate --model deepseek-v33 --cluster 8xh200 --context 4096 --json", tmp_path
    )
    out, err = running.communicate(timeout=120)
    assert (running.returncode, out) == (2, "")
    assert err.startswith("error: unknown model 'deepseek-v33'")
    assert err.count("\n") == 1


@pytest.mark.parametrize("form", ["--json", ""])
def test_reader_that_stops_early_is_no_error(tmp_path: Path, form: str) -> None:
    """As in `qsopt list models | head -1`."""
    running = process(f"list models {form}", tmp_path)
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.close()
    err = running.stderr.read()
    running.stderr.close()
    assert (running.wait(timeout=120), err) == (0, "")


def test_numbers_with_units_are_the_numbers(answer: Answer) -> None:
    plain = answer(
        "evaluate --model mixtral-8x7b --cluster 16xh200 --context 8192 --batch 1024 --tp 8 "
        "--tpot-ms 2000 --utilization 0.9 --json"
    )
    units = answer(
        "evaluate --model mixtral-8x7b --cluster 2x8xh200 --context 8k --batch 1k --tp 8 "
        "--tpot-ms 2s --utilization 90% --json"
    )
    assert units.pop("cluster") == "2x8xh200"
    assert plain.pop("cluster") == "16xh200"
    assert units == plain


def test_power_price_and_what_is_not_known(answer: Answer) -> None:
    """Energy is power over throughput, a price replaces the catalog's, and a device without a
    power limit has a note instead.
    """
    case = "--model mixtral-8x7b --context 8k --batch 64 --json --price 3.6"
    record = answer(f"evaluate --cluster 8xh200 --tp 8 {case}")
    watts, joules = record["watts_per_device"], record["joules_per_output_token"]
    assert 300 < watts <= 700
    assert joules == pytest.approx(watts / record["tokens_per_s_per_device"])
    assert record["kwh_per_million_output_tokens"] == pytest.approx(joules / 3.6)
    dollars = 0.001 / record["tokens_per_s_per_device"] * 1e6
    assert record["cost_usd_per_million_tokens"] == pytest.approx(dollars)
    unknown = answer(f"evaluate --cluster 8xtpu-v6e --tp 8 {case}")
    assert unknown["watts_per_device"] is unknown["joules_per_output_token"] is None
    assert "power.tdp_W" in unknown["power_note"]
