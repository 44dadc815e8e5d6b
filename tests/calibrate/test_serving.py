import json
import os
import tomllib
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from qsopt.calibration.serving.host import check_host, load_host, ordering, save_host
from qsopt.calibration.serving.runs import Host, Runs, read_runs, throughput, tpot, ttft
from qsopt.calibration.serving.served_run import model_name, precise
from qsopt.calibration.tables.folder import read_folder
from qsopt.calibration.validation import concurrency_class, rows
from qsopt.catalog.efficiencies import efficiency_set, load_efficiency
from qsopt.cli import main
from qsopt.fitted import sets
from qsopt.fitted.errors import Errors, errors
from qsopt.fitted.groups import load_calibration, shipped
from qsopt.spec.formats import FORMATS, format_name

DATA = Path(
    os.environ.get("QSOPT_MEASURED", Path(__file__).parents[2].parent / "shared" / "measured")
)


FACTORS = jnp.array([[0.95, 1.05, 1.0], [1.02, 1.0, 0.98]])


def runs() -> Runs:
    generator = np.random.default_rng(0)
    step, waiting = (
        np.exp(generator.normal(-4.5, 1.0, 300)),
        np.exp(generator.normal(-6.0, 1.0, 300)),
    )
    backend, width = generator.integers(0, 2, 300), generator.integers(0, 3, 300)
    model, gpu = generator.choice(["a", "b", "c"], 300), generator.choice(["x", "y"], 300)
    layers, answer = generator.integers(20, 90, 300) * 1.0, np.full(300, 500.0)
    ahead = waiting * np.exp(generator.normal(0.0, 1.0, 300))
    truth = Host(jnp.array([0.9, 1.2]), FACTORS, jnp.array([4.0, 20.0]), 1e-3, 8e-5, 0.7, 0.2)

    def made(times: np.ndarray, first: np.ndarray) -> Runs:
        texts = (model, gpu, model)
        rates = (times, waiting, step, step)
        load = (np.full(300, 8.0), layers, answer, ahead, first)
        place = (model, step, model)
        return Runs(step, waiting, backend, width, *rates, *texts, *load, *place, ("one", "two"))

    bare = made(step, step).unlabelled
    first = np.array(ttft(bare, truth))
    first[:5] = np.nan
    return made(np.asarray(tpot(bare, truth)), first)


def test_constants_are_recovered(tmp_path):
    found, times, first = check_host(runs())
    np.testing.assert_allclose(found.scale, [0.9, 1.2], rtol=0.05)
    np.testing.assert_allclose(found.late, [4.0, 20.0], rtol=0.1)
    assert float(found.first_layer) == pytest.approx(1e-3, rel=0.1)
    assert float(found.host_layer) == pytest.approx(8e-5, rel=0.1)
    assert float(found.interference) == pytest.approx(0.7, rel=0.1)
    assert float(found.burst) == pytest.approx(0.2, rel=0.1)
    for name in ("other_shapes", "other_accelerators"):
        left = errors(first[name][5:], runs().ttft[5:])
        assert left.p90 < 0.05, name
    right, pairs = ordering(runs(), times["other_shapes"])
    assert right / pairs > 0.99
    left = {name: Errors(3, 0.1, 0.2, 0.0) for name in ("fitted", "other_shapes")}
    save_host(found, ("one", "two"), left, tmp_path / "h.toml")
    again = load_host(tmp_path / "h.toml", ("two", "elsewhere"))
    for name in ("scale", "late"):
        one = getattr(found, name)
        np.testing.assert_allclose(getattr(again, name), [one[1], one.mean()], rtol=1e-3)
    np.testing.assert_allclose(again.by_bits[0], found.by_bits[1], rtol=1e-3)
    mean = np.mean(found.scale[:, None] * found.by_bits, axis=0) / np.mean(found.scale)
    np.testing.assert_allclose(again.by_bits[1], mean, rtol=1e-3)
    for name in ("first_layer", "host_layer", "interference", "burst"):
        assert float(getattr(again, name)) == pytest.approx(float(getattr(found, name)), rel=1e-3)


def test_times_of_a_run_by_hand():
    """TPOT = 0.75 * 1.2 * 10 + 0.04 * 60 + 0.5 * 4 = 13.4 ms; TTFT = 100 * (2 + 0.1 * 30) + 60 * 1
    + 2 (0.9 * 10 + 0.04 * 60) = 582.8 ms; tokens/s of one device = 8 / (13.4 + 5.828) ms.
    """
    one = lambda value: np.array([value])  # noqa: E731
    run = Runs(
        step=one(10e-3),
        waiting=one(4e-3),
        backend=one(0),
        width=one(2),
        tpot=one(np.nan),
        reading=one(2e-3),
        sequences=one(8.0),
        throughput=one(np.nan),
        model=None,  # pyright: ignore[reportArgumentType]
        gpu=None,  # pyright: ignore[reportArgumentType]
        layout=None,  # pyright: ignore[reportArgumentType]
        concurrency=one(8.0),
        layers=one(60.0),
        answer=one(100.0),
        ahead=one(30e-3),
        ttft=one(np.nan),
        lengths=None,  # pyright: ignore[reportArgumentType]
        devices=one(1.0),
        source=None,  # pyright: ignore[reportArgumentType]
        backends=("one",),
    )
    factors = jnp.array([[0.5, 0.7, 1.2]])
    host = Host(jnp.array([0.75]), factors, jnp.array([2.0]), 1e-3, 40e-6, 0.5, 0.1)
    assert float(tpot(run, host)[0]) == pytest.approx(13.4e-3)
    assert float(ttft(run, host)[0]) == pytest.approx(582.8e-3)
    assert float(throughput(run, host)[0]) == pytest.approx(8 / 19.228e-3)


def test_concurrencies_have_classes():
    found = concurrency_class(np.array([1.0, 8.0, 9.0, 128.0, 129.0, np.nan]))
    assert list(found) == ["1-8", "1-8", "9-32", "33-128", "129 and more", "not stated"]


@pytest.mark.skipif(not DATA.is_dir(), reason="the measured data are not here")
def test_shipped_constants_are_where_their_fit_ends():
    """On the rows of one small model: time per token and time to first token as told."""
    folder = read_folder(DATA)
    table = folder.serving[0]
    table = table.where(table.text("model") == "Qwen3-32B")
    calibration = load_calibration(shipped())
    read = read_runs(table, calibration, folder.skipped)
    host = load_host(shipped("serving"), read.backends)
    left = errors(np.asarray(tpot(read.unlabelled, host)), read.tpot)
    assert left.median < 0.12 and abs(left.bias) < 0.06
    known = read.concurrency <= 32
    first = errors(np.asarray(ttft(read.unlabelled, host))[known], read.ttft[known])
    assert first.median < 0.45


def test_names_and_formats_of_checkpoints():
    assert model_name("DeepSeek-V3") == "deepseek-v3"
    assert model_name("No-Such-Model") is None
    assert format_name(precise("deepseek-v3", "fp8").precision.experts) == "fp8_block"
    assert format_name(precise("deepseek-v3", "fp4").precision.experts) == "nvfp4"
    assert format_name(precise("qwen3-32b", "bf16").precision.ffn) == "bf16"


def test_sets_take_a_backend_and_fall_back_to_the_nearest_format(tmp_path):
    calibration = load_calibration(shipped())
    made = sets.efficiency(calibration, "trtllm", "h200", efficiency_set("kernels"))
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
    assert again.scale_out == efficiency_set("kernels").scale_out
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
