"""The experiments on the paper's claims: the engine that they share, and a tiny run of each.

One file, so that all of it shares what was compiled.
"""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import qsopt
from experiments.framework import study
from experiments.pages import evidence, findings_claims
from experiments.paper import (
    claims,
    context_claim,
    criterion,
    deepseek_claim,
    measured_runs,
    predictor_scores,
    qs_predictor,
    real_stacks,
    reuse,
    switch_claim,
)
from qsopt.cli.options import Question
from qsopt.comparison.twin import dense_twin
from qsopt.deployments.capped import NO_CAP
from qsopt.errors import InputError
from qsopt.spec.model import moe_layers
from qsopt.spec.service import Service

CONTEXT = 4096.0


@pytest.fixture(scope="module")
def mixtral() -> qsopt.Model:
    return qsopt.load_model("mixtral-8x7b")


def points(q: float, cap: float = NO_CAP) -> list[claims.Point]:
    clusters = [qsopt.load_cluster(name) for name in ("1xh100", "2xh100", "4xh100")]
    workload, kernels = qsopt.Workload(CONTEXT), qsopt.load_efficiency("fitted")
    return [claims.Point(Service(cluster, workload, kernels), q, cap) for cluster in clusters]


@pytest.fixture(scope="module")
def outcomes(mixtral: qsopt.Model) -> list[claims.Outcome]:
    return claims.outcomes(mixtral, points(1.9) + points(3.0))


def test_outcomes_are_those_of_compare(
    mixtral: qsopt.Model, outcomes: list[claims.Outcome]
) -> None:
    for point, outcome in zip(points(1.9) + points(3.0), outcomes, strict=True):
        expected = qsopt.compare(mixtral, service=point.service, q=point.q, twin="same-body")
        assert outcome.verdict == expected.verdict
        np.testing.assert_allclose(
            outcome.throughputs,
            (float(expected.moe.throughput), float(expected.dense.throughput)),
            rtol=1e-9,
        )


def test_an_infeasible_side_has_no_ratio_and_no_sequences(outcomes: list[claims.Outcome]) -> None:
    alone = outcomes[0]
    assert alone.verdict == "moe infeasible"
    assert alone.ratio is None
    assert claims.summary(alone)["moe_sequences"] == 0.0
    assert claims.summary(alone)["dense_sequences"] > 0.0


def test_a_cap_on_sequences_is_kept_and_costs_throughput(
    mixtral: qsopt.Model, outcomes: list[claims.Outcome]
) -> None:
    capped = claims.outcomes(mixtral, points(1.9, cap=8.0))
    assert all(claims.summary(outcome)["dense_sequences"] <= 8.0 for outcome in capped)
    assert capped[2].throughputs[0] < outcomes[2].throughputs[0]


def test_the_q_of_a_ratio_gives_that_ratio(
    mixtral: qsopt.Model, outcomes: list[claims.Outcome]
) -> None:
    here = points(1.0)[2:]
    wanted = 1.1 * outcomes[2].throughputs[0]
    q = claims.q_of_throughput(mixtral, here, [wanted])[0]
    assert q is not None
    below, above = (
        claims.outcomes(mixtral, [points(factor * q)[2]])[0].throughputs[1]
        for factor in (0.99, 1.01)
    )
    assert above < wanted < below


def test_no_q_reaches_what_the_smallest_twin_does_not(mixtral: qsopt.Model) -> None:
    assert claims.q_of_throughput(mixtral, points(1.0)[2:], [1e12]) == [None]


def test_exact_twins_are_the_dense_twins(mixtral: qsopt.Model) -> None:
    twins = claims.exact_twins(mixtral, [1.5, 2.5])
    for q, twin in twins.items():
        expected = qsopt.parameter_count(dense_twin(mixtral, q)).total
        np.testing.assert_allclose(
            float(qsopt.parameter_count(twin).total), float(expected), rtol=1e-12
        )


# ---- criteria ------------------------------------------------------------------------------------


def test_the_fit_finds_a_known_probability() -> None:
    random = np.random.default_rng(0)
    terms = random.normal(size=(4000, 2))
    truth = random.random(4000) < 1.0 / (1.0 + np.exp(-(2.0 * terms[:, 0] - 1.0)))
    fitted = criterion.fit(terms, truth)
    probability = fitted.probability(np.array([[0.0, 0.0], [0.5, 0.0], [0.5, 3.0]]))
    np.testing.assert_allclose(probability, [1.0 / (1.0 + np.e), 0.5, 0.5], atol=0.06)


def test_scores_of_perfect_random_and_constant_criteria() -> None:
    truth = np.array([True, True, False, False])
    assert criterion.accuracy(truth, truth) == 1.0
    assert criterion.balanced_accuracy(np.full(4, True), truth) == 0.5
    assert criterion.area(np.array([4.0, 3.0, 2.0, 1.0]), truth) == 1.0
    assert criterion.area(np.array([1.0, 2.0, 3.0, 4.0]), truth) == 0.0
    assert criterion.area(np.zeros(4), truth) == 0.5
    assert np.isnan(criterion.area(np.zeros(4), np.full(4, True)))


def test_reliability_counts_every_point_once() -> None:
    bins = criterion.reliability(
        np.array([0.05, 0.06, 0.95, 1.0]), np.array([False, True, True, True])
    )
    assert bins == [(pytest.approx(0.055), 0.5, 2), (pytest.approx(0.975), 1.0, 2)]


def written(folder: Path, name: str) -> dict:
    """The record of a run, after a look at whether its table and picture are there."""
    assert (folder / f"{name}.png").stat().st_size > 5000
    with (folder / f"{name}.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    record = json.loads((folder / f"{name}.json").read_text())
    assert len(table) == len(record["rows"])
    return record


# ---- tiny runs -----------------------------------------------------------------------------------


def test_headline_run(tmp_path: Path) -> None:
    settings = replace(
        study.defaults(deepseek_claim.Settings, "deepseek_claim"),
        output=tmp_path / "deepseek_claim",
        model="mixtral-8x7b",
        context=32768.0,
        accelerators=("h100",),
        devices=(2, 4),
        precisions=("bf16",),
        efficiencies=("fitted",),
        other_q=(1.2,),
    )
    deepseek_claim.main(settings)
    rows = written(tmp_path / "deepseek_claim", "deepseek_claim")["rows"]
    assert {row["devices"] for row in rows} == {2, 4}
    for devices in (2, 4):
        ratios = [
            row["ratio"]
            for row in sorted(rows, key=lambda row: row["q"])
            if row["devices"] == devices
        ]
        assert ratios == sorted(ratios, reverse=True), "a larger dense model is never faster"
        q_of_claim = next(row for row in rows if row["devices"] == devices)["q_of_claim"]
        if q_of_claim is not None:
            assert q_of_claim < 1.2 or max(ratios) > settings.claimed
    claim = findings_claims.headline(evidence.Book(tmp_path))
    geometric = [row for row in rows if row["law"] == "geometric"]
    assert claim["hits"] == sum(deepseek_claim.near(row["ratio"], 4.5) for row in geometric)
    assert claim["clusters"] == sum(row["ratio"] is not None for row in geometric)


def test_context_run(tmp_path: Path) -> None:
    settings = replace(
        study.defaults(context_claim.Settings, "context_claim"),
        output=tmp_path / "context_claim",
        models=("grok-1",),
        clusters=("4xmi300x",),
        contexts=(1024.0, 16384.0),
        points=3,
        efficiencies=("ideal",),
    )
    context_claim.main(settings)
    rows = [
        row
        for row in written(tmp_path / "context_claim", "context_claim")["rows"]
        if row["law"] == "geometric"
    ]
    assert [row["context"] for row in rows] == pytest.approx([1024.0, 4096.0, 16384.0])
    point = rows[1]
    expected = qsopt.compare(
        qsopt.load_model("grok-1"),
        qsopt.load_cluster("4xmi300x"),
        qsopt.Workload(4096.0),
        "ideal",
        point["q"],
        twin="same-body",
    )
    assert point["ratio"] == pytest.approx(float(expected.ratio), rel=1e-9)


def test_switch_run(tmp_path: Path) -> None:
    settings = replace(
        study.defaults(switch_claim.Settings, "switch_claim"),
        output=tmp_path,
        model="grok-1",
        context=CONTEXT,
        accelerators=("mi355x",),
        precisions=("bf16",),
        efficiencies=("ideal",),
        most_devices=4,
        multiples=(1,),
    )
    switch_claim.main(settings)
    (row,) = written(tmp_path, "switch_claim")["rows"]
    assert 1 <= row["dense_devices"] < row["moe_devices"] <= 4
    for devices, verdict in (
        (row["moe_devices"] - 1, "moe infeasible"),
        (row["moe_devices"], row["verdict"]),
    ):
        case = Question(
            "grok-1",
            f"{devices}xmi355x",
            CONTEXT,
            weight_dtype="bf16",
            kv_dtype="bf16",
            efficiency="ideal",
        )
        model, service = case.load()
        assert claims.outcomes(model, [claims.Point(service, row["q"])])[0].verdict == verdict


def test_reuse_run(tmp_path: Path) -> None:
    with (tmp_path / reuse.MEASURED).open("w") as file:
        file.write(
            "gpu,dtype,model,tok_per_hit_expert,bw_frac,flop_frac\nh100_sxm,bf16,DeepSeek-V3,4.0,0.8,0.1\n"
        )
    settings = replace(
        study.defaults(reuse.Settings, "reuse"),
        output=tmp_path / "reuse",
        efficiency="ideal",
        data=tmp_path,
        models=("grok-1",),
        clusters=("8xmi300x",),
        contexts=(4096.0,),
        most_sequences=64,
    )
    reuse.main(settings)
    rows = written(tmp_path / "reuse", "reuse")["rows"]
    reads = [row["dense_tokens_per_read"] for row in rows]
    assert reads == sorted(reads)
    assert all(
        1.0 - 1e-9 <= row["moe_tokens_per_read"] <= row["moe_tokens"] * (1.0 + 1e-9) for row in rows
    )
    with pytest.raises(InputError, match="no such file"):
        reuse.main(replace(settings, data=tmp_path / "nowhere"))
    assert len(findings_claims.reuse(evidence.Book(tmp_path))["points"]) == 1


def test_predictor_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qs_predictor, "model_names", lambda: ["grok-1", "mixtral-8x7b"])
    monkeypatch.setattr(predictor_scores, "FOLDS", 2)
    settings = replace(
        study.defaults(qs_predictor.Settings, "qs_predictor"),
        output=tmp_path / "qs_predictor",
        synthetic=0,
        scenarios=12,
        devices=(4, 8),
        accelerators=("h200", "mi300x"),
        efficiencies=("fitted",),
    )
    qs_predictor.main(settings)
    record = written(tmp_path / "qs_predictor", "qs_predictor")
    scores = record["scores"]["fitted"]
    assert scores["all"]["points"] == len(record["rows"])
    assert sum(part["points"] for part in scores["regimes"].values()) == scores["free q"]["points"]
    truth = [evidence.dense_wins(row) for row in record["rows"]]
    said = [row["qs"] < 1.0 for row in record["rows"]]
    assert scores["all"]["criteria"]["q s < 1"]["accuracy"] == pytest.approx(
        np.mean(np.equal(truth, said))
    )
    claim = findings_claims.predictor(evidence.Book(tmp_path))
    assert claim["simple"] == scores["free q"]["criteria"]["q s < 1"]


# ---- pure functions ------------------------------------------------------------------------------


def test_near_the_claim() -> None:
    assert deepseek_claim.near(4.6, 4.5)
    assert not deepseek_claim.near(5.1, 4.5)
    assert not deepseek_claim.near(None, 4.5)


def test_variations_are_models_of_the_same_structure() -> None:
    moe = qsopt.load_model("qwen3-30b-a3b")
    for seed in range(8):
        kind = moe_layers(qs_predictor.varied(moe, np.random.default_rng(seed)))
        assert kind is not None
        assert 1.0 <= float(kind.top_k) <= float(kind.experts) / 2.0
        assert float(kind.top_k) == round(float(kind.top_k))


# ---- measured pairs ------------------------------------------------------------------------------

RUN = {
    "gpu": "h100_sxm",
    "backend": "vllm",
    "isl": "1024",
    "osl": "512",
    "precision": "fp8",
    "n_gpus": "4",
    "tp": "4",
    "ep": "1",
    "attention_dp": "1",
    "ttft_ms": "100",
}


def test_pairs_are_of_runs_on_one_stack_under_the_limit() -> None:
    rows = [
        RUN | {"model": "Mixtral-8x7B", "concurrency": "16", "tpot_ms": "10"},
        RUN | {"model": "Mixtral-8x7B", "concurrency": "64", "tpot_ms": "30"},
        RUN | {"model": "Qwen3-32B", "concurrency": "16", "tpot_ms": "20"},
        RUN | {"model": "Qwen3-32B", "concurrency": "16", "tpot_ms": "20", "backend": "sglang"},
    ]
    groups = measured_runs.served_runs(rows, "fitted")
    (pair,) = real_stacks.pairs(groups, [0.02], "geometric")
    assert (pair["moe"], pair["dense"]) == ("mixtral-8x7b", "qwen3-32b")
    assert pair["measured_ratio"] == pytest.approx((16 / 0.020) / (16 / 0.010))
    assert pair["size_over_match"] == pytest.approx(pair["q"] / pair["law_q"])
    assert real_stacks.agreement([pair])["median_factor"] >= 1.0


def test_runs_that_wait_in_a_queue_are_left_out() -> None:
    run = RUN | {"tpot_ms": "5"}
    assert not measured_runs.queues(run)
    assert measured_runs.queues(run | {"ttft_ms": "20000"})


def test_without_measured_results_it_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = replace(study.defaults(real_stacks.Settings, "real_stacks"), output=tmp_path)
    real_stacks.main(settings)
    assert "--data FOLDER" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="no such file"):
        real_stacks.main(replace(settings, data=tmp_path))
