"""Training and serving an MoE, its dense match, or a distilled match: hand-worked numbers, laws of
crossing lines, agreement with `compare`, and bad input.
"""

import json
import shlex
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest

import qsopt
from qsopt.cli import main
from qsopt.lifetimes.break_even import Line, break_evens, crossing
from qsopt.lifetimes.draws import DRAWS, drawn_errors, drawn_shares
from qsopt.lifetimes.training import STUDENT_SHARE, trainer
from qsopt.physics.training import forward_flops, training_flops

NAME, PHRASE, WORKLOAD = "mixtral-8x7b", "2xh100", qsopt.Workload(8192.0)
HOW: dict[str, Any] = {"q": 1.3, "tokens": 1e12}


@pytest.fixture(scope="module")
def answer() -> qsopt.Lifetime:
    return qsopt.lifetime(NAME, PHRASE, WORKLOAD, student_share=0.1, **HOW)


# ---- training ------------------------------------------------------------------------------------


def test_training_is_six_operations_a_parameter_and_attention_beside() -> None:
    """Llama-3.1-8B by hand: 32 layers of 32 heads of 128; no product has its input table."""
    model, sequence = qsopt.load_model("llama-3.1-8b"), 8192.0
    active = float(qsopt.parameter_count(model).active) - 128256 * 4096
    attention = 32 * 4 * 32 * 128 * (sequence / 2)
    expected = 6.0 * active + 3.0 * attention
    np.testing.assert_allclose(training_flops(model, 1.0, sequence), expected, rtol=1e-12)


def test_an_moe_trains_the_experts_that_a_token_uses() -> None:
    model = qsopt.load_model(NAME)
    count = qsopt.parameter_count(model)
    without = forward_flops(model, 1e-6)  # so short that attention is nothing
    np.testing.assert_allclose(without, 2.0 * count.active_without_input_table, rtol=1e-6)


@pytest.mark.parametrize("name", ["deepseek-v3", "qwen3-next-80b-a3b", "gemma-3-27b"])
def test_longer_sequences_cost_more_and_have_a_derivative(name: str) -> None:
    model = qsopt.load_model(name)
    lengths = np.array([1024.0, 4096.0, 32768.0])
    costs = jax.vmap(lambda length: forward_flops(model, length))(lengths)
    assert np.all(np.diff(costs) > 0.0)
    slope = jax.grad(lambda length: forward_flops(model, length))(4096.0)
    ends = [float(forward_flops(model, 4096.0 + step)) for step in (-1.0, 1.0)]
    np.testing.assert_allclose(slope, (ends[1] - ends[0]) / 2.0, rtol=1e-4)


def test_a_trainer_turns_operations_into_money_and_energy() -> None:
    chip = qsopt.load_accelerator("h100")
    ours = trainer(chip, 0.4, 4096.0)
    hour = 0.4 * 989.4e12 * 3600.0
    np.testing.assert_allclose(ours.dollars(hour), chip.price_per_hour, rtol=1e-3)
    np.testing.assert_allclose(ours.joules(hour), 700.0 * 3600.0, rtol=1e-3)


# ---- crossing lines ------------------------------------------------------------------------------


def line(fixed: float, slope: float) -> Line:
    return Line(np.asarray(fixed), np.asarray(slope))


def test_lines_cross_where_costs_are_equal() -> None:
    first, later = line(1.0, 3.0), line(11.0, 1.0)
    tokens = float(crossing(first, later))
    assert tokens == 5.0
    for moved, sign in ((4.9, 1.0), (5.1, -1.0)):
        cost = [each.fixed + each.slope * moved for each in (first, later)]
        assert sign * (cost[1] - cost[0]) > 0.0


@pytest.mark.parametrize(
    ("later", "tokens"),
    [((11.0, 3.0), np.inf), ((11.0, 4.0), np.inf), ((1.0, 2.0), 0.0), ((11.0, np.inf), np.inf)],
)
def test_lines_that_do_not_cross(later: tuple[float, float], tokens: float) -> None:
    assert float(crossing(line(1.0, 3.0), line(*later))) == tokens


def test_what_cannot_be_served_is_dearer_from_the_first_token() -> None:
    assert float(crossing(line(1.0, np.inf), line(11.0, 1.0))) == 0.0


def test_the_cheaper_to_train_comes_first() -> None:
    centre = {"one": line(5.0, 1.0), "other": line(1.0, 2.0)}
    draws = {
        name: Line(np.full(3, each.fixed), np.full(3, each.slope)) for name, each in centre.items()
    }
    (found,) = break_evens(centre, draws)
    assert (found.first, found.later, found.tokens) == ("other", "one", 4.0)
    assert (found.low, found.high, found.never) == (4.0, 4.0, 0.0)


# ---- draws ---------------------------------------------------------------------------------------


def test_errors_are_drawn_with_their_quantiles() -> None:
    quantiles = np.array([-0.5, -0.2, 0.1, 0.2, 0.7])
    drawn = drawn_errors(quantiles, np.random.default_rng(1))
    found = np.quantile(drawn, [0.1, 0.25, 0.5, 0.75, 0.9])
    np.testing.assert_allclose(found, quantiles, atol=0.03)


def test_shares_of_students_stay_in_their_range() -> None:
    drawn = drawn_shares(None, np.random.default_rng(1))
    assert len(drawn) == DRAWS
    assert STUDENT_SHARE[0] <= drawn.min() < drawn.max() <= STUDENT_SHARE[2]
    assert np.all(drawn_shares(0.3, np.random.default_rng(1)) == 0.3)


# ---- answers -------------------------------------------------------------------------------------


def test_serving_costs_what_the_comparison_says(answer: qsopt.Lifetime) -> None:
    compared = qsopt.compare(NAME, PHRASE, WORKLOAD, q=HOW["q"])
    for name, side in (("moe", compared.moe), ("dense", compared.dense)):
        found = answer.plans[name].running
        np.testing.assert_allclose(found.throughput, side.throughput, rtol=1e-12)
    price = float(qsopt.load_cluster(PHRASE).accelerator.price_per_hour)
    moe = answer.plans["moe"].running
    np.testing.assert_allclose(moe.dollars, 2 * price / 3600.0 / moe.throughput, rtol=1e-12)


@pytest.mark.slow
def test_requests_cost_what_the_comparison_says() -> None:
    workload = qsopt.Workload(prompt=1024.0, answer=512.0)
    compared = qsopt.compare(NAME, PHRASE, workload, q=HOW["q"])
    found = qsopt.lifetime(NAME, PHRASE, workload, **HOW)
    for name, side in (("moe", compared.moe), ("dense", compared.dense)):
        np.testing.assert_allclose(found.plans[name].running.throughput, side.throughput)


def test_a_distilled_match_is_served_as_the_dense_one(answer: qsopt.Lifetime) -> None:
    moe, dense, distilled = (answer.plans[name] for name in ("moe", "dense", "distilled"))
    assert distilled.running == dense.running
    teacher = moe.training_flops / 3.0 * 0.1
    student = dense.training_flops * 0.1
    np.testing.assert_allclose(distilled.distillation_flops, teacher + student, rtol=1e-12)
    np.testing.assert_allclose(distilled.fixed, moe.fixed + distilled.distillation, rtol=1e-12)


def test_nothing_uncertain_leaves_a_point() -> None:
    found = qsopt.lifetime(NAME, PHRASE, WORKLOAD, "kernels", student_share=0.1, **HOW)
    for each in found.break_evens:
        np.testing.assert_allclose([each.low, each.high], each.tokens, rtol=1e-9)


def test_a_law_as_published_is_the_middle_of_its_draws() -> None:
    """Where speeds are certain, half of the answers lie on either side of that of the bare q."""
    how = {**HOW, "q": None, "law": "geometric", "law_raw": True}
    found = qsopt.lifetime(NAME, PHRASE, WORKLOAD, "kernels", student_share=0.1, **how)
    record = found.to_dict()
    stated = qsopt.lifetime(
        NAME, PHRASE, WORKLOAD, "kernels", student_share=0.1, **{**HOW, "q": record["q"]}
    )
    for own, other in zip(found.break_evens, stated.break_evens, strict=True):
        assert own.tokens == pytest.approx(other.tokens, rel=1e-9)
        assert own.low <= own.tokens <= own.high
    assert any(own.low < own.high for own in found.break_evens)


def test_errors_of_speed_spread_the_answer(answer: qsopt.Lifetime) -> None:
    pays = {(each.first, each.later): each for each in answer.break_evens}["moe", "dense"]
    assert pays.low < pays.high
    assert 0.0 <= pays.never < 1.0


def test_rental_at_twice_the_price_changes_no_order(answer: qsopt.Lifetime) -> None:
    cluster = qsopt.load_cluster(PHRASE)
    dearer = eqx.tree_at(
        lambda c: c.accelerator.price_per_hour, cluster, cluster.accelerator.price_per_hour * 2.0
    )
    found = qsopt.lifetime(NAME, dearer, WORKLOAD, student_share=0.1, **HOW)
    for one, other in zip(answer.break_evens, found.break_evens, strict=True):
        np.testing.assert_allclose(one.tokens, other.tokens, rtol=1e-9)


def test_a_seed_repeats_the_answer(answer: qsopt.Lifetime) -> None:
    again = qsopt.lifetime(NAME, PHRASE, WORKLOAD, student_share=0.1, **HOW)
    assert again.to_dict() == answer.to_dict()
    other = qsopt.lifetime(NAME, PHRASE, WORKLOAD, student_share=0.1, seed=1, **HOW)
    assert [each.low for each in other.break_evens] != [each.low for each in answer.break_evens]


# ---- the command ---------------------------------------------------------------------------------


def run(words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = main(shlex.split(words))
    printed = capsys.readouterr()
    return status, printed.out, printed.err


ASKED = f"lifetime --model {NAME} --cluster {PHRASE} --context 8192 --q 1.3 --tokens 1T"


def test_the_json_has_what_others_rely_on(
    answer: qsopt.Lifetime, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(f"{ASKED} --student-share 0.1 --json", capsys)
    record = json.loads(out)
    assert status == 0
    assert record.pop("schema_version") == 1
    assert record == answer.to_dict()
    assert [row["name"] for row in record["options"]] == ["moe", "dense", "distilled"]
    wanted = {"training_flops", "training_cost", "distillation_cost", "joules_per_output_token"}
    assert wanted | {"cost_per_million_output_tokens"} <= set(record["options"][0])
    for row in record["break_even_output_tokens"]:
        assert {"from", "to", "tokens", "low", "high"} <= set(row)
    (never,) = [row for row in record["break_even_output_tokens"] if "moe" not in row.values()]
    assert never["tokens"] is None


@pytest.mark.slow
def test_the_text_says_when_and_the_plot_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lifetime.png"
    status, out, _ = run(f"{ASKED} --law all --plot {path}", capsys)
    assert status == 0
    assert path.stat().st_size > 10_000
    for words in ("train the MoE and serve it", "moe first, then dense", "clark-hash", "80 %"):
        assert words in out


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("--model mixtral-8x7b --cluster 2xh200 --context 8k --mfu 1.5", "mfu"),
        (
            "--model mixtral-8x7b --cluster 2xh200 --context 8k --tokens 1T --student-share 2",
            "share",
        ),
        ("--model mixtral-8x7b --cluster 2xh200 --context 8k --plot costs.txt", ".png or .svg"),
        ("--model llama-3.1-8b --cluster 2xh200 --context 8k", "Mixture-of-Experts"),
        ("--model gpt-oss-20b --cluster 1xh200 --context 8k", "--tokens"),
        ("--model qwen3-30b-a3b --cluster 2xh200", "--context"),
        ("--model qwen3-30b-a3b --cluster 1xh100 --context 8k --training h101", "h101"),
        ("--model deepseek-v3 --cluster 1xh100 --context 8k", "neither"),
        ("--model qwen3-30b-a3b --cluster 8xh20 --context 8k", "--price"),
    ],
)
def test_bad_input_is_refused_with_the_remedy(
    words: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(f"lifetime {words}", capsys)
    assert (status, out) == (2, ""), err
    assert remedy in err
    assert len(err.strip().splitlines()) == 1
