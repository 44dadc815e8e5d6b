from pathlib import Path

import numpy as np
import pytest

from qsopt.calibration.quantities import quantities
from qsopt.calibration.tables import links, operators, prompts
from qsopt.calibration.tables.columns import Skipped, read_table
from qsopt.calibration.tables.folder import read_folder
from qsopt.errors import InputError

MOE = (
    "gpu,backend,version,kernel,dtype,model,hidden,inter,topk,num_experts,moe_tp,moe_ep,distribution,num_tokens,"
    "latency_ms,uniq_local,rows_local,max_rows\n"
)
GEMM = "gpu,backend,version,dtype,m,n,k,latency_ms\n"


def write(path: Path, name: str, text: str):
    (path / name).write_text(text)
    return read_table(path / name)


def test_moe_row_by_hand(tmp_path):
    table = write(
        tmp_path,
        "a.csv",
        MOE + "h200_sxm,trtllm,1,x,fp8,M,4096,2048,2,8,2,1,balanced,4,0.5,6.5,8,2\n",
    )
    points = operators.moe(table, Skipped())
    weights = 3 * 4096 * 1024
    assert points.cost.flops[0] == 2 * weights * 8
    assert points.cost.bytes[0] == 6.5 * weights * 1 + 8 * 2 * (4096 + 2 * 1024 + 1024 + 4096)
    assert (points.rows[0], points.tokens[0], points.seconds[0]) == (8 / 6.5, 4, 0.5e-3)
    assert points.cost.narrow[0] == pytest.approx(6.5 * weights / 1024)
    assert points.cost.narrow_flops[0] == pytest.approx(2 * weights * 8 / 1024)
    assert points.cost.elsewhere[0] == 0.0
    assert points.peak[0] == pytest.approx(1979e12)
    assert points.bandwidth[0] == pytest.approx(4800e9)


def test_rows_of_other_ranks_are_seen_where_tokens_are_gathered(tmp_path):
    row = "h200_sxm,trtllm,1,x,fp8,M,4096,2048,2,8,1,4,balanced,64,0.5,2,32,16\n"
    table = write(tmp_path, "a.csv", MOE + row)
    cost = operators.moe(table, Skipped()).cost
    assert cost.elsewhere[0] == (64 * 2 - 32) * 2 * (4096 + 2 * 2048 + 2048 + 4096)
    assert operators.moe(table, Skipped(), gathered=False).cost.elsewhere[0] == 0.0


def test_prompt_attention_rows_by_hand(tmp_path):
    header = "gpu,backend,version,heads,kv_heads,head_dim,attention_dtype,kv_dtype,batch,isl,"
    rows = ["h100_sxm,vllm,1,32,8,128,bfloat16,fp8,4,1000,0.9"]
    rows += ["h100_sxm,sglang,1,32,8,128,fp8,fp8,4,1000,0.9"]
    table = write(tmp_path, "a.csv", header + "latency_ms\n" + "\n".join(rows) + "\n")
    points = prompts.attention(table, Skipped())
    assert points.cost.flops[0] == 4 * 4 * 32 * 128 * 1000**2 / 2
    activations, cached = 2 * (32 + 8) * 128 * 2, 2 * 8 * 128
    assert points.cost.bytes[0] == 4000 * (activations + cached)
    assert (points.rows[0], points.tokens[0]) == (1000, 4000)
    np.testing.assert_allclose(points.peak, [989e12, 1979e12], rtol=1e-6)
    assert points.labels.family.tolist() == [
        "prefill_attention/vllm/fp8",
        f"prefill_attention/sglang/{prompts.FP8_SCORES}",
    ]


def test_prompt_latent_attention_row_by_hand(tmp_path):
    header = "gpu,backend,version,heads,attention_dtype,kv_dtype,batch,isl,latency_ms\n"
    row = "h200_sxm,trtllm,1,16,bfloat16,bfloat16,2,512,0.1\n"
    points = prompts.mla(write(tmp_path, "a.csv", header + row), Skipped())
    assert points.cost.flops[0] == 2 * 2 * 16 * (192 + 128) * 512**2 / 2
    assert points.cost.bytes[0] == 1024 * (2 * 16 * (192 + 128) * 2 + 576 * 2)
    assert points.labels.family[0] == "prefill_mla/trtllm/bf16"


@pytest.mark.parametrize("column", ["heads", "batch", "isl"])
def test_sizes_that_no_kernel_has_are_not_used(tmp_path, column):
    """Found by fuzzing: products of them overflowed."""
    names = "gpu,backend,version,heads,attention_dtype,kv_dtype,batch,isl,latency_ms"
    usual = "h200_sxm,trtllm,1,16,bfloat16,bfloat16,2,512,0.1"
    huge = usual.split(",")
    huge[names.split(",").index(column)] = "1e30"
    text, skipped = "\n".join([names, usual, ",".join(huge), ""]), Skipped()
    points = prompts.mla(write(tmp_path, "a.csv", text), skipped)
    assert len(points.cost.flops) == 1
    assert "no such sizes" in str(skipped)


def test_tables_of_prompts_are_known_by_their_columns(tmp_path):
    header = "gpu,backend,version,heads,{}attention_dtype,kv_dtype,batch,isl,latency_ms\n"
    row = "h200_sxm,trtllm,1,16,{}bfloat16,bfloat16,2,512,0.1\n"
    write(tmp_path, "a.csv", header.format("kv_heads,head_dim,") + row.format("4,128,"))
    write(tmp_path, "b.csv", header.format("") + row.format(""))
    write(tmp_path, "g.csv", GEMM + "h100_sxm,a,1,bf16,8192,64,64,0.1\n")
    write(tmp_path, "h.csv", GEMM + "h100_sxm,a,1,bf16,4096,64,64,0.1\n")
    points = read_folder(tmp_path).by_kind()
    named = {quantity.name: int(rows.sum()) for quantity, rows in quantities(points)}
    assert named == {
        "GEMM, all": 1,
        "prefill attention": 1,
        "prefill mla": 1,
        "prefill gemm": 1,
    }


def test_gemm_row_by_hand(tmp_path):
    table = write(tmp_path, "a.csv", GEMM + "h100_sxm,vllm,1,bfloat16,16,512,2048,0.01\n")
    points = operators.gemm(table, Skipped())
    assert points.cost.flops[0] == 2 * 16 * 512 * 2048
    assert points.cost.bytes[0] == 2 * (512 * 2048 + 16 * (512 + 2048))
    assert points.labels.family[0] == "gemm/vllm/bf16"


def test_attention_rows_by_hand(tmp_path):
    header = "gpu,backend,version,heads,kv_heads,head_dim,kv_dtype,batch,seq,latency_ms\n"
    points = operators.attention(
        write(tmp_path, "a.csv", header + "h100_sxm,vllm,1,32,8,128,fp8,4,1000,0.02\n"), Skipped()
    )
    assert points.cost.flops[0] == 4 * 4 * 1000 * 32 * 128
    assert points.cost.bytes[0] == 4 * 1001 * 2 * 8 * 128
    assert points.peak[0] == pytest.approx(989e12)
    header = "gpu,backend,version,heads,kv_dtype,batch,seq,latency_ms\n"
    points = operators.mla(
        write(tmp_path, "b.csv", header + "h100_sxm,trtllm,1,16,bfloat16,2,500,0.02\n"), Skipped()
    )
    assert points.cost.flops[0] == 2 * 2 * 500 * 16 * (2 * 512 + 64)
    assert points.cost.bytes[0] == 2 * 501 * 576 * 2


@pytest.mark.parametrize(
    ("op", "sent", "steps"),
    [
        ("all_reduce", 1.5e6, 6),
        ("all_gather", 0.75e6, 3),
        ("reduce_scatter", 0.75e6, 3),
        ("alltoall", 0.75e6, 1),
    ],
)
def test_collective_sends_what_a_ring_does(tmp_path, op, sent, steps):
    header = "gpu,op,impl,dtype,num_gpus,num_nodes,message_bytes,latency_ms\n"
    points = links.collective(
        write(tmp_path, "a.csv", header + f"h100_sxm,{op},nccl_2.29.2,half,4,1,1000000,0.02\n"),
        Skipped(),
    )
    assert points.sent[0] == pytest.approx(sent)
    assert points.steps[0] == steps
    assert points.bandwidth[0] == pytest.approx(450e9)


@pytest.mark.parametrize(
    ("impl", "family"),
    [
        ("nccl_2.29.2", "nccl"),
        ("trtllm_1.3.0rc20:TRTLLM", "custom-trtllm"),
        ("vllm_0.24.0:vLLM_custom_graph", "custom-vllm"),
        ("vllm_0.24.0:vLLM_custom_eager", "custom-vllm-eager"),
    ],
)
def test_implementation_names(impl, family):
    assert links.implementation(impl) == family


def test_unknown_names_are_counted_and_named(tmp_path):
    rows = [
        "h100_sxm,a,1,bfloat16,1,64,64,0.1",
        "mystery,a,1,bfloat16,1,64,64,0.1",
        "h100_sxm,a,1,int3,1,64,64,0.1",
    ]
    rows += ["h100_sxm,a,1,fp8,1,64,64,", "h100_sxm,a,1,fp8,1,64,64,0"]
    (tmp_path / "g.csv").write_text(GEMM + "\n".join(rows) + "\n")
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n3,4\n")
    folder = read_folder(tmp_path)
    assert len(folder.by_kind()["gemm"]) == 1
    assert folder.skipped.records() == [
        {"file": "g.csv", "reason": "no time in latency_ms", "rows": 2},
        {"file": "g.csv", "reason": "unknown accelerator mystery", "rows": 1},
        {"file": "g.csv", "reason": "unknown format int3", "rows": 1},
        {"file": "odd.csv", "reason": "no reader for these columns", "rows": 2},
    ]


def test_a_file_of_unknown_rows_only_is_fine(tmp_path):
    (tmp_path / "g.csv").write_text(GEMM + "mystery,a,1,bfloat16,1,64,64,0.1\n")
    assert read_folder(tmp_path).points == ()


@pytest.mark.parametrize("text", ["", "a,b\n1\n", GEMM + "h100_sxm,a,1,bf16,one,64,64,0.1\n"])
def test_broken_files_are_counted_with_their_reason(tmp_path, text):
    (tmp_path / "g.csv").write_text(text)
    (tmp_path / "h.csv").write_text(GEMM + "h100_sxm,a,1,bf16,1,64,64,0.1\n")
    folder = read_folder(tmp_path)
    assert len(folder.by_kind()["gemm"]) == 1
    (record,) = folder.skipped.records()
    assert record["file"] == "g.csv"
    assert "\n" not in str(record["reason"])


def test_missing_folder(tmp_path):
    with pytest.raises(InputError, match="CSV"):
        read_folder(tmp_path / "none")


def test_mixed_format_computes_in_its_own_arithmetic(tmp_path):
    points = operators.gemm(
        write(tmp_path, "a.csv", GEMM + "b200_sxm,a,1,w4a8_mxfp4_mxfp8,1,64,64,0.1\n"), Skipped()
    )
    plain = operators.gemm(
        write(tmp_path, "b.csv", GEMM + "b200_sxm,a,1,w4a16_mxfp4,1,64,64,0.1\n"), Skipped()
    )
    assert points.cost.bytes[0] == plain.cost.bytes[0]
    assert points.peak[0] > plain.peak[0]
    assert np.all(points.labels.dtype == "w4a8_mxfp4_mxfp8")


def test_many_query_heads_of_a_kv_head_are_another_kernel_of_tensorrt_llm(tmp_path):
    header = "gpu,backend,version,heads,kv_heads,head_dim,kv_dtype,batch,seq,latency_ms\n"
    cases = [("trtllm", 32), ("trtllm", 64), ("vllm", 64)]
    rows = [f"h100_sxm,{name},1,{heads},1,128,fp8,4,1000,0.9\n" for name, heads in cases]
    table = write(tmp_path, "a.csv", header + "".join(rows))
    points = operators.attention(table, Skipped())
    assert list(points.labels.backend) == ["trtllm", "trtllm-unshared", "vllm"]
