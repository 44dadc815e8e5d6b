"""What `qsopt validate` says about folders with odd files."""

import json

import pytest

from qsopt.cli.validate import Validate
from qsopt.fitted.groups import load_calibration, shipped

GEMM = "gpu,backend,version,dtype,m,n,k,latency_ms\nh100_sxm,trtllm,1,bfloat16,16,4096,4096,0.02\n"

FILES = {
    "accelerator.csv": GEMM + "mystery,trtllm,1,bfloat16,16,4096,4096,0.02\n",
    "empty.csv": "",
    "header.csv": GEMM.splitlines()[0] + "\n",
    "extra.csv": GEMM.replace("latency_ms\n", "latency_ms,mood\n").replace("0.02\n", "0.02,fine\n"),
    "optional.csv": GEMM.replace("version,", "").replace("trtllm,1,", "trtllm,"),
    "needed.csv": GEMM.replace("gpu,", "chip,"),
    "ragged.csv": GEMM + "h100_sxm,trtllm\n",
    "words.csv": GEMM.replace("0.02", "fast"),
    "negative.csv": GEMM.replace(",16,", ",-16,"),
    "odd.csv": "a,b\n1,2\n",
    "e2e.csv": "model,gpu,backend,tp,isl,osl,concurrency,tpot_ms\n"
    "Unheard-1B,h100_sxm,vllm,1,1024,1024,4,9\n",
    "e2e_short.csv": "model,gpu,isl,osl,concurrency,tpot_ms\nqwen3-8b,h100_sxm,1024,1024,4,9\n",
}


@pytest.fixture(scope="module")
def answer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as out:
        Validate(folder, json=True).run()

    def refuse(name):
        raise ValueError(name)

    return json.loads(out.getvalue(), parse_constant=refuse)


def test_only_rows_and_skipped(answer):
    assert set(answer) == {"rows", "schema_version", "skipped"}
    assert all(
        set(row) == {"file", "group", "n", "median", "p90", "bias"} for row in answer["rows"]
    )
    assert all(set(row) == {"file", "reason", "rows"} for row in answer["skipped"])


def test_good_rows_count(answer):
    rows = {(row["file"], row["group"]): row for row in answer["rows"]}
    for name in ("accelerator.csv", "extra.csv", "optional.csv"):
        assert rows[name, "all"]["n"] == 1
        assert rows[name, "accelerator h100"]["median"] == rows["extra.csv", "all"]["median"]
    assert rows["*", "GEMM, all"]["n"] == 3


def test_the_rest_is_named(answer):
    reasons = {row["file"]: (row["reason"], row["rows"]) for row in answer["skipped"]}
    assert reasons == {
        "accelerator.csv": ("unknown accelerator mystery", 1),
        "empty.csv": (reasons["empty.csv"][0], 0),
        "header.csv": ("a header without rows", 0),
        "needed.csv": (
            "no column 'gpu'; it has chip, backend, version, dtype, m, n, k, latency_ms",
            1,
        ),
        "ragged.csv": ("line 3 has 2 entries and the header 8", 0),
        "words.csv": (reasons["words.csv"][0], 1),
        "negative.csv": ("a size that is missing or not positive", 1),
        "odd.csv": ("no reader for these columns", 1),
        "e2e.csv": ("unknown model Unheard-1B", 1),
        "e2e_short.csv": (reasons["e2e_short.csv"][0], 1),
    }
    assert "cannot be read" in reasons["empty.csv"][0]
    assert "column 'latency_ms'" in reasons["words.csv"][0]
    assert "no column" in reasons["e2e_short.csv"][0]


def test_shipped_groups_can_be_read():
    assert load_calibration(shipped()).groups
