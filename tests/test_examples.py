"""Every example runs in a process of its own with JAX's defaults, and answers its question."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))

ANSWERS = {
    "01_compare": ("32,768", "would flip the verdict"),
    "02_gradients": ("elasticity to context", "65,536"),
    "03_thousands": ("tokens/s, best of", "131,072 tokens"),
    "04_search": ("designs hold none better", "bandwidth", "tokens/s per"),
    "05_own_model_and_accelerator": ("20.35 B parameters", "my accelerator", "H200"),
    "07_propose": ("dense-", "the MoE itself", "it answers most to"),
    "06_serve": ("first token after", "a token more of prompt: -", "a point more of the prompt"),
}
"""Words that an answer has."""


def test_every_example_is_known() -> None:
    assert [path.stem for path in EXAMPLES] == sorted(ANSWERS)
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_asks_one_question(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert 10 <= len(lines) <= 40
    assert lines[0].startswith('"""') and lines[0].endswith("?")


SLOW = {"07_propose"}
"""Examples that take longer than half a minute."""


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=pytest.mark.slow if path.stem in SLOW else (), id=path.stem)
        for path in EXAMPLES
    ],
)
def test_an_example_answers(path: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "JAX_ENABLE_X64"}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for words in ANSWERS[path.stem]:
        assert words in done.stdout
    assert not list(tmp_path.iterdir()), "an example writes no files"
