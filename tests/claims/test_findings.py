"""What the findings are made with: comparisons by flags, scores of closed forms, turns of walks."""

from typing import Any

import numpy as np
import pytest

import qsopt
from experiments.findings import (
    attention,
    hardware,
    lengths,
    pairs,
    rule,
    scores,
    sides,
    sparsity,
    turns,
    waterfall,
)
from experiments.framework import style
from experiments.pages import findings_numbers as take
from experiments.pages import findings_sections as section
from qsopt.maps.crossover import Crossing, Crossovers, End
from qsopt.quality import law

SMALL: dict[str, Any] = {"model": "qwen3-30b-a3b", "cluster": "1xh100", "dense": "qwen3-14b"}


# ---- one comparison ------------------------------------------------------------------------------


def test_a_row_is_what_compare_says_of_decode_alone() -> None:
    row = sides.compared(**SMALL, context=4096.0)
    said = qsopt.compare("qwen3-30b-a3b", "1xh100", qsopt.Workload(4096.0), dense="qwen3-14b")
    assert row["ratio"] == pytest.approx(float(said.ratio), rel=1e-9)
    assert row["verdict"] == said.verdict
    assert row["low"] < row["ratio"] < row["high"]


@pytest.mark.slow
def test_a_row_is_what_compare_says_of_requests() -> None:
    row = sides.compared(**SMALL, prompt=1024.0, answer=1024.0)
    workload = qsopt.Workload(prompt=1024.0, answer=1024.0)
    said = qsopt.compare("qwen3-30b-a3b", "1xh100", workload, dense="qwen3-14b")
    assert row["ratio"] == pytest.approx(float(said.ratio), rel=1e-9)
    interval = said.to_dict()["intervals"]["ratio_dense_over_moe"]["80"]
    assert [row["low"], row["high"]] == pytest.approx(interval, rel=1e-9)


def test_the_command_of_a_row_asks_the_same() -> None:
    flags = {**SMALL, "prompt": 131072.0, "answer": 1024.0, "cached": 0.9, "law_raw": True}
    assert sides.command(flags | {"twin": "released"}) == (
        "qsopt compare --model qwen3-30b-a3b --cluster 1xh100 --dense qwen3-14b --prompt 131072 "
        "--answer 1024 --cached 0.9 --law-raw"
    )


def test_a_row_at_a_law_is_at_the_law_as_published() -> None:
    """The geometric q is s^-1/2."""
    flags = {"model": "qwen3-30b-a3b", "cluster": "1xh100", "context": 4096.0}
    row = sides.compared(**flags, **sides.at_law("geometric"))
    assert row["q"] == pytest.approx(row["s"] ** -0.5, rel=0.03)
    assert row["q"] != pytest.approx(sides.asked(flags | sides.at_law("")).q, rel=0.03)
    assert "--law geometric --law-raw" in row["command"]


# ---- closed forms --------------------------------------------------------------------------------


def requests(q: float, s: float, prompt: float, cached: float, ratio: float) -> dict[str, Any]:
    return {"q": q, "s": s, "prompt": prompt, "answer": 100.0, "cached": cached, "ratio": ratio}


def test_without_reading_and_with_long_contexts_the_rule_is_q_s() -> None:
    rows = [requests(q, 0.1, 1e9, 1.0, 1.0) for q in (2.0, 9.0, 11.0)]
    for row in rows:
        row["answer"] = 1e6
    said = scores.FORMS["rule"](rows, 300.0)
    np.testing.assert_allclose(said, scores.FORMS["q s"](rows, 0.0), atol=1e-4)
    assert (said > 0).tolist() == [True, True, False]


def test_forms_by_hand() -> None:
    """q = 4, s = 0.1, 200 tokens of which half is cached for 100 written: r = 1, S = 250, so that
    the rule compares 0.4 + 3 x 2 x S0/250, the form without context 0.4 + 3 c, and with half of the
    memory full 0.6 x 0.5/0.8 with 3 x 2 x S0/250.
    """
    rows = [requests(4.0, 0.1, 200.0, 0.5, 1.0) | {"weights_over_memory": 0.5}]
    for name, constant in (("rule", 25.0), ("q s and r", 0.2), ("rule with memory", 15.625)):
        assert scores.FORMS[name](rows, constant)[0] == pytest.approx(0.0, abs=1e-12), name


def test_the_constant_of_the_rule_is_found_again() -> None:
    random = np.random.default_rng(0)
    rows = []
    for _ in range(600):
        q, s, prompt = random.uniform(1.2, 12.0), random.uniform(0.03, 0.3), random.uniform(1, 9000)
        row = requests(q, s, prompt, random.uniform(), 1.0)
        more = (q - 1.0) * (1.0 + scores.read(row)) * 200.0 / scores.context(row)
        rows.append(row | {"ratio": 2.0 if q * s + more < 1.0 else 0.5})
    assert rule.fitted_constant(rows, "rule") == pytest.approx(200.0, rel=0.1)


def test_scores_of_perfect_random_and_constant_criteria() -> None:
    truth = np.array([True, True, False, False])
    assert scores.accuracy(truth, truth) == 1.0
    assert scores.balanced_accuracy(np.full(4, True), truth) == 0.5
    assert scores.area(np.array([4.0, 3.0, 2.0, 1.0]), truth) == 1.0
    assert scores.area(np.array([1.0, 2.0, 3.0, 4.0]), truth) == 0.0
    assert scores.area(np.zeros(4), truth) == 0.5
    assert np.isnan(scores.area(np.zeros(4), np.full(4, True)))
    found = scores.score(np.array([1.0, -1.0, -1.0, -1.0]), truth)
    assert (found.points, found.base, found.right, found.balanced) == (4, 0.5, 0.75, 0.75)


# ---- turns ---------------------------------------------------------------------------------------


def end(ratio: float) -> End:
    return End(1.0, ratio, "dense wins" if ratio > 1.0 else "moe wins")


@pytest.mark.parametrize(
    ("crossings", "ends", "start", "always"),
    [
        ((), (0.5, 0.9), None, False),
        ((), (1.5, 1.9), turns.LEAST, True),
        ((Crossing(700.0, "to dense"),), (0.5, 1.9), 700.0, False),
        ((Crossing(700.0, "to moe"),), (1.5, 0.9), None, False),
        ((Crossing(80.0, "to moe"), Crossing(900.0, "to dense")), (1.2, 1.1), 900.0, False),
    ],
)
def test_dense_wins_from_the_last_turn_to_it(monkeypatch, crossings, ends, start, always) -> None:
    none = np.zeros(0), np.zeros((0, 2))
    found = Crossovers(crossings, (), end(ends[0]), end(ends[1]), 7, *none)
    monkeypatch.setattr(turns, "crossovers", lambda *_: found)
    monkeypatch.setattr(turns, "outcome", lambda *_: {"low": None})
    monkeypatch.setattr(turns, "sides", lambda _: (None, None))
    (row,) = turns.break_even(**_question(SMALL["dense"]), prompt=1024.0, cached=0.0)
    assert (row["from"], row["always"]) == (start, always)


def test_the_interval_of_a_turn_of_a_power() -> None:
    """A ratio of (x/1000)^0.5 that is measured 0.8 to 1.25 times as large crosses 1 at 1000/0.8^2
    and 1000/1.25^2; 8 times as large it is above 1 from the start, an eighth nowhere.
    """
    values = np.geomspace(64.0, 16384.0, 9)
    ratios = (values / 1000.0) ** 0.5
    rates = np.stack([np.ones_like(ratios), ratios], axis=-1)
    found = Crossovers((), (), end(0.5), end(1.5), 9, values, rates)
    errors = {"ratio": 2.0, "low": 1.6, "high": 2.5}
    interval = turns._interval(found, errors)
    assert interval["from_low"] == pytest.approx(1000.0 / 1.25**2)
    assert interval["from_high"] == pytest.approx(1000.0 / 0.8**2)
    wide = turns._interval(found, {"ratio": 1.0, "low": 0.125, "high": 8.0})
    assert wide == {"from_low": turns.LEAST, "from_high": None}
    assert set(turns._interval(found, errors | {"low": None}).values()) == {None}


def _question(match: str) -> dict[str, str]:
    return {"model": "qwen3-30b-a3b", "match": match, "cluster": "1xh100"}


def test_answers_end_where_the_trained_context_does() -> None:
    assert turns.break_even(**_question("released"), prompt=40960.0, cached=0.0) == []
    assert lengths.long_prompt("qwen3-30b-a3b", 98304.0) == 20480.0
    assert lengths.long_prompt("deepseek-v3", 98304.0) == 98304.0


def test_slopes_and_turns_of_a_power() -> None:
    """A ratio of 0.5 x^0.7 turns at 2^(1/0.7) and has the elasticity 0.7 everywhere."""
    where = {"model": "m", "cluster": "c", "limit_ms": 0.0, "law": "", "input": "capacity"}
    where |= {"q": 4.0, "low": 0.4, "high": 0.6, "verdict": "moe wins"}
    rows = [where | {"factor": x, "ratio": 0.5 * x**0.7} for x in (0.5, 1.0, 2.0, 4.0)]
    (found,) = hardware.slopes(rows)
    assert found["elasticity"] == pytest.approx(0.7)
    assert found["turns_at"] == pytest.approx(2.0 ** (1.0 / 0.7))
    (flat,) = hardware.slopes([row | {"ratio": 0.5} for row in rows])
    assert (flat["elasticity"], flat["turns_at"]) == (0.0, None)


def test_the_best_sparsity_of_a_curve() -> None:
    where = {"model": "m", "cluster": "c", "law": "l", "question": "w"}
    where |= {"low": 0.9, "high": 1.1}
    rows = [
        where | {"factor": f, "s": s, "experts": 8 * f, "tokens_per_s": rate, "gain": rate / 200.0}
        for f, s, rate in ((0.5, 0.2, 100.0), (1.0, 0.1, 200.0), (2.0, 0.05, 400.0))
    ]
    (found,) = sparsity.best_of_each(rows)
    assert (found["best_s"], found["best_experts"], found["gain"]) == (0.05, 16.0, 2.0)
    assert found["slope"] == pytest.approx(-1.0)


def test_directions_of_the_best_sparsity() -> None:
    rows = [
        {"law": law, "best_s": best, "own_s": 0.1}
        for law, best in (("a", 0.05), ("a", 0.1), ("b", 0.2), ("c", 0.05), ("c", 0.2))
    ]
    assert section.directions(rows) == {"a": "sparser", "b": "denser", "c": "either way"}


def test_a_law_without_variants_of_the_same_quality_says_so() -> None:
    """By Tian's law no number of experts per token makes up for a quarter more experts."""
    for name in ("qwen3-30b-a3b", "qwen3-235b-a22b"):
        model = qsopt.load_model(name)
        assert sparsity.at_quality(model, law("tian"), 36e12, 1.25) is None
        assert sparsity.at_quality(model, law("power"), 36e12, 1.25) is not None


# ---- what is asked -------------------------------------------------------------------------------


def test_steps_change_one_thing_each_and_end_on_requests() -> None:
    flags = dict(waterfall.PAPER)
    for words, change in waterfall.STEPS[1:]:
        assert any(flags.get(name) != value for name, value in change.items()), words
        flags |= change
    assert flags["prompt"] + flags["answer"] / 2.0 == waterfall.PAPER["context"]


def test_pairs_have_sources_and_models() -> None:
    for pair in pairs.read():
        assert pair["source"] and pair["equal"] and pair["cases"]
        assert qsopt.parameter_count(qsopt.load_model(pair["dense"])).total > 0
    size = float(
        qsopt.parameter_count(qsopt.load_model("experiments/data/models/qwen1.5-7b.json")).total
    )
    assert size == pytest.approx(7.72e9, rel=0.01)


def test_attention_is_put_in_every_layer() -> None:
    """Grouped: 2 x 8 heads x 128 x 2 bytes for each of 61 layers; latent: 576 x 2 bytes."""
    model = qsopt.load_model("deepseek-v3")
    assert float(qsopt.kv_bytes_per_token(attention.grouped(model))) == 61 * 2 * 8 * 128 * 2
    own, again = (qsopt.kv_bytes_per_token(each) for each in (model, attention.latent(model)))
    assert float(own) == float(again) == 61 * 576 * 2
    counts = [float(qsopt.parameter_count(each).total) for each in (model, attention.latent(model))]
    assert counts[1] == pytest.approx(counts[0], rel=1e-3)


# ---- figures -------------------------------------------------------------------------------------


def test_labels_move_apart_as_little_as_possible() -> None:
    np.testing.assert_allclose(style.spread([0.1, 0.5, 0.9], 0.05), [0.1, 0.5, 0.9])
    np.testing.assert_allclose(style.spread([0.5, 0.5, 0.9], 0.1), [0.45, 0.55, 0.9])
    assert style.spread([], 0.05).size == 0


# ---- words ---------------------------------------------------------------------------------------


def test_words_of_the_page_follow_numbers() -> None:
    row = {"ratio": 0.5, "low": 0.4, "high": 0.9, "verdict": "moe wins"}
    assert take.ratio(row) == "0.50 (0.40 to 0.90)"
    assert take.ratio({"ratio": None, "verdict": "dense infeasible"}) == "only MoE"
    assert section.sureness(row).endswith("one side of 1")
    assert section.sureness(row | {"high": 1.1}).endswith("holds 1")
    assert take.span([1.0, None, 2.0]) == "1.00 to 2.00"
    with pytest.raises(LookupError, match="0 rows"):
        take.pick([row], ratio=1.0)


def test_turns_say_their_interval() -> None:
    row = {"shortest": 64.0, "longest": 20480.0, "at_long": 1.5}
    known = row | {"from": 1024.0, "from_low": 512.0, "from_high": None}
    assert section.turn(known) == "1k (512 to never)"
    always = row | {"from": 64.0, "from_low": 64.0, "from_high": 64.0}
    assert section.turn(always) == "always, 1.50 at 20k"
    never = row | {"from": None, "from_low": 2048.0, "from_high": None, "at_long": 0.9}
    assert section.turn(never) == "never (2k to never), 0.90 at 20k"


def test_the_limit_that_flips_is_the_loosest() -> None:
    where = {"model": "m", "match": "x", "low": None}
    rows = [
        where | {"limit_ms": limit, "verdict": verdict}
        for limit, verdict in (
            (0.0, "moe wins"),
            (50.0, "moe wins"),
            (30.0, "dense wins"),
            (20.0, "dense wins"),
        )
    ]
    assert section.flip_limit(rows, "m", "x") == "30"
    assert section.flip_limit(rows[:2], "m", "x") == "-"
