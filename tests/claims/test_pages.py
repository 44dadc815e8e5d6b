"""The pages: templates filled with numbers, whole tables, and the findings as the records that are
kept say them.
"""

import json
import re
from pathlib import Path

import jinja2
import pytest

from experiments.framework.figures import FINDINGS, IMAGES, KEPT, UNKEPT
from experiments.pages import findings, template
from experiments.pages import findings_numbers as take
from experiments.pages import findings_sections as section
from qsopt.calibration.report import COLUMNS, POOLED
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


@pytest.fixture(scope="module")
def page() -> str:
    return (DOCS / "findings.md").read_text(encoding="utf-8")


def test_the_findings_are_those_of_the_records_that_are_kept(page: str) -> None:
    """Every number of the page comes from a record through a template."""
    assert findings.page() == page


def test_a_record_that_moves_moves_the_page(tmp_path: Path) -> None:
    for name in FINDINGS:
        (tmp_path / f"{name}.json").write_text((KEPT / f"{name}.json").read_text())
    record = json.loads((tmp_path / "waterfall.json").read_text())
    record["rows"][0]["ratio"] *= 1.1
    (tmp_path / "waterfall.json").write_text(json.dumps(record))
    made, kept = findings.page(tmp_path), findings.page()
    assert made != kept
    assert f"{record['rows'][0]['ratio']:.2f}" in made


def test_tables_of_the_findings_are_whole(page: str) -> None:
    for table in tables(page):
        assert len({len(cells(line)) for line in table}) == 1, table[0]
        assert len(table) > 2, table[0]
    for line in page.splitlines():
        assert line == line.rstrip()
    assert "\n\n\n" not in page


def test_figures_of_the_findings_are_kept_as_png_and_svg(page: str) -> None:
    shown = re.findall(r"images/findings/([\w-]+)\.png", page)
    assert sorted(set(shown)) == sorted(FINDINGS)
    kept = {file.name for file in (DOCS.parent / IMAGES).iterdir()}
    assert kept == {f"{name}.{kind}" for name in FINDINGS for kind in ("png", "svg")}


def test_records_that_are_kept_say_what_was_asked_and_not_when() -> None:
    assert {file.stem for file in KEPT.iterdir()} == set(FINDINGS)
    for name in FINDINGS:
        record = json.loads((KEPT / f"{name}.json").read_text(encoding="utf-8"))
        assert record["experiment"] == name
        assert record["rows"] and not set(UNKEPT) & set(record)


def test_what_the_findings_say_in_words_holds_in_their_records() -> None:
    """Sentences of the templates that name no number."""
    found = findings.records(KEPT)
    mixed, hardware = found["mixed"], found["hardware"]
    for model, cluster in mixed["inputs"]["models"]:
        rows = take.every(mixed["changes"], model=model, cluster=cluster)
        changes = {row["change"]: row for row in rows}
        own = changes["as it is"]
        for words in ("no spare experts", "unmerged dispatch"):
            assert changes[words]["ratio"] == pytest.approx(own["ratio"], rel=0.01)
        for words in ("2 tokens a step", "4 tokens a step"):
            assert changes[words]["ratio"] < own["ratio"]
            assert changes[words]["penalty"] < own["penalty"]
        for limit, falls in ((0.0, True), (50.0, False)):
            rows = take.every(mixed["rows"], model=model, limit_ms=limit)
            line = [row["penalty"] for row in rows if row["way"] == "mixed"]
            beside = [row["penalty"] for row in rows if row["way"] == "alternating"]
            assert line == pytest.approx(beside, rel=0.05)
            assert (line[-1] < line[0]) == falls
    signs = {"arithmetic": 1.0, "bandwidth": -1.0, "capacity": -1.0, "links": -1.0}
    for row in take.every(hardware["slopes"], limit_ms=0.0):
        assert row["elasticity"] * signs.get(row["input"], 0.0) >= 0.0
        assert row["input"] != "links" or abs(row["elasticity"]) < 0.15, "a little"
    for row in take.every(found["attention"]["rows"], shape="released"):
        same = {name: row[name] for name in ("model", "question", "shape")}
        both = take.pick(found["attention"]["rows"], **same, attention="latent on both")
        if row["attention"] == "latent on the MoE alone":
            assert row["ratio"] < both["ratio"]
    for row in take.every(found["sparsity"]["best"], question="8k all cached, 1k out"):
        assert row["slope"] > 0.0
    turns = [
        row["from"] for row in take.every(found["lengths"]["rows"], model="deepseek-v3", cached=0.0)
    ]
    assert max(turns) < 1.5 * min(turns), "the length of the prompt hardly matters"
    paid = take.every(found["lifetimes"]["rows"], requests=True)
    assert section.paying(paid) < len(paid) / 4


def test_what_the_findings_say_of_every_law_holds_in_their_records() -> None:
    """Sentences that a section says under every law."""
    found = findings.records(KEPT)
    for rows in (found["attention"]["rows"], found["attention"]["laws"]):
        for row in take.every(rows, attention="latent on the MoE alone"):
            same = {name: row[name] for name in ("model", "question", "law", "shape")}
            both = take.pick(rows, **same, attention="latent on both")
            assert row["ratio"] < both["ratio"]
            neither = take.pick(rows, **same, attention="grouped on both")
            other = take.pick(rows, **same, attention="latent on the dense model alone")
            assert other["ratio"] > neither["ratio"]
    for one, other in (
        ("latent on both", "latent on the MoE alone"),
        ("grouped on both", "latent on the dense model alone"),
    ):
        own = section.attention_factor(found["attention"]["rows"], one, other)
        for law in found["attention"]["inputs"]["laws"]:
            rows = take.every(found["attention"]["laws"], law=law)
            factors = section.attention_factor(rows, one, other)
            assert factors == pytest.approx(own, rel=0.2), "within a fifth"
    mixed, hardware = found["mixed"], found["hardware"]
    node = take.every(mixed["laws"], cluster=mixed["inputs"]["models"][0][1])
    assert max(section.changed(node, "2 tokens a step")) < 1.0
    for row in take.every(hardware["slopes"], input="domain"):
        assert abs(row["elasticity"]) < 0.1, "the size of a domain"


def test_prior_work_is_cited(page: str) -> None:
    for number in ("2404.02852", "2506.12119", "2507.14397", "2507.15465", "2603.17280"):
        assert f"arxiv.org/abs/{number}" in page
    assert "not in the abstract" in page and "not public" not in page


def test_commands_that_pages_name_exist() -> None:
    for path in DOCS.glob("*.md"):
        for name in re.findall(r"python -m (experiments[\w.]*)", path.read_text()):
            place = DOCS.parent.joinpath(*name.split("."))
            file = place / "__main__.py" if place.is_dir() else place.with_suffix(".py")
            assert "if __name__" in file.read_text(), name


# ---- calibration ---------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [True, False])
def test_the_calibration_page(whole: bool) -> None:
    error = Errors(10, 0.123, 0.456, -0.02)
    cells_of_row = dict.fromkeys((*COLUMNS, POOLED), "1.0 / 2.0")
    serving = {
        "backends": [
            {"backend": "vllm", "scale": 1.05, "by_bits": [0.9, 1.0, 1.1], "late_steps": 3.0}
        ],
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
