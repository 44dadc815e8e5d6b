"""The framework of the experiments: what is stored, what is loaded again, and what is written."""

import csv
import json
from dataclasses import dataclass

import matplotlib.pyplot as plt
import pytest

from experiments.framework import study
from experiments.framework.figures import copy_figures
from experiments.framework.pieces import Store
from qsopt.errors import InputError

CALLS = []


@dataclass(frozen=True)
class Settings(study.Settings):
    models: tuple[str, ...]


def square(number: int) -> list[study.Row]:
    CALLS.append(number)
    return [{"number": number, "square": float(number**2), "lost": float("nan")}]


def run_all(settings: Settings, numbers: list[int]) -> list[list[study.Row]]:
    with study.Study("squares", settings) as run:
        return run.pieces([{"number": number} for number in numbers], square)


def test_a_rerun_loads_what_is_finished(tmp_path):
    CALLS.clear()
    settings = Settings(models=(), output=tmp_path)
    first = run_all(settings, [1, 2])
    second = run_all(settings, [1, 2, 3])
    assert CALLS == [1, 2, 3]
    assert second[:2] == first
    assert first[1] == [{"number": 2, "square": 4.0, "lost": None}]
    run_all(Settings(models=(), output=tmp_path, fresh=True), [1])
    assert CALLS == [1, 2, 3, 1]


def test_an_interrupted_run_keeps_its_finished_pieces(tmp_path):
    def stops_at_two(number: int) -> list[study.Row]:
        if number == 2:
            raise KeyboardInterrupt
        return square(number)

    CALLS.clear()
    settings = Settings(models=(), output=tmp_path)
    with pytest.raises(KeyboardInterrupt), study.Study("squares", settings) as run:
        run.pieces([{"number": number} for number in (1, 2)], stops_at_two)
    run_all(settings, [1, 2])
    assert CALLS == [1, 2]
    assert not list(tmp_path.rglob("*.part"))


def test_pieces_depend_on_inputs_and_sources(tmp_path):
    store = Store.of(tmp_path, square, ())
    assert store.path({"a": 1, "b": 2}) == store.path({"b": 2, "a": 1})
    assert store.path({"a": 1}) != store.path({"a": 2})
    assert store.path({"a": 1}) != Store.of(tmp_path, square, (study,)).path({"a": 1})
    assert store.path({"a": 1}) != Store(tmp_path, "another state of the sources").path({"a": 1})


def test_what_is_written(tmp_path):
    settings = Settings(models=("a", "b"), output=tmp_path, seed=3)
    with study.Study("squares", settings) as run:
        rows = [row for piece in run.pieces([{"number": 2}], square) for row in piece]
        run.write([*rows, {"number": 5, "note": "x"}], lambda found: plt.subplots()[0], best=4.0)
    record = json.loads((tmp_path / "squares.json").read_text())
    assert record["inputs"] == {"models": ["a", "b"], "seed": 3}
    assert record["best"] == 4.0 and len(record["rows"]) == 2
    assert {"python", "qsopt", "jax", "numpy"} <= record["versions"].keys()
    read = list(csv.DictReader((tmp_path / "squares.csv").read_text().splitlines()))
    assert [row["square"] for row in read] == ["4.0", ""] and read[1]["note"] == "x"
    assert (tmp_path / "squares.png").stat().st_size > 0
    assert not plt.get_fignums()


def test_settings_file_is_read_strictly(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "SETTINGS", tmp_path / "experiments")
    (tmp_path / "experiments").mkdir()
    file = tmp_path / "experiments" / "squares.toml"
    file.write_text('models = ["a"]\n')
    assert study.defaults(Settings, "squares").models == ("a",)
    file.write_text('models = ["a"]\nunknown = 1\n')
    with pytest.raises(InputError, match="unknown"):
        study.defaults(Settings, "squares")


def test_only_the_figures_of_the_page_are_copied(tmp_path):
    results, page = tmp_path / "results", tmp_path / "docs" / "findings.md"
    for name in ("a", "b"):
        (results / name).mkdir(parents=True)
        (results / name / f"{name}.png").write_bytes(name.encode())
    page.parent.mkdir()
    page.write_text("![text](images/findings/b.png) and again images/findings/b.png\n")
    assert [path.name for path in copy_figures(page, results)] == ["b.png"]
    assert [path.name for path in (page.parent / "images" / "findings").iterdir()] == ["b.png"]
    page.write_text("![text](images/findings/c.png)\n")
    with pytest.raises(FileNotFoundError, match=r"c\.png"):
        copy_figures(page, results)
