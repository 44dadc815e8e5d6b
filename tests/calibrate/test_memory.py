"""Start-up logs of servers: read, fitted and validated."""

import json
import os
from pathlib import Path

import equinox as eqx
import numpy as np
import pytest

from qsopt.calibration.serving.memory import CHECKED_ONLY, check_memory, fit_memory, save_memory
from qsopt.calibration.tables import names
from qsopt.calibration.tables.checkpoints import checkpoint
from qsopt.calibration.tables.columns import Skipped, read_table
from qsopt.calibration.tables.memory import Started, predicted, read_memory
from qsopt.calibration.tables.template import SCHEMAS, template
from qsopt.catalog.efficiencies import efficiency_set, load_efficiency
from qsopt.cli.validate import Validate
from qsopt.errors import InputError
from qsopt.fitted.memory import COLUMNS, MemoryFit, load_memory_fit, memory_fit
from qsopt.spec.formats import format_name
from qsopt.units import GiB

DATA = Path(
    os.environ.get(
        "QSOPT_MEASURED_SERVING", Path(__file__).parents[2].parent / "shared" / "measured_serving"
    )
)

LATER = "rtx-3090"
"""Whose start-up log could be read only when the constants that ship had been fitted."""

HEADER = (
    "engine,version,model,weight_dtype,kv_dtype,gpu,tp,pp,dp,ep,utilization,weights_gib_per_gpu,"
    "kv_tokens,kv_gib_per_gpu\n"
)

LOGS = HEADER + (
    "sglang,0.4,meta-llama/Meta-Llama-3.1-8B-Instruct,bf16,bf16,H100,1,1,1,1,0.88,15.11,442750,54.04\n"
    "vllm,0.5,meta-llama/Meta-Llama-3-8B,bf16,bf16,A100 40GB,1,1,1,1,0.9,14.99,158880,\n"
    "vllm,v0.19,Qwen/Qwen3-30B-A3B-Instruct-2507,bf16,bf16,h200_sxm,1,1,1,1,0.9,56.9,,66\n"
    "vllm,1,RedHatAI/Qwen3-235B-A22B-FP8-dynamic,fp8,bf16,GB10,4,1,1,4,0.9,55.2,,66\n"
    "vllm,1,Qwen/Qwen3-8B,bf16,bf16,H100,1,1,1,1,,,1,\n"
    "vllm-gaudi,1,Qwen/Qwen3-8B,bf16,bf16,Gaudi 2,1,1,1,1,0.5,15.3,,20\n"
    "vllm,1,Unheard-1B,bf16,bf16,H100,1,1,1,1,0.9,2,,70\n"
    "llama.cpp,1,Qwen/Qwen3-8B,q*,bf16,H100,1,1,1,1,0.9,2,,70\n"
)


def read(tmp_path: Path, text: str) -> tuple[Started, Skipped]:
    (tmp_path / "m.csv").write_text(text)
    skipped = Skipped()
    return read_memory(read_table(tmp_path / "m.csv"), memory_fit(), skipped), skipped


def test_rows_are_read_or_counted(tmp_path: Path) -> None:
    started, skipped = read(tmp_path, LOGS)
    assert list(started.model) == [
        "llama-3.1-8b",
        "llama-3.1-8b",
        "qwen3-30b-a3b",
        "qwen3-235b-a22b",
        "qwen3-8b",
    ]
    assert list(started.gpu) == ["h100", "a100-40gb", "h200", "", "gaudi2"]
    room = started.room / GiB
    np.testing.assert_allclose(room[:3], [54.04, 158880 * 131072 / GiB, 66.0], rtol=1e-6)
    assert np.isnan(room[3:]).all()
    assert {each["reason"]: each["rows"] for each in skipped.records()} == {
        "neither weights nor room to compare": 1,
        "no room compared: no constants of vllm-gaudi": 1,
        "no room compared: unknown accelerator GB10": 1,
        "no room compared: utilization not stated": 1,
        "unknown format q*": 1,
        "unknown model Unheard-1B": 1,
    }
    weights, guess = predicted(started)
    np.testing.assert_allclose(weights, started.weights, rtol=0.02)
    np.testing.assert_allclose(guess[:3], started.room[:3], rtol=0.06)


def test_a_row_may_state_its_first_forward(tmp_path: Path) -> None:
    header = HEADER.replace("\n", ",max_num_seqs,max_num_batched_tokens\n")
    row = "vllm,1,Qwen/Qwen3-8B,bf16,bf16,H100,1,1,1,1,0.9,15.3,,50"
    started, _ = read(tmp_path, f"{header}{row},,\n{row},256,2048\n{row},4096,2048\n")
    rooms = predicted(started)[1] / GiB
    assert rooms[1] > rooms[0] > rooms[2]
    logits = 18 * 151936 / GiB
    assert rooms[0] - rooms[2] == pytest.approx(logits * (4096 - 1024), rel=1e-6)


def test_names_as_people_write_them() -> None:
    models = {
        "Llama-3-70B": "llama-3.1-70b",
        "RedHatAI/Llama-4-Maverick-17B-128E-Instruct-FP8": "llama-4-maverick",
        "DeepSeek-R1 FP4 (nvidia)": "deepseek-r1",
        "deepseek-ai/DeepSeek-R1-0528": "deepseek-r1",
        "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8": "nemotron-3-nano-30b-a3b",
        "google/gemma-3-27b-it": "gemma-3-27b",
        "Unheard-1B": None,
        "": None,
    }
    assert {name: names.model_name(name) for name in models} == models
    chips = {
        "a100_pcie": "a100-80gb",
        "A100 40GB": "a100-40gb",
        "NVIDIA H100 SXM5": "h100",
        "AMD Instinct MI300X": "mi300x",
        "Gaudi 2": "gaudi2",
        "h100_pcie": "h100-pcie",
        "24 GB GPU": None,
        "?": None,
    }
    assert {name: names.accelerator_name(name) for name in chips} == chips


def formats(model: str, written: str, name: str = "") -> list[str] | None:
    found = checkpoint(model, written, name)
    if found is None:
        return None
    parts = (found.precision.attention, found.precision.ffn, found.precision.experts)
    return [format_name(each) for each in parts]


def test_formats_by_part() -> None:
    assert formats("llama-4-maverick", "fp8 (experts only)") == ["bf16", "bf16", "fp8"]
    assert formats("llama-3.1-405b", "fp8 (Meta: ffn only)") == ["bf16", "fp8", "fp8"]
    assert formats("deepseek-r1", "int4 g64 (all linear)") == ["int4"] * 3
    assert formats("deepseek-r1", "nvfp4 (experts)") == ["bf16", "bf16", "nvfp4"]
    assert formats("gpt-oss-120b", "mxfp4") == ["bf16", "bf16", "mxfp4"]
    assert formats("gpt-oss-120b", "fp4") == ["bf16", "bf16", "mxfp4"]
    assert formats("deepseek-r1", "mxfp4 experts, fp8 rest") == ["fp8", "fp8", "mxfp4"]
    assert formats("deepseek-r1", "fp8 + mxfp4 (experts)") == ["fp8", "fp8", "mxfp4"]
    assert formats("deepseek-r1", "nvfp4/fp8") == ["bf16", "nvfp4", "nvfp4"]
    assert formats("qwen3-32b", "modelopt", "nvidia/Qwen3-32B-FP8") == ["fp8"] * 3
    assert formats("qwen3-32b", "modelopt", "Qwen3-32B") is None
    assert formats("qwen3-32b", "params") is None
    assert formats("deepseek-r1", "") == ["fp8_block"] * 3
    grouped = checkpoint("deepseek-r1", "int4 g64 (all linear)")
    assert float(grouped.precision.experts.bytes) == pytest.approx(0.5 + 2 / 64)
    mixed = checkpoint("qwen3-next-80b-a3b", "compressed-tensors", "x/Y-FP8-dynamic")
    assert float(mixed.precision.attention.bytes) == pytest.approx(0.75 * 2 + 0.25), (
        "linear is wide"
    )


def synthetic(tmp_path: Path) -> Started:
    """Rooms by known constants, in a few layouts."""
    lines = [
        f"{engine},1,{model},bf16,bf16,{gpu},{tp},1,1,1,0.9,,,1\n"
        for engine in ("vllm", "sglang")
        for model in ("Qwen3-8B", "Llama-3.1-8B", "Qwen3-14B")
        for gpu, tp in (("H100", 1), ("H200", 2), ("B200", 8), ("MI300X", 4))
    ]
    started, _ = read(tmp_path, HEADER + "".join(lines))
    tables = {name: dict(table) for name, table in memory_fit().tables.items()}
    tables["vllm"] |= {"reserve_GiB": 2.0, "communication_GiB": 0.7}
    tables["sglang"] |= {"reserve_GiB": 0.8, "communication_GiB": 1.4}
    (tmp_path / "m.csv").write_text(HEADER + "".join(lines))
    truth = read_memory(read_table(tmp_path / "m.csv"), MemoryFit(tables), Skipped())
    return eqx.tree_at(lambda s: s.room, started, predicted(truth)[1])


def test_constants_are_recovered(tmp_path: Path) -> None:
    started = synthetic(tmp_path)
    fit, columns = check_memory(started)
    found = {name: fit.tables[name] for name in ("vllm", "sglang", "pooled", "trtllm")}
    for name, values in {
        "vllm": (2.0, 0.7),
        "sglang": (0.8, 1.4),
        "pooled": (2.0, 0.7),
        "trtllm": (2.0, 0.7),
    }.items():
        both = found[name]["reserve_GiB"], found[name]["communication_GiB"]
        np.testing.assert_allclose(both, values, atol=0.01, err_msg=name)
    assert fit.errors["other_models"].median < 1e-3
    np.testing.assert_allclose(columns["fitted"], started.room, rtol=1e-3)
    save_memory(fit, "made up", "2026-11-25", tmp_path / "memory.toml")
    again = load_memory_fit(tmp_path / "memory.toml")
    assert again.tables == fit.tables
    assert again.errors["fitted"].n == fit.errors["fitted"].n


def test_what_is_kept_apart_moves_no_fit(tmp_path: Path) -> None:
    started = synthetic(tmp_path)
    apart = np.isin(started.gpu, CHECKED_ONLY)
    assert apart.any()
    off = eqx.tree_at(lambda s: s.room, started, np.where(apart, 1e9, started.room))
    assert fit_memory(off).tables == fit_memory(started).tables


def test_the_pooled_set_ships_with_the_pooled_constants() -> None:
    reserve, server = memory_fit().of("pooled", None)
    shipped = efficiency_set("kernels")
    assert float(shipped.reserve_bytes) == pytest.approx(reserve)
    assert server.to_dict() == shipped.memory.to_dict()


def test_software_takes_what_it_has_on_an_accelerator() -> None:
    fit = memory_fit()
    assert float(fit.of("vllm", "a100-80gb")[1].sequences) == 256
    assert float(fit.of("vllm", "h100")[1].sequences) == 1024
    assert float(fit.of("vllm", "mi300x")[1].pad_bytes) == 256
    assert float(fit.of("sglang", "h100")[1].pool_only) == 1
    assert float(fit.of("trtllm", None)[1].of_free) == 1


@pytest.mark.parametrize("number", ["1e308", "nan", "-inf"])
def test_numbers_of_bytes_are_finite(tmp_path: Path, number: str) -> None:
    """Found by fuzzing: a quantile that overflowed to infinity in bytes."""
    good = "[pooled]\nreserve_GiB = 1\n[errors]\nfitted = [1, 0.1, 0.1, 0.0]\n[room]\n"
    good += "".join(f"{name} = [0.0, 1.0, 2.0, 3.0, 4.0]\n" for name in COLUMNS)
    load = tmp_path / "m.toml"
    load.write_text(good)
    load_memory_fit(load)
    for old in ("reserve_GiB = 1", "[0.0, 1.0"):
        new = f"reserve_GiB = {number}" if old.startswith("reserve") else f"[0.0, {number}"
        load.write_text(good.replace(old, new))
        with pytest.raises(InputError, match=r"m\.toml: .*GiB"):
            load_memory_fit(load)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nonsense = 1", "nonsense"),
        ("sequences = -1", "sequences"),
        ("hidden_multiple = {mxfp5 = 256}", "hidden_multiple"),
        ("pool_only = true", "pool_only"),
    ],
)
def test_wrong_entries_are_named(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "m.toml").write_text(
        f"[pooled]\nreserve_GiB = 1\n{text}\n[errors]\nfitted = [1, 0.1, 0.1, 0.0]\n"
    )
    with pytest.raises(InputError, match=told):
        load_memory_fit(tmp_path / "m.toml")
    source = Path(__file__).parents[2] / "configs" / "efficiency" / "kernels.toml"
    body = source.read_text().split("[server_memory]")[0]
    (tmp_path / "set.toml").write_text(f"{body}[server_memory]\n{text}\n")
    with pytest.raises(InputError, match=told):
        load_efficiency(tmp_path / "set.toml")


def answer(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict:
    Validate(folder, json=True).run()
    return json.loads(capsys.readouterr().out)


def test_validate_names_all_missing_columns_at_once(tmp_path: Path, capsys) -> None:
    (tmp_path / "gemm.csv").write_text("m,n,k,latency_ms\n1,2,3,4\n")
    (tmp_path / "log.csv").write_text("engine,weight_dtype,weights_gib_per_gpu\nvllm,bf16,1\n")
    reasons = {each["file"]: each["reason"] for each in answer(tmp_path, capsys)["skipped"]}
    assert reasons["gemm.csv"].startswith("no column 'gpu', 'backend', 'dtype'; it has m")
    assert reasons["log.csv"].startswith("no column 'model', 'gpu'; it has engine")


def test_validate_reports_weights_and_room(tmp_path: Path, capsys) -> None:
    (tmp_path / "log.csv").write_text(LOGS)
    rows = {row["group"]: row for row in answer(tmp_path, capsys)["rows"]}
    assert rows["memory weights"]["n"] == 5
    assert rows["memory room"]["n"] == 3
    for label in ("model qwen3-30b-a3b", "accelerator h100", "engine sglang"):
        assert rows[f"memory room, {label}"]["n"] == 1


def test_the_template_says_every_column(capsys) -> None:
    Validate(template=True).run()
    text = capsys.readouterr().out
    assert text.strip() == template()
    for schema in SCHEMAS:
        assert schema.known_by <= {each.name for each in schema.columns} | schema.known_by
        for each in schema.columns:
            assert each.name in text
    with pytest.raises(InputError, match="--template"):
        Validate().run()


@pytest.mark.skipif(not (DATA / "memory.csv").is_file(), reason="the measured data are not here")
def test_shipped_constants_keep_their_errors(capsys) -> None:
    skipped = Skipped()
    started = read_memory(read_table(DATA / "memory.csv"), memory_fit(), skipped)
    weights, room = predicted(started)
    known, seen = np.isfinite(started.weights), np.isfinite(started.room)
    off = np.abs(weights / started.weights - 1)[known]
    assert np.median(off) < 0.01 and np.quantile(off, 0.9) < 0.03
    later = seen & (started.gpu == LATER)
    off = np.abs(room / started.room - 1)[seen & ~later]
    assert np.median(off) < 0.02 and np.quantile(off, 0.9) < 0.05
    apart = seen & np.isin(started.gpu, CHECKED_ONLY)
    off = np.abs(room / started.room - 1)[apart]
    assert np.median(off) < 0.03 and np.max(off) < 0.13


@pytest.mark.skipif(not (DATA / "memory.csv").is_file(), reason="the measured data are not here")
def test_a_log_that_came_after_the_fit_is_missed() -> None:
    """DeepSeek-R1 in int4 on 16 cards of 24 GiB left 1.6 GiB each for the cache, with 0.4 GiB for a
    first forward and 0.2 GiB beside PyTorch; what servers keep by the fit is more than was free.
    """
    started = read_memory(read_table(DATA / "memory.csv"), memory_fit(), Skipped())
    room = predicted(started)[1]
    later = np.isfinite(started.room) & (started.gpu == LATER)
    assert later.sum() == 1
    (missed,) = (started.room - room)[later] / GiB
    assert 5.5 < missed < 6.5 and room[later] < 0
