"""The framework of the experiments: what is stored, what is loaded again, and what is written."""

import ast
import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from experiments.framework import figures, study
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
    store = Store.for_function(tmp_path, square, ())
    assert store.path({"a": 1, "b": 2}) == store.path({"b": 2, "a": 1})
    assert store.path({"a": 1}) != store.path({"a": 2})
    assert store.path({"a": 1}) != Store.for_function(tmp_path, square, (study,)).path({"a": 1})
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


def test_the_record_and_the_figures_of_a_finding_are_kept(tmp_path):
    settings = figures.Settings(
        results=tmp_path / "results", kept=tmp_path / "kept", images=tmp_path / "images"
    )
    folder = settings.results / "pairs"
    folder.mkdir(parents=True)
    (folder / "pairs.json").write_text(
        '{"experiment": "pairs", "seconds": 1.0, "rows": [{"a": 2}]}'
    )
    for kind in ("png", "svg", "csv"):
        (folder / f"pairs.{kind}").write_bytes(b"drawn")
    figures.keep("pairs", settings)
    kept = json.loads((settings.kept / "pairs.json").read_text())
    assert kept == {"experiment": "pairs", "rows": [{"a": 2}]}
    assert {file.name for file in settings.images.iterdir()} == {"pairs.png", "pairs.svg"}


def test_a_figure_is_written_twice_alike(tmp_path):
    for place in ("one", "other"):
        (tmp_path / place).mkdir()
        drawn, axes = plt.subplots()
        axes.plot([0.0, 1.0])
        study.save(drawn, tmp_path / place / "line.png")
    for kind in ("png", "svg"):
        one, other = (
            (tmp_path / place / f"line.{kind}").read_bytes() for place in ("one", "other")
        )
        assert one == other


def test_every_experiment_of_the_figures_is_run_by_its_own_module(tmp_path):
    settings = figures.Settings(results=tmp_path / "results")
    for name in figures.EXPERIMENTS:
        python, minus, module, *options = figures.command(name, settings)
        assert (python, minus) == (sys.executable, "-m")
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()
        assert name == figures.PAGE or str(settings.results) in options[1]
    with pytest.raises(InputError, match="no such experiment"):
        study.module_name("nothing")


# ---- the modules of the experiments --------------------------------------------------------------

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "experiments").rglob("*.py"))


def test_every_experiment_says_how_it_is_run_and_asks_a_question():
    for path in MODULES:
        text = path.read_text()
        if 'if __name__ == "__main__"' in text:
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            module = module.removesuffix(".__main__")
            said = ast.get_docstring(ast.parse(text)) or ""
            assert f"python -m {module}" in said, path
            assert "?" in said or path.name == "figures.py", path


def test_experiments_read_no_private_names_of_the_package():
    for path in MODULES:
        tree = ast.parse(path.read_text())
        known = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("qsopt"):
                assert not [alias.name for alias in node.names if alias.name.startswith("_")], path
                known |= {alias.asname or alias.name for alias in node.names}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert node.value.id not in known or not node.attr.startswith("_"), path
