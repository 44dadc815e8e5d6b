"""The pages: templates filled with numbers, whole tables, words that follow the numbers."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import jinja2
import numpy as np
import pytest
from random_results import random_results

from experiments.framework import study
from experiments.framework.measured import RECORDS
from experiments.pages import advice, findings, template
from experiments.pages.evidence import Book
from qsopt.calibration.report import COLUMNS, POOLED
from qsopt.errors import InputError
from qsopt.fitted.errors import Errors

DOCS = Path(__file__).parents[2] / "docs"


def tables(page: str) -> list[list[str]]:
    """Runs of lines that begin with a bar."""
    found, last = [], ""
    for line in page.splitlines():
        if line.startswith("|"):
            if not last.startswith("|"):
                found.append([])
            found[-1].append(line)
        last = line
    return found


def cells(line: str) -> list[str]:
    assert line.startswith("|") and line.rstrip().endswith("|")
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def section(page: str, title: str) -> str:
    """A section of the second level, without its heading."""
    return page.split(f"\n## {title}\n")[1].partition("\n## ")[0].strip()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    random_results(folder, np.random.default_rng(1))
    return folder


@pytest.fixture(scope="module")
def page(results: Path) -> str:
    return findings.page(Book(results))


# ---- templates -----------------------------------------------------------------------------------


def test_a_number_that_is_not_given_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        template.render("search-optimisers.md")


def test_paragraphs_are_filled_and_keep_their_words() -> None:
    text = "some words\n  of a sentence. " * 30
    filled = template.paragraph(text)
    assert filled.split() == text.split()
    assert max(map(len, filled.splitlines())) <= template.WIDTH
    assert filled.endswith(".\n")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0%"), (0.001, "<1%"), (0.5, "50%"), (0.999, ">99%"), (1.0, "100%"), (None, "-")],
)
def test_shares_are_whole_percent_but_never_falsely_all_or_none(
    value: float | None, text: str
) -> None:
    assert template.share(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1024.0, "1k"),
        (1050.0, "1k"),
        (131072.0, "128k"),
        (1500.0, "1.5k"),
        (200_000.0, "200k"),
        (700.0, "700"),
    ],
)
def test_tokens_near_a_power_of_two_are_written_as_it(value: float, text: str) -> None:
    assert template.tokens(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.12345, "0.123"), (999.4, "999"), (12345.6, "12,346")]
)
def test_figures(value: float | None, text: str) -> None:
    assert template.figures(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (1.234, "1.23x"), (12.34, "12.3x")])
def test_times(value: float | None, text: str) -> None:
    assert template.times(value) == text


def test_every_template_is_rendered_by_some_module() -> None:
    sources = [path.read_text() for path in Path(template.__file__).parents[1].rglob("*.py")]
    for path in template.TEMPLATES.iterdir():
        assert any(f'"{path.name}"' in source for source in sources), path.name


# ---- findings ------------------------------------------------------------------------------------


def test_tables_of_the_page_are_whole(page: str) -> None:
    kept = (DOCS / "findings.md").read_text()
    assert len(tables(page)) == len(tables(kept))
    for table in [*tables(page), *tables(kept)]:
        assert len({len(cells(line)) for line in table}) == 1, table[0]
        assert len(table) > 2, table[0]
    for line in page.splitlines():
        assert line == line.rstrip()
    assert "\n\n\n" not in page and page.endswith(".*\n")


def test_the_text_between_the_numbers_is_that_of_the_page_that_is_kept(page: str) -> None:
    """Headings and heads of tables, which no number moves."""

    def fixed(text: str) -> list[str]:
        heads = [table[0] for table in tables(text)]
        return [line for line in text.splitlines() if line.startswith("#") or line in heads]

    assert fixed(page) == fixed((DOCS / "findings.md").read_text())


def test_rows_of_the_page_say_what_the_results_say(results: Path, page: str) -> None:
    switch = next(table for table in tables(page) if "Switch-C fits from" in table[0])
    rows = Book(results).evidence("switch_claim").rows(precision="bf16", efficiency="fitted")
    for line, row in zip(switch[2:], rows[::3], strict=True):
        assert cells(line)[1:3] == [str(row["dense_devices"]), str(row["moe_devices"])]
        assert cells(line)[3] == template.times(row["ratio"])


def test_the_section_on_measured_models_follows_from_the_record_that_is_kept(
    results: Path, tmp_path: Path
) -> None:
    shutil.copytree(results, tmp_path / "results")
    shutil.copy(RECORDS / "real_stacks.json", tmp_path / "results" / "real_stacks")
    made = section(findings.page(Book(tmp_path / "results")), "Measured models")
    assert made == section((DOCS / "findings.md").read_text(), "Measured models")


def test_without_measured_results_the_page_says_how_to_get_them(
    results: Path, tmp_path: Path
) -> None:
    shutil.copytree(results, tmp_path / "results")
    shutil.rmtree(tmp_path / "results" / "real_stacks")
    made = findings.page(Book(tmp_path / "results"))
    assert "--data FOLDER" in section(made, "Measured models")
    assert "**The model.**" not in made


def test_the_page_names_the_command_that_makes_what_is_missing(
    results: Path, tmp_path: Path
) -> None:
    settings = replace(
        study.defaults(findings.Settings, "findings"),
        results=str(tmp_path),
        page=str(tmp_path / "page.md"),
    )
    with pytest.raises(InputError, match=r"python -m experiments\.paper\.deepseek_claim"):
        findings.main(settings)
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    (tmp_path / "phase_maps" / "sparsity_q_deepseek-v3.png").unlink()
    with pytest.raises(InputError, match=r"sparsity_q.*experiments\.regimes\.phase_maps"):
        findings.main(settings)
    assert not (tmp_path / "page.md").exists()


def test_commands_that_pages_name_exist() -> None:
    for path in DOCS.glob("*.md"):
        for name in re.findall(r"python -m (experiments[\w.]*)", path.read_text()):
            file = DOCS.parent.joinpath(*name.split(".")).with_suffix(".py")
            assert "if __name__" in file.read_text(), name


# ---- calibration ---------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [True, False])
def test_the_calibration_page(whole: bool) -> None:
    error = Errors(10, 0.123, 0.456, -0.02)
    cells_of_row = dict.fromkeys((*COLUMNS, POOLED), "1.0 / 2.0")
    serving = {
        "backends": [{"backend": "vllm", "scale": 1.05, "late_steps": 3.0}],
        "host_layer_us": 37.0,
        "first_layer_us": 340.0,
        "interference": 0.89,
        "burst": 0.125,
        "published": [{"group": "tokens/s/device", "n": 22, **error._asdict()}],
        "right": 90,
        "pairs": 100,
    }
    slow = {"late": 5, "rows": 50, "shares": (0.1, 0.35), "models": {"Llama-4-Scout": 5}}
    made = template.render(
        "calibration.md",
        quantities=[{"quantity": "GEMM", "n": "1,000", **cells_of_row}],
        skipped=[{"file": "x.csv", "rows": 1234, "reason": "no reader"}],
        impossible={"rows": 3, "files": {"a.csv": 2, "b.csv": 1}},
        slow=slow if whole else None,
        forms=[{"quantity": "GEMM", "form": "sum", "errors": [error] * 4, "used": True}],
        draws=16,
        serving=serving if whole else None,
        device={"platform": "cpu", "errors": error._asdict()} if whole else None,
    )
    for table in tables(made):
        assert len({len(cells(line)) for line in table}) == 1, table[0]
    assert f"| GEMM | sum |{' 12.3 / 45.6 |' * 4} used |" in made
    assert "allows (a.csv 2, b.csv 1) and" in made
    assert "\n\n\n" not in made.strip()
    assert ("5 of 50 rows (10.0 %)" in made, "90.0 % are ranked right" in made) == (whole, whole)
    assert ("images/calibration-device.png" in made) == whole


# ---- advice --------------------------------------------------------------------------------------


def test_situations_take_every_row_once() -> None:
    base = {"verdict": "dense wins", "weights": 0.2, "cap": None, "context": 1024.0}
    rows = [
        base,
        base | {"verdict": "moe infeasible"},
        base | {"weights": 0.9},
        base | {"cap": 2.0},
        base | {"context": 2.0**18},
    ]
    assert [len(members) for members in advice.situations(rows).values()] == [1, 1, 1, 0, 1, 0, 1]


def test_advice_follows_the_shares_and_says_where_laws_differ() -> None:
    assert advice.what_to_serve({"geometric": 0.9, "tian": 0.95}) == "**dense**"
    assert advice.what_to_serve({"geometric": 0.1, "tian": None}) == "**MoE**"
    assert advice.what_to_serve({"geometric": 0.9, "tian": 0.1}).endswith("if q is right")
