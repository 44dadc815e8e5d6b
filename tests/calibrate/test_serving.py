import json
import os
import tomllib
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from qsopt.calibration.serving.host import check_host, load_host, ordering, save_host
from qsopt.calibration.serving.runs import Host, Runs, tpot
from qsopt.calibration.serving.served_run import model_name, precise
from qsopt.calibration.tables.folder import read_folder
from qsopt.calibration.validation import rows
from qsopt.catalog.efficiencies import efficiency_set, load_efficiency
from qsopt.cli import main
from qsopt.fitted import sets
from qsopt.fitted.errors import Errors
from qsopt.fitted.groups import load_calibration, shipped
from qsopt.spec.formats import FORMATS, format_name

DATA = Path(
    os.environ.get("QSOPT_MEASURED", Path(__file__).parents[2].parent / "shared" / "measured")
)


def runs() -> Runs:
    generator = np.random.default_rng(0)
    step, waiting = (
        np.exp(generator.normal(-4.5, 1.0, 300)),
        np.exp(generator.normal(-6.0, 1.0, 300)),
    )
    backend = generator.integers(0, 2, 300)
    model, gpu = generator.choice(["a", "b", "c"], 300), generator.choice(["x", "y"], 300)
    truth = Host(jnp.array([0.9, 1.2]), jnp.array([1e-3, 4e-3]), 0.7)

    def made(times: np.ndarray) -> Runs:
        return Runs(
            *(step, waiting, backend, times, waiting, step, step, model, gpu, model, model, step),
            ("one", "two"),
        )

    return made(np.asarray(tpot(made(step).unlabelled, truth)))


def test_constants_are_recovered(tmp_path):
    found, times = check_host(runs())
    np.testing.assert_allclose(found.scale, [0.9, 1.2], rtol=0.05)
    np.testing.assert_allclose(found.host, [1e-3, 4e-3], rtol=0.1)
    assert float(found.interference) == pytest.approx(0.7, rel=0.1)
    right, pairs = ordering(runs(), times["other_shapes"])
    assert right / pairs > 0.99
    save_host(found, ("one", "two"), {"fitted": Errors(3, 0.1, 0.2, 0.0)}, tmp_path / "h.toml")
    again = load_host(tmp_path / "h.toml", ("two", "elsewhere"))
    np.testing.assert_allclose(again.scale, [found.scale[1], found.scale.mean()], rtol=1e-3)


def test_names_and_formats_of_checkpoints():
    assert model_name("DeepSeek-V3") == "deepseek-v3"
    assert model_name("No-Such-Model") is None
    assert format_name(precise("deepseek-v3", "fp8").precision.experts) == "fp8_block"
    assert format_name(precise("deepseek-v3", "fp4").precision.experts) == "nvfp4"
    assert format_name(precise("qwen3-32b", "bf16").precision.ffn) == "bf16"


def test_sets_take_a_backend_and_fall_back_to_the_nearest_format(tmp_path):
    calibration = load_calibration(shipped())
    made = sets.efficiency(calibration, "trtllm", "h200", efficiency_set("fitted"))
    bf16 = FORMATS.index("bf16")
    own = calibration.nearest("experts", "trtllm", "bf16").own["h200"].values
    assert float(made.experts.launch[bf16]) == pytest.approx(own["launch"])
    assert float(made.mla.half_batch[bf16]) == pytest.approx(
        calibration.nearest("mla", "trtllm", "bf16").own["h200"].values["half_batch"]
    )
    about = {"name": "t", "version": "1", "date": "2026-11-22", "source": 'a "b"', "note": "c\\d"}
    sets.save_set(made, about, tmp_path / "t.toml")
    written = tomllib.loads((tmp_path / "t.toml").read_text())
    assert {name: str(written[name]) for name in about} == about
    again = load_efficiency(tmp_path / "t.toml")
    np.testing.assert_allclose(again.gemm.bandwidth, made.gemm.bandwidth, rtol=1e-3)
    np.testing.assert_allclose(again.scale_up.collective, made.scale_up.collective, rtol=1e-3)
    assert again.scale_out == efficiency_set("fitted").scale_out
    assert "# NCCL between nodes" in (tmp_path / "t.toml").read_text(), "comments stay"


@pytest.mark.skipif(not DATA.is_dir(), reason="the measured data are not here")
def test_shipped_parameters_keep_their_errors():
    points = read_folder(DATA).by_kind()
    left = {
        row["group"]: row for row in rows(points, load_calibration(shipped())) if row["file"] == "*"
    }
    limits = {
        "MoE layer, all": 0.11,
        "GEMM with n*k >= 8e6": 0.09,
        "GQA decode attention, ideal time > 10 us": 0.11,
        "MLA decode attention": 0.12,
        "collectives on one scale-up domain": 0.13,
    }
    for name, limit in limits.items():
        assert left[name]["median"] <= limit, name
        assert abs(left[name]["bias"]) < 0.05, name


def test_serving_alone_keeps_the_operators(tmp_path, capsys):
    header = "model,gpu,backend,precision,tp,n_gpus,isl,osl,concurrency,tpot_ms,out_tok_s_gpu_est"
    lines = [
        f"{model},{gpu},vllm,bf16,1,1,1024,256,{batch},{batch / 4 + 8},{batch * 20}"
        for model in ("qwen3-8b", "olmoe-1b-7b")
        for gpu in ("h100_sxm", "h200_sxm")
        for batch in (1, 8)
    ]
    (tmp_path / "runs.csv").write_text("\n".join([header, *lines]))
    words = ["calibrate", "--only", "serving", "--data", str(tmp_path), "--json"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    written = json.loads(capsys.readouterr().out)["written"]
    assert written == [str(tmp_path / "out" / "serving.toml")]
    assert set(tomllib.loads(Path(written[0]).read_text())["backend"]) == {"vllm"}
    (tmp_path / "runs.csv").write_text("a,b\n1,2\n")
    assert main(words) == 2
    assert "no end-to-end results" in capsys.readouterr().err
    assert main(["calibrate", "--groups", "x.toml", "--data", str(tmp_path)]) == 2
    assert "--only serving" in capsys.readouterr().err
