"""`compare` on requests: laws against `serve` and decode alone, what flips a verdict, the answer as
JSON and as a table, and bad input.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest

import qsopt
from qsopt import InputError, Model, Workload, load_cluster, load_efficiency, load_model
from qsopt.cli import main
from qsopt.comparison.contenders import RequestDuel, request_duel
from qsopt.comparison.dense import NAMED, SAME_BODY, dense_match
from qsopt.comparison.duel import throughput_of
from qsopt.comparison.flips import flips_of_q, nearest
from qsopt.comparison.request_penalties import request_penalties
from qsopt.comparison.requests import RequestComparison, settle_requests
from qsopt.comparison.twin import aligned
from qsopt.maps.crossover import crossovers
from qsopt.maps.pair import MatchedPair
from qsopt.report.records.serving import decode_service
from qsopt.spec.service import Service

NAME, Q = "olmoe-1b-7b", np.float64(2.0)


@cache
def moe() -> Model:
    return load_model(NAME)


def service(which: str = "fitted", devices: int = 1, **changes: float) -> Service:
    asked = Workload(**{"prompt": 1024.0, "answer": 512.0, **changes})
    return Service(load_cluster(f"{devices}xh100"), asked, load_efficiency(which))


def ratio_of(duel: RequestDuel, asked: Service) -> float:
    return duel.dense.throughput(asked) / duel.moe.throughput(asked)


@cache
def settled() -> tuple[RequestComparison, RequestDuel]:
    return settle_requests(moe(), service(), Q, SAME_BODY)


# ---- laws ----------------------------------------------------------------------------------------


def test_the_ratio_is_that_of_two_searches() -> None:
    """On two devices, so that pools are searched too; one structure, so that one compilation
    serves.
    """
    two = service(devices=2)
    match = dense_match(moe(), Q, SAME_BODY)
    duel = request_duel(moe(), match, two, SAME_BODY)
    reached = [
        float(qsopt.serve(aligned(side, moe()), two, top=1).ranked[0].reached.throughput)
        for side in (moe(), match)
    ]
    assert ratio_of(duel, two) == pytest.approx(reached[1] / reached[0], rel=1e-9)
    assert duel.verdict(two) == ("dense wins" if reached[1] > reached[0] else "moe wins")


def test_a_match_that_is_named_is_the_match_that_is_made() -> None:
    match = dense_match(moe(), Q, SAME_BODY)
    again = request_duel(moe(), match, service(), NAMED)
    expected = float(settled()[0].ratio)
    assert ratio_of(again, service()) == pytest.approx(expected, rel=1e-12)
    assert not list(flips_of_q(1.0, float(Q), again, service()))


def test_an_moe_of_one_expert_ties_with_the_dense_model_of_its_size() -> None:
    """Every token takes the only expert, so nothing but the router separates both sides."""
    names = ("experts", "top_k", "shared_experts", "shared_width", "width")

    def numbers(model: Model) -> tuple:
        kind = model.decoder.ffn[-1].kind
        return tuple(getattr(kind, name) for name in names)

    whole = eqx.tree_at(numbers, moe(), (1.0, 1.0, 0.0, 0.0, 8192.0))
    match = dense_match(whole, np.float64(1.0), SAME_BODY)
    duel = request_duel(whole, match, service("ideal"), SAME_BODY)
    assert ratio_of(duel, service("ideal")) == pytest.approx(1.0, abs=0.02)


def test_long_answers_to_a_short_prompt_are_decode_alone() -> None:
    """With operators alone, as decode alone has no server."""
    long = service("ideal", prompt=1.0, answer=4000.0)
    duel = request_duel(moe(), dense_match(moe(), Q, SAME_BODY), long, SAME_BODY)
    alone = [throughput_of(side.model, moe(), decode_service(long)) for side in duel[:2]]
    assert duel.moe.throughput(long) == pytest.approx(alone[0], rel=0.02)
    assert ratio_of(duel, long) == pytest.approx(alone[1] / alone[0], rel=0.02)


# ---- penalties -----------------------------------------------------------------------------------


def test_the_factors_multiply_to_the_ratio() -> None:
    causes = settled()[0].causes
    factors = jax.tree.leaves(causes.whole)
    assert float(np.prod(factors)) == pytest.approx(float(settled()[0].ratio), rel=1e-6)
    again = jax.tree.map(lambda a, b: a * b, causes.prefill, causes.decode)
    np.testing.assert_allclose(jax.tree.leaves(again), factors, rtol=1e-9)
    # reading a prompt hits every expert anyway, and a larger dense model pays in both phases
    assert float(causes.decode.reuse) > 1.0
    assert float(causes.whole.arithmetic) < 1.0
    assert float(causes.prefill.arithmetic) < 1.0


def test_without_prompts_all_of_the_factors_are_those_of_decoding() -> None:
    causes = request_penalties(settled()[1], service(cached=1.0), Q)
    np.testing.assert_allclose(jax.tree.leaves(causes.prefill), 1.0, rtol=1e-9)


# ---- flips ---------------------------------------------------------------------------------------


def test_flips_lie_where_the_verdict_is_another() -> None:
    result, duel = settled()
    assert result.flips
    for flip in result.flips:
        assert flip.to != result.verdict
        if flip.input == "answer":
            assert duel.verdict(service(answer=flip.value)) == flip.to
    (by_q,) = (flip for flip in result.flips if flip.input == "q")
    near = request_duel(
        moe(), dense_match(moe(), np.float64(by_q.value), SAME_BODY), service(), SAME_BODY
    )
    assert ratio_of(near, service()) == pytest.approx(1.0, abs=0.05)
    assert result.break_even_q == by_q.value


@pytest.mark.parametrize(("own", "edge"), [(1.0, 3.0), (100.0, 7.0)])
def test_the_nearest_flip_is_found_within_its_step(own: float, edge: float) -> None:
    def at(value: float) -> str:
        return "dense wins" if 3.0 < value < 7.0 else "moe wins"

    ((value, to),) = nearest(at, own, at(own), (0.5, 2.0, 5.0, 50.0))
    assert to == "dense wins"
    assert value == pytest.approx(edge, rel=0.08)
    assert at(value) == to


def test_nothing_flips_where_every_verdict_is_the_same() -> None:
    assert not list(nearest(lambda _: "tie", 5.0, "tie", (1.0, 10.0)))


def test_a_flip_to_nobody_is_no_flip() -> None:
    def at(value: float) -> str:
        return "both infeasible" if value < 1.0 else "moe wins"

    assert not list(nearest(at, 5.0, "moe wins", (0.5, 10.0)))


# ---- crossovers ----------------------------------------------------------------------------------


def test_a_crossover_over_the_answer_is_where_the_verdict_flips() -> None:
    _, duel = settled()
    pair = MatchedPair(moe(), service(), float(Q), SAME_BODY)
    found = crossovers(pair, "answer", 16.0, 4096.0)
    assert found.crossings
    assert found.evaluated < 97
    for crossing in found.crossings:
        below, above = (duel.verdict(service(answer=crossing.value * x)) for x in (0.995, 1.005))
        assert below != above
        assert above == f"{crossing.direction.removeprefix('to ')} wins"


@pytest.mark.parametrize(
    ("over", "high", "words"),
    [
        ("context", 100.0, "prompt, answer"),
        ("cached", 1.5, "a share, at most 1"),
        ("acceptance", 0.9, "nothing is drafted"),
    ],
)
def test_what_requests_do_not_have_cannot_be_moved(over: Any, high: float, words: str) -> None:
    pair = MatchedPair(moe(), service(), float(Q), SAME_BODY)
    with pytest.raises(InputError, match=words):
        crossovers(pair, over, 0.1, high)


@pytest.mark.slow
def test_crossover_answers_on_requests(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qsopt.cli.runtime.configure", lambda **_: None)
    where = WHERE.removesuffix(" --q 2").split()
    asked = [*where, "--q", "2", "--twin", "same-body", "--over", "cached", "--from", "0.5"]
    assert main(["crossover", *asked, "--to", "99%", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["question"], record["prompt"], record["cached"]) == ("request", 1024.0, None)
    assert record["at_low"]["value"] == 0.5
    again = qsopt.crossovers(
        NAME, "1xh100", Workload(prompt=1024.0, answer=512.0), over="cached", low=0.5, high=0.99,
        q=2.0, twin="same-body",
    )  # fmt: skip
    assert again.to_dict() == {key: record[key] for key in record if key != "schema_version"}


# ---- answers -------------------------------------------------------------------------------------

WHERE = f"--model {NAME} --cluster 1xh100 --prompt 1024 --answer 512 --q 2"
KEYS = {
    "model", "cluster", "question", "prompt", "answer", "cached", "ttft_limit_s", "tpot_limit_s",
    "load", "acceptance", "moe", "dense", "reason", "s", "q", "qs", "ratio_dense_over_moe",
    "verdict", "break_even_q", "dense_twin", "efficiency", "twin", "matches", "verdict_overall",
    "flips", "decode_alone", "law", "penalties", "penalties_by_phase",
}  # fmt: skip


@cache
def asked_in_python() -> Any:
    return qsopt.compare(NAME, "1xh100", Workload(prompt=1024.0, answer=512.0), q=2.0)


def test_json_and_python_say_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("qsopt.cli.runtime.configure", lambda **_: None)
    plot = tmp_path / "ratio.svg"
    assert main(["compare", *WHERE.split(), "--plot", str(plot), "--json"]) == 0
    assert "answer length" in plot.read_text("utf-8")
    record, result = json.loads(capsys.readouterr().out), asked_in_python()
    assert record.pop("schema_version") == 1
    assert record == json.loads(json.dumps(result.to_dict()))
    assert set(record) >= KEYS
    assert record["question"] == "request"
    rates = [record[side]["throughput_tokens_per_s"] for side in ("moe", "dense")]
    assert record["ratio_dense_over_moe"] == pytest.approx(rates[1] / rates[0], rel=1e-9)
    assert float(result.ratio) == record["ratio_dense_over_moe"]
    assert result.verdict == record["verdict"]
    assert len(record["matches"]) == 3
    assert [row["verdict"] for row in record["matches"]][1] == record["verdict"]
    assert set(record["decode_alone"]) == {"ratio_dense_over_moe", "verdict"}
    assert all(set(flip) == {"input", "value", "to"} for flip in record["flips"])


def test_a_record_of_both_sides_is_shown_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    from qsopt.report.requests_text import show_request_comparison

    show_request_comparison(asked_in_python().to_dict(), "both sides")
    text = capsys.readouterr().out
    for words in ("both sides", "verdict:", "over all shapes", "decode alone", "way", "released"):
        assert words in text


# ---- bad input -----------------------------------------------------------------------------------


def test_a_trace_is_refused_with_a_remedy() -> None:
    def ratio(prompt: Any) -> Any:
        return qsopt.compare(NAME, "1xh100", Workload(prompt=prompt, answer=512.0)).ratio

    with pytest.raises(InputError, match="outside of jit"):
        jax.jit(ratio)(1024.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--law all", "law = all"),
        ("--plot ratio.txt", "ends in .png or .svg"),
        ("--context 8192", "one of the two"),
        ("--load 1", "load"),
    ],
)
def test_bad_input_is_told(
    options: str, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qsopt.cli.runtime.configure", lambda **_: None)
    asked = WHERE.removesuffix(" --q 2")
    assert main(["compare", *asked.split(), *options.split()]) != 0
    assert words in capsys.readouterr().err


def test_a_dense_model_is_refused() -> None:
    with pytest.raises(InputError, match="dense"):
        qsopt.compare("llama-3.1-8b", "1xh100", Workload(prompt=1024.0, answer=512.0))
