from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qsopt.calibration.points import MessagePoints, OperatorPoints, where
from qsopt.calibration.tables import aiconfigurator
from qsopt.calibration.tables.aiconfigurator import Choice, installed, read_tables
from qsopt.calibration.tables.columns import Skipped
from qsopt.calibration.tables.folder import read_folder
from qsopt.errors import InputError

arrow = pytest.importorskip("pyarrow", reason="reading parquet tables is an extra")

GEMM = {
    "kernel_source": "a",
    "gemm_dtype": "bfloat16",
    "m": 16,
    "n": 512,
    "k": 2048,
    "latency": 0.01,
}
MOE = {
    "kernel_source": "a",
    "moe_dtype": "fp8",
    "num_tokens": 64,
    "hidden_size": 7168,
    "inter_size": 2048,
    "topk": 8,
    "num_experts": 256,
    "moe_tp_size": 1,
    "moe_ep_size": 8,
    "distribution": "balanced",
    "latency": 0.5,
}


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    parquet = pytest.importorskip("pyarrow.parquet")

    def written(place: str, *rows: dict) -> Path:
        path = tmp_path / f"{place}_perf.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(arrow.Table.from_pylist(list(rows)), path)
        return tmp_path

    return written


def times(folder: Path, choice: Choice | None = None, column: str = "latency_ms") -> list[float]:
    tables = read_tables(folder, choice or Choice(), Skipped())
    return sorted(time for table in tables for time in table.number(column).tolist())


def test_moe_rows_get_the_work_of_their_rank(write):
    points = read_folder(write("h200_sxm/moe/trtllm/1.3.0/moe", MOE)).by_kind()["experts"]
    assert isinstance(points, OperatorPoints)
    assert points.labels.family[0] == "experts/trtllm/fp8"
    assert (points.labels.gpu[0], points.labels.shape[0], points.labels.file[0]) == (
        "h200",
        "DeepSeek-V3",
        "moe_perf.parquet",
    )
    weights = 3 * 7168 * 2048
    assert points.cost.flops[0] == 2 * weights * 64
    assert points.rows[0] == 64 / 32
    assert points.seconds[0] == pytest.approx(0.5e-3)


def test_all_kinds_of_tables(write):
    write("h100_sxm/gemm/vllm/0.24.0/gemm", GEMM)
    decode = {
        "kernel_source": "a",
        "kv_cache_dtype": "fp8",
        "batch_size": 4,
        "isl": 1,
        "step": 511,
        "latency": 0.02,
    }
    heads = {"num_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "beam_width": 1}
    write(
        "h100_sxm/attention/vllm/0.24.0/generation_attention",
        decode | heads,
        decode | heads | {"beam_width": 4},
    )
    write(
        "h100_sxm/mla/trtllm/1.3.0/generation_mla",
        decode | {"num_heads": 16},
        decode | {"num_heads": 2},
    )
    prompt = {
        "kernel_source": "a",
        "kv_cache_dtype": "fp8",
        "batch_size": 4,
        "isl": 2048,
        "step": 0,
        "latency": 0.2,
    }
    write(
        "h100_sxm/attention/vllm/0.24.0/context_attention",
        prompt | heads | {"attn_dtype": "bfloat16", "window_size": 0},
        prompt | heads | {"attn_dtype": "bfloat16", "window_size": 128},
        prompt | heads | {"attn_dtype": "bfloat16", "window_size": 0, "isl": 3072},
    )
    write(
        "h100_sxm/mla/trtllm/1.3.0/context_mla",
        prompt | {"num_heads": 16, "mla_dtype": "bfloat16"},
        prompt | {"num_heads": 16, "mla_dtype": "bfloat16", "step": 512},
    )
    ring = {
        "op_name": "all_reduce",
        "kernel_source": "K_graph",
        "num_gpus": 8,
        "message_size": 1024,
        "latency": 0.01,
    }
    write("h100_sxm/comm/nccl/2.29.2/nccl", ring | {"nccl_dtype": "half", "kernel_source": "NCCL"})
    write("h100_sxm/comm/vllm/0.24.0/custom_allreduce", ring | {"allreduce_dtype": "bfloat16"})
    sizes = {"hidden_size": 7168, "num_experts": 256, "kernel_source": "K"}
    sent = {
        "comm_backend": "b",
        "phase": "dispatch",
        "comm_dtype": "fp8",
        "ep_size": 8,
        "node_num": 1,
        "topk": 8,
        "latency": 30.0,
    }
    write(
        "h100_sxm/comm/trtllm/1.3.0/moe_a2a",
        sizes | sent | {"num_tokens": 16, "sms": 0, "latency": 30.0},
    )
    deep = {
        "node_num": 2,
        "num_token": 16,
        "num_topk": 8,
        "dispatch_avg_t_us": 50.0,
        "combine_avg_t_us": 70.0,
    }
    write("h100_sxm/comm/sglang/0.5.6/wideep_deepep_ll", sizes | deep)
    rack = {
        "op_name": "alltoall_combine",
        "moe_dtype": "nvfp4",
        "num_tokens": 16,
        "topk": 8,
        "moe_ep_size": 8,
    }
    write(
        "gb200/comm/trtllm/1.3.0/trtllm_alltoall",
        sizes | rack | {"distribution": "balanced", "latency": 0.02},
    )
    folder = read_folder(
        write(
            "h100_sxm/moe/trtllm/1.3.0/wideep_moe", MOE | {"num_slots": 288, "rank0_num_tokens": 9}
        )
    )
    families = {
        str(family): where(points, points.labels.family == family)
        for points in folder.by_kind().values()
        for family in np.unique(points.labels.family)
    }
    assert {family: len(rows) for family, rows in families.items()} == {
        "attention/vllm/fp8": 1,
        "collective/custom-vllm/custom": 1,
        "collective/nccl/all_reduce": 1,
        "exchange/sglang-deepep-ll-across/combine": 1,
        "exchange/sglang-deepep-ll-across/dispatch": 1,
        "exchange/trtllm-K/combine": 1,
        "exchange/trtllm-b/dispatch": 1,
        "experts/trtllm-wide/fp8": 1,
        "gemm/vllm/bf16": 1,
        "mla/trtllm/fp8": 1,
        "prefill_attention/vllm/fp8": 1,
        "prefill_mla/trtllm/fp8": 1,
    }
    attention, reduced = families["attention/vllm/fp8"], families["collective/nccl/all_reduce"]
    assert isinstance(attention, OperatorPoints)
    assert isinstance(reduced, MessagePoints)
    assert attention.cost.flops[0] == 4 * 4 * 512 * 32 * 128
    assert reduced.sent[0] == pytest.approx(2 * 7 / 8 * 2048)
    assert families["exchange/trtllm-K/combine"].seconds[0] == pytest.approx(20e-6)
    assert families["exchange/sglang-deepep-ll-across/combine"].seconds[0] == pytest.approx(70e-6)


def test_newest_whole_release_unless_asked(write):
    rows = [GEMM | {"n": 512 * n} for n in range(1, 8)]
    write("h100_sxm/gemm/trtllm/1.3.0rc9/gemm", *(row | {"latency": 9.0} for row in rows))
    write("h100_sxm/gemm/trtllm/1.3.0rc20/gemm", *(row | {"latency": 20.0} for row in rows))
    folder = write("h100_sxm/gemm/trtllm/1.3.0rc23/gemm", GEMM | {"latency": 23.0})
    assert set(times(folder)) == {20.0}
    assert set(times(folder, Choice(releases=("1.3.0rc9",)))) == {9.0}


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.3.0rc9", "1.3.0rc10"),
        ("1.0rc2", "1.0"),
        ("0.5.6", "0.5.6.post2"),
        ("0.9", "0.10"),
        ("2.27", "2.27.3"),
    ],
)
def test_order_of_releases(older, newer):
    assert aiconfigurator._order(older) < aiconfigurator._order(newer)


def test_choice_of_accelerators_and_backends(write):
    places = ("h100_sxm/gemm/trtllm/1", "h100_sxm/gemm/vllm/1", "b60/gemm/vllm/1")
    *_, folder = (
        write(f"{place}/gemm", GEMM | {"latency": 1.0 + number})
        for number, place in enumerate(places)
    )
    assert times(folder) == [1.0, 2.0, 3.0]
    assert times(folder, Choice(accelerators=("H100",))) == [1.0, 2.0]
    assert times(folder, Choice(accelerators=("h100_sxm",), backends=("vllm",))) == [2.0]
    with pytest.raises(InputError, match="b60, h100_sxm, trtllm, vllm"):
        times(folder, Choice(accelerators=("mi300x",)))


def test_sample_is_of_shapes_and_the_same_everywhere(write):
    rows = [GEMM | {"n": 64 * n, "m": m} for n in range(1, 9) for m in (1, 2, 3)]
    write("h100_sxm/gemm/trtllm/1/gemm", *rows)
    folder = write("b200_sxm/gemm/trtllm/1/gemm", *rows[::-1])
    skipped = Skipped()
    (table,) = read_tables(folder, Choice(shapes=3), skipped)
    kept = {
        gpu: set(table.where(table.text("gpu") == gpu).text("n"))
        for gpu in ("h100_sxm", "b200_sxm")
    }
    assert len(kept["h100_sxm"]) == 3
    assert kept["h100_sxm"] == kept["b200_sxm"]
    counted = {record["reason"]: record["rows"] for record in skipped.records()}
    assert counted == {"off the grid of sizes": 16, "a shape out of the sample": 20}
    assert len(table) == 12


def test_fastest_kernel_of_a_point_counts(write):
    folder = write(
        "h100_sxm/gemm/sglang/1/gemm",
        GEMM,
        GEMM | {"kernel_source": "b", "latency": 0.005},
        GEMM | {"m": 32},
    )
    assert times(folder) == [0.005, 0.01]


def test_repeats_of_a_routing_count_by_their_mean(write):
    slow = MOE | {"kernel_source": "b", "latency": 0.9}
    assert times(
        write("h100_sxm/moe/sglang/1/moe", MOE, MOE | {"latency": 0.6}, slow)
    ) == pytest.approx([0.55])


def test_broken_tables_are_counted(write):
    folder = write("h100_sxm/gemm/trtllm/1/gemm", GEMM)
    write("h200_sxm/gemm/trtllm/1/gemm", {"latency": 1.0})
    (folder / "b200_sxm/gemm/trtllm/1").mkdir(parents=True)
    (folder / "b200_sxm/gemm/trtllm/1/gemm_perf.parquet").write_text("no parquet")
    skipped = Skipped()
    assert [len(table) for table in read_tables(folder, Choice(), skipped)] == [1]
    reasons = [str(record["reason"]) for record in skipped.records()]
    assert len(reasons) == 2
    assert all("cannot be read" in reason for reason in reasons)


def test_remedy_without_the_package(monkeypatch, write):
    folder = write("h100_sxm/gemm/trtllm/1/gemm", GEMM)
    monkeypatch.setattr(aiconfigurator, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'qsopt\[calibration\]'"):
        installed()
    with pytest.raises(InputError, match="aiconfigurator-core is not installed"):
        read_folder(None)

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(aiconfigurator, "import_module", missing)
    with pytest.raises(InputError, match="pyarrow"):
        times(folder)


def test_installed_package_is_found(monkeypatch, tmp_path):
    class Found:
        submodule_search_locations = (str(tmp_path),)

    (tmp_path / "systems" / "data").mkdir(parents=True)
    monkeypatch.setattr(aiconfigurator, "find_spec", lambda name: Found())
    assert installed() == tmp_path / "systems" / "data"
