"""Claims of the paper from the package alone."""

import json
import math
from pathlib import Path
from typing import get_args

import pytest

from qsopt.claims.contexts import _CONTEXTS, _LONG, _area, _base_rate, _lengths_say
from qsopt.claims.found import RATIO, Row
from qsopt.claims.paper import CLAIMS, ClaimName, found
from qsopt.claims.views import VIEWS, longest_context
from qsopt.cli import main


def test_reuse_is_the_formula_of_the_paper() -> None:
    answer = found("reuse")
    (row,) = (r for r in answer.rows if (r["model"], r["tokens"]) == ("mixtral-8x7b", 4.0))
    assert row["experts_hit"] == pytest.approx(8 * (1 - (1 - 2 / 8) ** 4), rel=1e-12)
    assert row["of_dense"] == pytest.approx(2 / row["experts_hit"], rel=1e-12)
    assert answer.verdict == "holds"


def test_the_list_names_every_claim(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "list", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [row["claim"] for row in said["claims"]] == list(CLAIMS) == list(get_args(ClaimName))
    assert main(["reproduce", "list"]) == 0
    assert all(name in capsys.readouterr().out for name in ["deepseek-128k"])


@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf"])
def test_a_claim_is_drawn(ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"a{ending}"
    assert main(["reproduce", "reuse", "--plot", str(path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["claim"] == "reuse" and said["verdict"] == "holds"
    lines = path.with_suffix(".csv").read_text().splitlines()
    assert len(lines) == len(said["rows"]) + 1
    assert path.stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["reproduce", "everything"], "everything"),
        (["reproduce", "list", "--plot", "a.png"], "a list has no plot"),
        (["reproduce", "reuse", "--plot", "a.txt"], "give a file that ends in .png"),
    ],
)
def test_bad_input(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_switch_fits_only_on_larger_clusters() -> None:
    answer = found("switch-fit")
    assert answer.verdict == "holds"
    assert all(row["moe_devices"] > 4 >= row["dense_devices"] for row in answer.rows)


@pytest.mark.slow
def test_the_headline_needs_a_cluster_that_just_holds_the_model() -> None:
    answer = found("deepseek-128k")
    assert answer.verdict == "only at the edge of memory"
    edge = {(row["view"], row["cluster"]): row["ratio_dense_over_moe"] for row in answer.rows}
    assert edge["as argued", "8xmi300x"] > 4.5 > edge["as argued", "64xh100"]


def test_a_win_beyond_the_trained_context_is_told_apart() -> None:
    """Dense wins from 32k on: within the 160k of one model and the 40k of another, beyond the 8k of
    the third.
    """
    rows = [
        {
            "view": view.name,
            "model": name,
            "context": context,
            "beyond_trained_context": context > longest_context(name),
            RATIO: 2.0 if context > 4e4 else 1.5 if context > 32_000 else 0.5,
            "verdict": "dense wins" if context > 32_000 else "moe wins",
        }
        for view in VIEWS
        for name in _LONG
        for context in sorted({*_CONTEXTS, longest_context(name)})
    ]
    verdict, words = _lengths_say(rows)
    assert verdict == "holds in part"
    assert "with 2 of 3 models as argued and with 2 as counted, by at most 2.00 and 2.00" in words
    assert words.endswith("at any length up to 1,048,576 tokens with 3 and 3")
    assert _lengths_say([row for row in rows if row["model"] == "grok-1"])[0] == "does not hold"


def test_the_base_rate_is_that_of_the_more_frequent_winner() -> None:
    rows = [{RATIO: ratio, "verdict": verdict} for ratio, verdict in [(2.0, "dense wins")] * 3]
    assert _base_rate(rows) == 1.0
    others = [{RATIO: 0.5, "verdict": "moe wins"}] * 9
    assert _base_rate([*rows, *others, {RATIO: None, "verdict": "moe wins"}]) == 0.75


@pytest.mark.slow
def test_lengths_are_told_within_and_beyond_what_models_were_made_for() -> None:
    answer = found("length")
    assert answer.verdict == "holds in part"
    rows = [row for row in answer.rows if row["model"] == "grok-1"]
    assert {row["context"] for row in rows if not row["beyond_trained_context"]} == {
        1024.0,
        4096.0,
        8192.0,
    }


@pytest.mark.slow
def test_the_area_under_the_roc_curve_by_hand() -> None:
    """Of six pairs four are ranked rightly and one is equal."""
    cases = ((0.1, True), (0.4, True), (0.3, False), (0.4, False), (0.5, False))
    rows: list[Row] = [
        {RATIO: 1.0, "qs": qs, "verdict": "dense wins" if wins else "moe wins"}
        for qs, wins in cases
    ]
    assert _area(rows) == pytest.approx(4.5 / 6.0)
    assert math.isnan(_area(rows[:2]))


def test_the_criterion_stands_beside_its_base_rate() -> None:
    answer = found("qs")
    for view, words in zip(VIEWS, ("as argued", "as counted"), strict=True):
        rows = [row for row in answer.rows if row["view"] == view.name]
        assert (
            f"{sum(row['verdict'] == row['rule'] for row in rows) / len(rows):.0%}" in answer.words
        )
        assert f"{_base_rate(rows):.0%}" in answer.words and words in answer.words
