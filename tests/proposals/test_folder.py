"""`qsopt propose` from the command line to its folder: the contract of the JSON, files that can be
read, evaluated again to the same bytes, gone on with, and bad input.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qsopt import InputError, load_model, parameter_count
from qsopt.cli import main
from qsopt.proposals import search, stages
from qsopt.report.proposal_folder import check_folder, earlier

QUESTION = (
    "propose --quality-of llama-3.1-8b --cluster 1xh100 --prompt 1024 --answer 256 --tpot-ms 40 "
    "--family dense --json"
)
ASKED = QUESTION.split()

KEYS = {
    "name": str,
    "family": str,
    "folder": str,
    "parameters": dict,
    "architecture": dict,
    "deployment": dict,
    "metrics": dict,
    "intervals": dict,
    "marks": list,
    "probability_beats_reference": float,
    "per_law": dict,
}
"""What others rely on."""


def made_small(patch: pytest.MonkeyPatch) -> None:
    """A search of few architectures."""
    patch.setattr(search, "SCREENED", {"moe": 32, "dense": 32})
    patch.setattr(search, "ROUNDS", 4)
    patch.setattr(stages, "SPEEDS", 1)
    patch.setattr(stages, "SIZES", (2.0,))
    patch.setattr(stages, "TRACKS", 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of proposals of a small search."""
    path = tmp_path_factory.mktemp("proposals")
    with pytest.MonkeyPatch.context() as patch:
        made_small(patch)
        assert main([*ASKED, "--out", str(path)]) == 0
    yield path


@pytest.fixture(scope="module")
def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "propose.json").read_text())


def test_json_keeps_its_contract(record: dict[str, Any]) -> None:
    assert {"reference", "dense_matches", "proposals", "pareto", "seed"} <= record.keys()
    assert record["complete"]
    assert record["seed"] == 0
    assert record["dense_matches"] == []  # of a dense model
    assert record["proposals"]
    for proposal in record["proposals"]:
        for key, kind in KEYS.items():
            assert isinstance(proposal[key], kind), key
        assert proposal["family"] == "dense"
        assert proposal["parameters"].keys() == {"total", "active"}
        assert all(isinstance(mark, str) for mark in proposal["marks"])
        assert 0.0 <= proposal["probability_beats_reference"] <= 1.0
        assert proposal["metrics"]["tpot_s"] <= 0.04 * (1 + 1e-9)


def test_the_winner_along_the_front_is_of_the_front(record: dict[str, Any]) -> None:
    front = record["pareto"]["speed"][0]
    fastest = max(point["tokens_per_s_per_user"] for point in front["points"])
    assert record["winner_along_front"] == [
        {"from_tokens_per_s_per_user": 0, "to_tokens_per_s_per_user": fastest, "family": "dense"}
    ]


def test_a_dense_proposal_is_as_large_as_a_dense_reference(record: dict[str, Any]) -> None:
    """Every law agrees that a dense model is itself."""
    size = float(parameter_count(load_model("llama-3.1-8b")).total)
    assert record["goal"]["dense_equivalent_parameters"] == size
    for proposal in record["proposals"]:
        assert size <= proposal["parameters"]["total"] <= 1.03 * size
        for opinion in proposal["per_law"].values():
            assert opinion["log_size_margin"] >= 0


def test_configs_are_read_back_as_the_models_that_were_proposed(
    folder: Path, record: dict[str, Any]
) -> None:
    for proposal in record["proposals"]:
        own = folder / proposal["name"]
        count = parameter_count(load_model(own / "config.json"))
        assert float(count.total) == proposal["parameters"]["total"]
        assert float(count.active) == proposal["parameters"]["active"]
        page = (own / "report.md").read_text()
        assert page.startswith(f"# {proposal['name']}\n")
        assert "## What limits it" in page
    assert (folder / "pareto.png").read_bytes().startswith(b"\x89PNG")
    table = (folder / "pareto.csv").read_text().splitlines()
    assert table[0].startswith("front,family,tokens_per_s_per_device")
    assert {line.split(",")[0] for line in table[1:]} == {"speed", "quality", "training"}
    assert not list(folder.rglob(".*"))  # no torn files


def test_designs_evaluated_again_give_the_same_bytes(folder: Path) -> None:
    assert check_folder(folder)
    assert all(check_folder(folder).values())


def test_a_changed_config_gives_other_bytes(folder: Path, tmp_path: Path) -> None:
    own = next(folder.glob("dense-*"))
    copy = tmp_path / own.name
    copy.mkdir()
    for name in ("proposal.json", "config.json"):
        text = (own / name).read_text()
        if name == "config.json":
            fields = json.loads(text)
            fields["intermediate_size"] += 128
            text = json.dumps(fields)
        (copy / name).write_text(text)
    assert check_folder(tmp_path) == {own.name: False}


def test_the_same_question_again_is_not_searched_again(
    folder: Path, capsys: pytest.CaptureFixture[str], record: dict[str, Any]
) -> None:
    assert main([*ASKED, "--out", str(folder)]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == record
    assert told.err == ""


def test_an_interrupt_keeps_what_was_found_and_is_gone_on_with(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: dict[str, Any]
) -> None:
    assert folder.is_dir()  # its search has compiled what this one needs
    made_small(monkeypatch)
    real = search.improve

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "improve", interrupted)
    assert main([*ASKED, "--out", str(tmp_path)]) == 0
    first = json.loads((tmp_path / "propose.json").read_text())
    assert not first["complete"]
    assert first["proposals"]
    assert first["reference"]["feasible"]
    assert all(check_folder(tmp_path).values())
    monkeypatch.setattr(stages, "improve", real)
    assert main([*ASKED, "--out", str(tmp_path)]) == 0
    second = json.loads((tmp_path / "propose.json").read_text())
    assert second["complete"]
    best = [
        max(each["metrics"]["tokens_per_s_per_device"] for each in found["proposals"])
        for found in (first, second, record)
    ]
    assert best[1] >= best[0] * (1 - 1e-9)
    assert best[1] >= best[2] * (1 - 1e-9)


def test_another_question_is_refused_in_the_same_folder(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ASKED, "--seed", "1", "--out", str(folder)]) == 2
    assert "another question" in capsys.readouterr().err
    with pytest.raises(InputError, match="no record of proposals"):
        (folder / "broken").mkdir()
        (folder / "broken" / "propose.json").write_text("{")
        earlier(folder / "broken", {})


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--cluster 1xh100 --prompt 1k --answer 1k", "--quality-of"),
        ("--quality-of llama-3.1-8b --prompt 1k --answer 1k", "--cluster"),
        ("--quality-of llama-3.1-8b --loss 2 --cluster 1xh100 --context 8k", "one of"),
        ("--quality-of llama-3.1-8b --cluster 1xh100 --prompt 1k", "--answer"),
        ("--quality-of llama-3.1-8b --cluster 1xh100 --context 8k --cached 0.5", "requests"),
        ("--loss 1.5 --cluster 1xh100 --context 8k", "1.817"),
        ("--quality-of t5-xxl --cluster 1xh100 --context 8k", "model"),
        ("--quality-of llama-3.1-8b --cluster 1xh100 --context 8k --bounds depth=1:2", "depth"),
        ("--quality-of llama-3.1-8b --cluster 1xh100 --context 8k --bounds layers", "layers"),
        ("--check nowhere", "no proposals"),
    ],
)
def test_bad_questions_are_refused_in_one_line(
    words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["propose", *words.split()]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
