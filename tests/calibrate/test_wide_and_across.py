from pathlib import Path

import numpy as np
import pytest

from qsopt.calibration.points import OperatorPoints
from qsopt.calibration.tables import links
from qsopt.calibration.tables.columns import Skipped, read_table
from qsopt.calibration.tables.folder import read_folder

WIDE = (
    "gpu,backend,version,table,kernel,dtype,model,hidden,inter,topk,num_experts,num_slots,moe_tp,moe_ep,distribution,"
    "num_tokens,rank0_num_tokens,latency_ms\n"
)
EXCHANGE = (
    "gpu,impl,phase,comm_dtype,ep_size,num_nodes,hidden,topk,num_experts,model,tokens_per_rank,"
    "sms,latency_us\n"
)


def test_wide_rows_by_hand(tmp_path):
    rows = [
        "h200_sxm,sglang,0.5.10,t,deepepmoe,fp8,M,7168,2048,8,256,,1,8,uniform,64,,0.4",
        "h200_sxm,trtllm,1,t,k,fp8,M,7168,2048,8,256,256.0,1,8,power_law_1.01_eplb,1024,9.0,0.4",
        "h200_sxm,trtllm,1,t,k,fp8,M,7168,2048,8,256,256.0,1,8,measured,64,9.0,0.4",
        "h200_sxm,trtllm,1,t,k,fp8,M,7168,2048,8,256,,1,8,uniform,,9.0,0.4",
    ]
    (tmp_path / "w.csv").write_text(WIDE + "\n".join(rows) + "\n")
    folder = read_folder(tmp_path)
    points = folder.by_kind()["experts"]
    assert isinstance(points, OperatorPoints)
    assert points.labels.family.tolist() == ["experts/sglang-wide/fp8", "experts/trtllm-wide/fp8"]
    weights = 3 * 7168 * 2048
    assert points.cost.flops[0] == 2 * weights * 64
    assert points.cost.bytes[0] >= 32 * weights
    assert points.rows[0] == 2
    assert points.cost.flops[1] == pytest.approx(2 * weights * 1024, rel=0.02)
    assert folder.skipped.records() == [
        {"file": "w.csv", "reason": "a distribution of tokens without a rule", "rows": 2},
    ]


def exchanged(tmp_path: Path, *rows: str):
    (tmp_path / "a.csv").write_text(EXCHANGE + "\n".join(rows) + "\n")
    skipped = Skipped()
    return links.exchange(read_table(tmp_path / "a.csv"), skipped), skipped


def test_exchange_across_domains_by_hand(tmp_path):
    row = "h100_sxm,sglang_0.5.6_deepep_ll,dispatch,fp8,{},{},7168,8,256,M,128,0,55"
    points, _ = exchanged(tmp_path, row.format(8, 1), row.format(16, 2), row.format(64, 8))
    inside, across = 450e9, 50e9
    token = 128 * 7168
    np.testing.assert_allclose(points.bandwidth, [inside, across, across])
    assert points.steps.tolist() == [7, 1, 7]

    def ranks_visited(ranks: int) -> float:
        """Of 8 picks, copies for one rank merged."""
        return ranks * (1 - (1 - 1 / ranks) ** 8)

    inner = token * across / inside
    two = ranks_visited(16) * 14 / 16 * inner + token * (1 - 0.5**8)
    eight = ranks_visited(64) * 56 / 64 * inner + token * 7 * (1 - (7 / 8) ** 8)
    np.testing.assert_allclose(points.sent, [token * ranks_visited(8) * 7 / 8, two, eight])
    assert points.labels.backend.tolist() == ["sglang-deepep-ll", *["sglang-deepep-ll-across"] * 2]


def test_ranks_that_do_not_fill_their_nodes_are_counted(tmp_path):
    points, skipped = exchanged(tmp_path, "h100_sxm,a_1_b,dispatch,fp8,8,3,7168,8,256,M,128,0,55")
    assert len(points) == 0
    assert skipped.records() == [
        {"file": "a.csv", "reason": "ranks that do not fill their nodes", "rows": 1}
    ]
