import jax.numpy as jnp
import numpy as np
import pytest

from qsopt.calibration.serving.published import FULL, STATIC, read_published
from qsopt.calibration.serving.runs import Host, read_runs, throughput, tpot, ttft
from qsopt.calibration.tables.columns import Skipped, Table, read_table
from qsopt.fitted.errors import Errors
from qsopt.fitted.groups import Calibration, FittedGroup

HEADER = "source,model,gpu,precision,tp,pp,ep,attention_dp,n_gpus,isl,osl,batch,metric,value,note\n"
ROWS = [
    "TensorRT-LLM,Mixtral-8x7B,h100_sxm,fp8,2,1,1,1,2,128,2048,64,out_tok_s_total,8000,",
    "TensorRT-LLM,Mixtral-8x7B,h100_sxm,fp8,2,1,1,1,2,128,2048,,out_tok_s_per_gpu,4000,",
    "TensorRT-LLM,Mixtral-8x7B,h100_sxm,fp16,1,1,1,1,1,128,2048,,out_tok_s_per_gpu,4000,",
    "TensorRT-LLM,Unheard-1B,h100_sxm,fp8,1,1,1,1,1,128,2048,8,out_tok_s_per_gpu,4000,",
    "TensorRT-LLM,Mixtral-8x7B,h100_sxm,fp3,2,1,1,1,2,128,2048,8,out_tok_s_per_gpu,4000,",
    "LMSYS,Mixtral-8x7B,h100_sxm,fp8,2,1,1,1,2,128,,8,out_tok_s_per_gpu,4000,",
    "LMSYS,Mixtral-8x7B,h100_sxm,fp8,2,1,1,1,2,128,2048,8,in_tok_s_per_gpu,4000,",
]


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    """One group of every kind."""
    values = {"launch": 1e-5, "bandwidth": 0.8, "compute": 0.6}
    none = Errors(1, 0.1, 0.2, 0.0)
    link = {"launch": 5e-6, "step": 3e-7, "bandwidth": 0.75}
    kinds = {
        "experts": values,
        "gemm": values,
        "attention": values,
        "mla": values,
        "collective": link,
        "exchange": link,
    }
    return Calibration(
        "t",
        "1",
        "d",
        tuple(
            FittedGroup(kind, "trtllm", "bf16", v, v, v, none, none, none, none)
            for kind, v in kinds.items()
        ),
    )


@pytest.fixture(scope="module")
def published(tmp_path_factory, calibration):
    path = tmp_path_factory.mktemp("published") / "p.csv"
    path.write_text(HEADER + "\n".join(ROWS) + "\n")
    skipped = Skipped()
    return read_published(read_table(path), calibration, skipped), skipped


def test_rates_are_of_one_device(published):
    found, _ = published
    assert set(found) == {STATIC, FULL}
    assert found[STATIC].throughput.tolist() == [4000.0]
    assert found[STATIC].sequences.tolist() == [32.0]
    assert found[STATIC].backends == ("trtllm",)
    assert np.isnan(found[STATIC].tpot).all()


def test_batch_that_fills_the_memory(published):
    """Two devices of 80 GiB leave 0.9 of about 115 GB beside 47 GB of weights and 7 GB of runtime,
    at 128 KiB a token and 1152 tokens a sequence.
    """
    found, _ = published
    full = found[FULL]
    assert len(full.step) == 1
    assert 300 < full.sequences[0] < 360


def test_what_cannot_be_used_is_counted_by_reason(published):
    _, skipped = published
    assert [(record["reason"], record["rows"]) for record in skipped.records()] == [
        ("in_tok_s_per_gpu is no rate of output tokens", 1),
        ("output or input length not stated", 1),
        ("the model does not fit the memory", 1),
        ("unknown format fp3", 1),
        ("unknown model Unheard-1B", 1),
    ]


def test_throughput_follows_from_the_time_of_a_request(published):
    found, _ = published
    runs = found[STATIC].unlabelled
    host = Host(jnp.array([1.0]), jnp.ones((1, 3)), jnp.array([0.0]), 1e-3, 4e-5, 0.5, 0.1)
    request = 2048 * float(tpot(runs, host)[0]) + float(ttft(runs, host)[0])
    assert float(ttft(runs, host)[0]) > 2048 * float(runs.reading[0])
    assert float(throughput(runs, host)[0]) == pytest.approx(64 * 2048 / request / 2)


def test_results_without_optional_columns(tmp_path, calibration):
    text = "model,gpu,backend,tp,isl,osl,concurrency,tpot_ms,note\n"
    text += "qwen3-8b,h100_sxm,vllm,2,1024,1024,{},9,x\n"
    (tmp_path / "e.csv").write_text(text.format(16))
    runs = read_runs(read_table(tmp_path / "e.csv"), calibration, Skipped())
    assert runs.tpot[0] == pytest.approx(9e-3)
    assert runs.sequences[0] == 8
    assert runs.waiting[0] == pytest.approx(16 * runs.reading[0])
    assert np.isnan(runs.throughput[0])
    (tmp_path / "e.csv").write_text(text.format(-1))
    skipped = Skipped()
    table: Table = read_table(tmp_path / "e.csv")
    assert len(read_runs(table, calibration, skipped).step) == 0
    assert skipped.records()[0]["reason"] == "a size that is missing or not positive"
