"""Claims of the paper from the package alone."""

import json
from pathlib import Path
from typing import get_args

import pytest

from qsopt.claims.paper import CLAIMS, ClaimName, found
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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["length", "qs"])
def test_every_other_claim_has_an_answer(name: str) -> None:
    answer = found(name)
    assert answer.words and answer.rows
