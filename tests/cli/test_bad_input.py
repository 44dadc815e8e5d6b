"""Bad input ends with status 2, nothing on stdout, and one line on stderr that names the field and
the remedy.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qsopt.catalog.folder import configs

Run = Callable[..., Any]

EVALUATE = "evaluate --model mixtral-8x7b --cluster 8xh200 --context 4096 --json"
BATCH = f"{EVALUATE} --tp 2"
COMPARE = "compare --model mixtral-8x7b --cluster 8xh200 --context 4096 --json"

CROSSOVER = "crossover --model mixtral-8x7b --cluster 8xh200 --json"
MAP = "map --model mixtral-8x7b --cluster 8xh200 --json"

REMEDY = re.compile(
    r"\b(give|take|write|use|set|make|raise|add|remove|correct|compare|copy|state|download|begins"
    r"|at most|did you mean|known|legal here|expected|required|qsopt (?:\w+ )?--help|must|needs"
    r"|supported|positive|whole)\b",
    re.IGNORECASE,
)
"""What to do instead, or what would be right."""


def refused(outcome: Any, *words: str) -> None:
    """The outcome is one error line with these words."""
    assert outcome.status == 2, outcome.out[:300]
    assert outcome.out == ""
    assert outcome.err.startswith("error: ")
    assert outcome.err.endswith("\n")
    assert outcome.err.count("\n") == 1
    assert REMEDY.search(outcome.err), outcome.err
    for word in words:
        assert word.lower() in outcome.err.lower(), outcome.err


NAMES = [
    (f"{EVALUATE} --model mixtrl-8x7b", ("model", "'mixtrl-8x7b'", "mixtral-8x7b")),
    (f"{EVALUATE} --model deepseek", ("model", "deepseek-v3")),
    (f"{EVALUATE} --model no-such-folder/config.json", ("model", "config.json")),
    (f"{EVALUATE} --cluster 8xh20000", ("accelerator", "'h20000'", "h200")),
    (f"{EVALUATE} --cluster mi300", ("accelerator", "mi300x")),
    (f"{EVALUATE} --cluster 0xh200", ("cluster", "8xh100")),
    (f"{EVALUATE} --cluster -8xh200", ("accelerator",)),
    (f"{EVALUATE} --cluster 2.5xh200", ("accelerator",)),
    (f"{EVALUATE} --cluster 8x", ("cluster", "8xh100")),
    (f"{EVALUATE} --cluster 2x16xh200", ("cluster", "at most 8", "write 32xh200")),
    (f"{EVALUATE} --cluster 2x0xh200", ("cluster", "2x8xh200")),
    (f"{EVALUATE} --cluster 2x8x", ("cluster", "2x8xh200")),
    (f"{EVALUATE} --cluster 2x8xh20000", ("accelerator", "'h20000'", "h200")),
    (f"{EVALUATE} --cluster 16xrtx-4090", ("link speed", "scale_out.GBps")),
    (f"{EVALUATE} --cluster missing.toml", ("missing.toml",)),
    (f"{EVALUATE} --efficiency fited", ("efficiency", "'fited'", "fitted")),
    (f"{EVALUATE} --efficiency missing.toml", ("efficiency", "missing.toml", "fitted")),
    (f"{EVALUATE} --weight-dtype fp7", ("number format", "'fp7'", "fp8")),
    (f"{EVALUATE} --weight-dtype ffn=fp8,heads=bf16", ("weight_dtype", "attention, ffn")),
    (f"{EVALUATE} --weight-dtype ffn=fp8,ffn=bf16", ("weight_dtype", "once")),
    (f"{EVALUATE} --weight-dtype ffn=fp7", ("number format", "'fp7'")),
    (f"{EVALUATE} --q 2", ("q = 2", "compare")),
    (f"{EVALUATE} --dense llama-3.1-8b", ("dense = llama-3.1-8b", "compare")),
    (f"{EVALUATE} --twin same-body", ("twin = same-body", "compare")),
    (f"{EVALUATE} --kv-dtype bf17", ("number format", "'bf17'", "bf16")),
    (f"{COMPARE} --law geometrc", ("law", "geometrc", "geometric")),
    (
        "map --model mixtral-8x7b --cluster 8xh200 --context 4096 --law all",
        ("law = all", "one law"),
    ),
    (
        "crossover --model mixtral-8x7b --cluster 8xh200 --from 1e3 --to 1e5 --law all",
        ("law = all", "one law"),
    ),
    (f"{EVALUATE} --way sideways", ("way", "sideways", "gathered", "dispatched")),
    ("list cats", ("cats", "models", "hardware")),
    (f"{EVALUATE} --model {'a' * 300}", ("model", "known")),
    (f"{EVALUATE} --cluster {'a' * 300}", ("accelerator",)),
    (f"{EVALUATE} --efficiency {'a' * 300}", ("efficiency", "fitted")),
]

FLAGS = [
    ("", ("evaluate", "compare", "list")),
    ("frobnicate", ("frobnicate", "evaluate")),
    ("evaluate", ("--model", "--cluster")),
    ("evaluate --model mixtral-8x7b --cluster 8xh200", ("--context",)),
    ("compare --model mixtral-8x7b --context 10", ("--cluster",)),
    ("list", ("models", "hardware")),
    (f"{EVALUATE} --frob 1", ("--frob",)),
    (f"{EVALUATE} --batch", ("--batch",)),
    (f"{EVALUATE} --batch many", ("--batch", "many")),
    (f"{EVALUATE} --context 4kk", ("--context", "4kk", "'kk'", "128k (131072)")),
    (f"{EVALUATE} --context 4q", ("--context", "4q", "unknown unit 'q'")),
    (f"{EVALUATE} --context 4ms", ("--context", "4ms", "unknown unit 'ms'")),
    (f"{EVALUATE} --encoder-context 4kk", ("--encoder-context", "4kk", "128k (131072)")),
    (f"{EVALUATE} --batch 4GB", ("--batch", "4GB", "1k (1024)")),
    (f"{EVALUATE} --tpot-ms 40MS", ("--tpot-ms", "40MS", "40ms")),
    (f"{EVALUATE} --utilization 90k", ("--utilization", "90k", "90%")),
    (f"{EVALUATE} --utilization 900%", ("utilization",)),
    (f"{EVALUATE} --tokens 15X", ("--tokens", "15X", "15T")),
    (f"{EVALUATE} --price 2EUR", ("--price", "2EUR", "$/h")),
    (f"{EVALUATE} --price 0", ("price = 0", "dollars")),
    (f"{EVALUATE} --price inf", ("price = inf", "dollars")),
    (f"{CROSSOVER} --over bandwidth --from 1TB --to 2TB/s", ("from = 1TB", "'TB'", "3.35TB/s")),
    (f"{CROSSOVER} --over context --from 1k --to 2s", ("to = 2s", "'s'", "128k")),
    (f"{MAP} --x tpot --x-from 1k", ("x_from = 1k", "'k'", "40ms")),
    (f"{MAP} --y capacity --y-to 1TB/s", ("y_to = 1TB/s", "80GB")),
    (f"{COMPARE} --batch 8", ("--batch",)),
    (f"{EVALUATE} stray", ("stray",)),
]

SIZES = {"tp": "tensor", "dp": "data", "pp": "pipeline", "etp": "expert_tensor"}

NUMBERS = [
    *(
        (f"{BATCH} --{flag} {value}", (word,))
        for flag, word in SIZES.items()
        for value in ("0", "-1", "1.5", "nan", "inf", "-inf")
    ),
    *((f"{EVALUATE} --tp 4 --ep {value}", ("ep",)) for value in ("0", "-1", "1.5", "nan", "inf")),
    *(
        (f"{BATCH} --batch {value}", ("batch",))
        for value in ("0", "-8", "1.5", "nan", "inf", "-inf")
    ),
    *((f"{EVALUATE} --batch {value}", ("batch",)) for value in ("0", "-8", "nan", "inf")),
    *(
        (f"{BATCH} --context {value}", ("context",))
        for value in ("-1", "nan", "inf", "-inf", "1e13")
    ),
    *((f"{BATCH} --encoder-context {value}", ("encoder",)) for value in ("-1", "nan", "inf")),
    *(
        (f"{BATCH} --utilization {value}", ("utilization",))
        for value in ("0", "-0.5", "1.01", "90", "nan", "inf")
    ),
    *(
        (f"{BATCH} --tokens-per-step {value}", ("tokens_per_step",))
        for value in ("0", "-1", "nan", "inf")
    ),
    *((f"{BATCH} --tpot-ms {value}", ("tpot",)) for value in ("0", "-1", "nan", "inf")),
    *((f"{COMPARE} --q {value}", ("q = ",)) for value in ("0", "-1", "nan", "inf")),
    (f"{COMPARE} --q 0.01", ("q = 0.01", "feed-forward", "at least")),
    *((f"{COMPARE} --tokens {value}", ("tokens",)) for value in ("0", "-1", "nan", "inf")),
    (f"{COMPARE} --law tian --tokens 1e300", ("tokens",)),
    *((f"{COMPARE} --seed {value}", ("seed",)) for value in ("-1", "1.5", "nan")),
]

LAYOUTS = [
    (f"{EVALUATE} --tp 2 --dp 2 --ep 4 --etp 2", ("tp * dp = 4", "ep * etp = 8")),
    (f"{EVALUATE} --tp 4 --etp 3", ("etp",)),
    (f"{EVALUATE} --tp 8 --dp 2", ("16 devices", "8")),
    (f"{EVALUATE} --pp 9", ("9 devices", "8")),
    (f"{EVALUATE} --tp 3", ("tp = 3", "heads", "1, 2, 4, 8")),
    (f"{EVALUATE} --tp 8 --ep 3", ("ep = 3", "experts", "1, 2, 4, 8")),
    (f"{EVALUATE} --tp 2 --ep 4", ("ep = 4", "tp * dp = 2")),
    (
        "evaluate --model mixtral-8x7b --cluster 64xh200 --context 4096 --pp 33",
        ("pp = 33", "32 layers"),
    ),
    (f"{EVALUATE} --dp 4 --batch 6", ("batch = 6", "pp * dp = 4", "4 or 8")),
    (f"{EVALUATE} --pp 2 --dp 2 --batch 1", ("batch = 1", "pp * dp = 4", "take 4")),
    (f"{EVALUATE} --way dispatched --tp 1", ("way = dispatched", "expert parallel", "gathered")),
    (f"{EVALUATE} --way dispatched --tp 2 --ep 1", ("way = dispatched",)),
    (
        "evaluate --model llama-3.1-8b --cluster 8xh200 --context 4096 --tp 2 --way dispatched",
        ("way = dispatched",),
    ),
    (
        "evaluate --model llama-3.1-8b --cluster 8xh200 --context 4096 --tp 2 --ep 2",
        ("ep = 2", "1"),
    ),
    (
        "compare --model llama-3.1-8b --cluster 8xh200 --context 4096",
        ("dense", "Mixture-of-Experts", "evaluate"),
    ),
]


@pytest.mark.parametrize(("command", "words"), [*NAMES, *FLAGS, *NUMBERS, *LAYOUTS])
def test_command_is_refused(run: Run, command: str, words: tuple[str, ...]) -> None:
    refused(run(*command.split()), *words)


def test_refusal_of_parallel_sizes_is_short(run: Run) -> None:
    """A number with 300 digits does not help anyone."""
    outcome = run(f"{EVALUATE} --pp 1e300")
    refused(outcome, "devices")
    assert len(outcome.err) < 300


def test_text_commands_refuse_alike(run: Run) -> None:
    refused(run(EVALUATE.removesuffix("--json") + "--model nope"), "model")


# ---- files ---------------------------------------------------------------------------------------


def mixtral(**changes: Any) -> str:
    """The config of Mixtral with fields changed, or left out where the new value is None."""
    fields = json.loads((configs() / "models" / "mixtral-8x7b.json").read_text()) | changes
    return json.dumps({key: value for key, value in fields.items() if value is not None})


MODELS = {
    "empty": ("", ("JSON",)),
    "cut off": (mixtral()[:-10], ("JSON",)),
    "a list": ("[1, 2]", ("table",)),
    "a number": ("7", ("table",)),
    "no JSON": ("model_type: mixtral", ("JSON",)),
    "deeply nested": ("[" * 100_000, ("JSON",)),
    "missing family": (mixtral(model_type=None), ("model_type", "missing")),
    "unknown family": (mixtral(model_type="mixtrall"), ("model_type", "mixtrall", "mixtral")),
    "missing size": (mixtral(hidden_size=None), ("hidden_size", "missing")),
    "missing experts": (mixtral(num_local_experts=None), ("num_local_experts",)),
    "negative": (mixtral(num_hidden_layers=-1), ("num_hidden_layers", "-1")),
    "zero": (mixtral(num_attention_heads=0), ("num_attention_heads", "0")),
    "a fraction": (mixtral(vocab_size=32000.5), ("vocab_size", "whole")),
    "a text": (mixtral(hidden_size="4096"), ("hidden_size", "whole")),
    "a truth": (mixtral(hidden_size=True), ("hidden_size", "whole")),
    "not a number": (mixtral(hidden_size=float("nan")), ("hidden_size", "nan")),
    "infinite": (mixtral(intermediate_size=float("inf")), ("intermediate_size", "inf")),
    "absurd": (mixtral(hidden_size=10**12), ("hidden_size",)),
    "k above E": (mixtral(num_experts_per_tok=9), ("9", "8", "experts")),
    "k of zero": (mixtral(num_experts_per_tok=0), ("experts", "0")),
    "unknown field": (mixtral(sparse_trick=3), ("sparse_trick",)),
    "uneven KV heads": (mixtral(num_key_value_heads=7), ("num_key_value_heads", "7")),
}


@pytest.mark.parametrize("name", MODELS)
def test_model_file_is_refused(run: Run, tmp_path: Path, name: str) -> None:
    text, words = MODELS[name]
    (tmp_path / "config.json").write_text(text)
    refused(
        run(
            "evaluate",
            "--model",
            str(tmp_path),
            *["--cluster", "8xh200", "--context", "4096", "--batch", "8", "--tp", "1"],
        ),
        *words,
    )


def test_model_folder_without_config(run: Run, tmp_path: Path) -> None:
    refused(
        run("evaluate", "--model", str(tmp_path), *["--cluster", "8xh200", "--context", "4096"]),
        "config.json",
    )


def test_binary_model_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"\x00\xff\xfe\x80")
    refused(
        run("evaluate", "--model", str(tmp_path), *["--cluster", "8xh200", "--context", "4096"]),
        "config.json",
    )


CLUSTERS = {
    "no TOML": ("devices = ", ("TOML",)),
    "missing devices": ('accelerator = "h100"', ("devices", "missing")),
    "missing accelerator": ("devices = 8", ("accelerator", "missing")),
    "no devices": ('devices = 0\naccelerator = "h100"', ("devices = 0",)),
    "negative": ('devices = -8\naccelerator = "h100"', ("devices = -8",)),
    "a fraction": ('devices = 8.5\naccelerator = "h100"', ("devices = 8.5",)),
    "a text": ('devices = "8"\naccelerator = "h100"', ("devices = '8'",)),
    "infinite": ('devices = inf\naccelerator = "h100"', ("devices = inf",)),
    "unknown accelerator": ('devices = 8\naccelerator = "h101"', ("accelerator", "h101", "h100")),
    "unknown field": ('devices = 8\naccelerator = "h100"\nnodes = 2', ("nodes",)),
    "bare chip": ('devices = 8\n[accelerator]\nname = "mine"', ("memory.bytes", "missing")),
}


@pytest.mark.parametrize("name", CLUSTERS)
def test_cluster_file_is_refused(run: Run, tmp_path: Path, name: str) -> None:
    text, words = CLUSTERS[name]
    (tmp_path / "mine.toml").write_text(text)
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
        "--cluster",
    ]
    refused(run(*case, str(tmp_path / "mine.toml")), "mine.toml", *words)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "'fast'", "true"])
def test_bandwidth_in_a_chip_file(run: Run, tmp_path: Path, value: str) -> None:
    text = (configs() / "hardware" / "h100.toml").read_text()
    text, changed = re.subn(r"(?m)^bandwidth_GBps = [0-9_.]+", f"bandwidth_GBps = {value}", text)
    assert changed == 1
    (tmp_path / "chip.toml").write_text(text)
    (tmp_path / "mine.toml").write_text('devices = 8\naccelerator = "chip.toml"')
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
        "--cluster",
    ]
    refused(run(*case, str(tmp_path / "mine.toml")), "memory.bandwidth_GBps")


def fitted(old: str = "", new: str = "") -> str:
    text = (configs() / "efficiency" / "kernels.toml").read_text()
    text, changed = re.subn(old, new, text, count=1)
    assert changed == 1
    return text


EFFICIENCIES = {
    "no TOML": ("[gemm", ("TOML",)),
    "empty": ("", ("gemm",)),
    "deeply nested": ("a = " + "[" * 5000 + "]" * 5000, ("TOML",)),
    "operator is no table": ("gemm = 3", ("gemm",)),
    "format is no table": (
        fitted(r"(?s)(\[experts\].*?)fp8 = {.*?}", r"\1fp8 = 3"),
        ("experts", "fp8"),
    ),
    "missing operator": (fitted(r"\[mla\]", "[linear2]"), ("linear2",)),
    "missing key": (fitted("workspace = 2.0", ""), ("memory", "workspace")),
    "unknown key": (fitted("workspace = 2.0", "workspace = 2.0\nspare = 1"), ("memory", "spare")),
    "a text": (fitted("workspace = 2.0", 'workspace = "2"'), ("memory", "workspace")),
    "negative": (fitted(r"launch_us = [\d.]+", "launch_us = -3.7"), ("gemm", "launch_us = -3.7")),
    "share of zero": (fitted(r"bandwidth = [\d.]+", "bandwidth = 0"), ("gemm", "bandwidth = 0")),
    "not a number": (fitted(r"launch_us = [\d.]+", "launch_us = nan"), ("gemm", "launch_us = nan")),
    "infinite": (fitted(r"launch_us = [\d.]+", "launch_us = inf"), ("gemm", "launch_us = inf")),
}


@pytest.mark.parametrize("name", EFFICIENCIES)
def test_efficiency_file_is_refused(run: Run, tmp_path: Path, name: str) -> None:
    text, words = EFFICIENCIES[name]
    (tmp_path / "eta.toml").write_text(text)
    refused(
        run(*BATCH.split(), "--batch", "8", "--efficiency", str(tmp_path / "eta.toml")),
        "eta.toml",
        *words,
    )


def test_binary_efficiency_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "eta.toml").write_bytes(b'name = "\xff"')
    refused(
        run(*BATCH.split(), "--batch", "8", "--efficiency", str(tmp_path / "eta.toml")), "eta.toml"
    )


@pytest.mark.parametrize("target", ["file/ratio.png", "ratio.xyz", "folder.png"])
def test_plot_that_cannot_be_written(run: Run, tmp_path: Path, target: str) -> None:
    """A file where a folder should be, a kind of picture that nobody knows, a folder where the file
    should be.
    """
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    refused(run(*f"{COMPARE} --q 2 --plot".split(), str(tmp_path / target)), "plot")


# ---- anything ------------------------------------------------------------------------------------

ODD = st.sampled_from(
    [
        "0",
        "-1",
        "1.5",
        "nan",
        "inf",
        "-inf",
        "1e300",
        "1e-300",
        "-0.0",
        "",
        "x",
        "0x10",
        "1_000",
        "None",
    ]
)
FLAG_VALUES = {
    "--batch": st.integers(1, 512).map(str) | ODD,
    "--tp": st.integers(1, 9).map(str) | ODD,
    "--dp": st.integers(1, 9).map(str) | ODD,
    "--pp": st.integers(1, 9).map(str) | ODD,
    "--ep": st.integers(1, 9).map(str) | ODD,
    "--etp": st.integers(1, 9).map(str) | ODD,
    "--context": st.integers(0, 10**6).map(str) | ODD,
    "--utilization": st.floats(0.01, 1.2).map(str) | ODD,
    "--tokens-per-step": st.floats(0.5, 8).map(str) | ODD,
    "--tpot-ms": st.floats(0.001, 1e4).map(str) | ODD,
    "--encoder-context": st.integers(0, 10**6).map(str) | ODD,
    "--weight-dtype": st.sampled_from(["bf16", "FP8", "int4", "nvfp4", "fp9", "", "None"]),
    "--kv-dtype": st.sampled_from(["bf16", "fp8", "int4", "fp9", ""]),
    "--way": st.sampled_from(["gathered", "dispatched", "both", ""]),
    "--efficiency": st.sampled_from(["fitted", "ideal", "perfect", "", "/", "a/b.toml"]),
    "--cluster": st.sampled_from(
        ["8xh100", "1xmi300x", "3xl40s", "8", "x", "1e3xh100", "-1xh100", "h100x8", "."]
    ),
    "--model": st.sampled_from(
        ["mixtral-8x7b", "Mixtral-8x7B", "mixtral", "", ".", "/", "..", "catalog"]
    ),
    "--spare": ODD,
}


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    flags = draw(st.lists(st.sampled_from(sorted(FLAG_VALUES)), max_size=6, unique=True))
    words = [
        "evaluate",
        "--model",
        "mixtral-8x7b",
        "--cluster",
        "8xh200",
        "--context",
        "4096",
        "--json",
    ]
    return words + [word for name in flags for word in (name, draw(FLAG_VALUES[name]))]


def anything(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        report_multiple_bugs=False,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


def answered_or_refused(run: Run, words: list[str]) -> None:
    outcome = run(*words)
    if outcome.status != 0:
        refused(outcome)
        return
    assert outcome.err == ""
    record = outcome.record
    layout = record["deployment"]
    assert layout["batch"] >= layout["dp"] * layout["pp"] >= 1
    for key in ("throughput_tokens_per_s", "tpot_s"):
        assert record[key] is None or record[key] >= 0
    if record["feasible"]:
        assert record["throughput_tokens_per_s"] > 0
        assert record["violations"] == []
    else:
        assert record["violations"]


@anything(examples=30)
@given(words=command_lines())
def test_random_flags_are_answered_or_refused(run: Run, words: list[str]) -> None:
    answered_or_refused(run, words)


@pytest.mark.slow
@anything(examples=120)
@given(words=command_lines())
def test_more_random_flags_are_answered_or_refused(run: Run, words: list[str]) -> None:
    answered_or_refused(run, words)


def test_copy_of_the_catalog_config_is_accepted(run: Run, tmp_path: Path) -> None:
    """The files above are refused for what was changed in them, not for being copies."""
    (tmp_path / "config.json").write_text(mixtral())
    shutil.copy(configs() / "efficiency" / "kernels.toml", tmp_path / "eta.toml")
    case = ["--cluster", "8xh200", "--context", "4096", "--batch", "8", "--tp", "2", "--efficiency"]
    assert run("evaluate", "--model", str(tmp_path), *case, str(tmp_path / "eta.toml")).status == 0
