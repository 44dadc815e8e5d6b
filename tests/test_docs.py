"""The documentation does what it says: its commands run and print what is shown, its links lead
somewhere, and its reference knows every room.

Blocks of Python that need nothing but the package run with those of the README, in fresh processes
(tests/library); blocks that need files of their page, marked `py`, run here.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from qsopt.cli import main

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path for folder in ("tutorial", "how-to") for path in (DOCS / folder).glob("*.md"))
ROOMS = sorted(path.parent.name for path in (ROOT / "qsopt").glob("*/__init__.py"))

TOKEN = re.compile(r"(?!\d)(\w+|[^\w\s])|(\d[\d,]*(?:\.\d+)?)")
FENCE = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    file: str
    """Name of the file that the block is; empty if it is none."""
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in FENCE.findall(page.read_text(encoding="utf-8"))]


def commands(text: str) -> Iterator[list[str]]:
    for line in text.replace("\\\n", " ").splitlines():
        program, *words = shlex.split(line, comments=True)
        assert program == "qsopt", line
        yield words


# ---- what runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_a_page_does_what_it_says(
    page: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = ""
    for block in blocks(page):
        if block.file:
            path = Path(block.file)
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.text)
        elif block.language == "sh":
            printed = ""
            for words in commands(block.text):
                status = main(words)
                said = capsys.readouterr()
                assert (status, said.err) == (0, ""), f"qsopt {shlex.join(words)}: {said.err}"
                printed += said.out
        elif block.language == "text":
            shown_was_printed(block.text, printed)
        elif block.language == "py":
            run_python(block.text)


def shown_was_printed(shown: str, printed: str) -> None:
    """Every line that the page shows is one that the command printed, with numbers within 5 %."""
    lines = [words(line) for line in printed.splitlines()]
    for line in shown.splitlines():
        assert words(line) in lines, f"not printed: {line}\n{printed}"


def words(line: str) -> list[object]:
    """Words of a line, and its numbers with some slack."""
    return [
        pytest.approx(float(number.replace(",", "")), rel=0.05) if number else word
        for word, number in TOKEN.findall(line)
    ]


def run_python(code: str) -> None:
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        f"import sys; sys.path.append({str(ROOT)!r})\n{code}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_pages_hold_what_they_should() -> None:
    assert len(PAGES) >= 8
    languages = {block.language for page in PAGES for block in blocks(page)}
    assert languages == {"sh", "text", "python", "py", "json", "toml", ""}


# ---- what leads somewhere ------------------------------------------------------------------------

REPOSITORY = re.compile(r"https://github\.com/qsopt/qsopt/(?:blob|tree)/main/([^)#\s]+)")
RELATIVE = re.compile(r"\]\((?!https?://|#)([^)#]+)")


@pytest.mark.parametrize("page", [ROOT / "CONTRIBUTING.md", *PAGES, *DOCS.glob("*.md")], ids=str)
def test_links_lead_to_files(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in RELATIVE.findall(text):
        assert (page.parent / target).exists(), target
    for target in REPOSITORY.findall(text):
        assert (ROOT / target).exists(), target


def test_contributing_maps_every_room() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    mapped = re.findall(r"^\| `(\w+)` \|", text, re.M)
    assert sorted(mapped) == ROOMS


def test_reference_knows_every_room() -> None:
    known = re.findall(
        r"^::: qsopt\.(\w+)$",
        "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md")),
        re.M,
    )
    ground = [path.stem for path in (ROOT / "qsopt").glob("[a-z]*.py")]
    ground.remove("version")
    assert sorted(known) == sorted([*ROOMS, *ground])


def test_site_builds_strictly(tmp_path: Path) -> None:
    """Every link, anchor and reference of the pages is there, and nothing comes from elsewhere."""
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    pytest.importorskip("mkdocstrings", reason="needs the extra docs")
    pytest.importorskip("mkdocs_jupyter", reason="needs the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    done = subprocess.run(
        [*command, "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "RUN_NOTEBOOKS": "false"},  # tests/test_notebooks.py runs them
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        loaded = re.findall(
            r"<(?:script|img|link)[^>]*\b(?:src|href)=\"?(https?://[^\"\s>]+)", page.read_text()
        )
        assert not [
            target for target in loaded if not target.startswith("https://qsopt.github.io/")
        ]
