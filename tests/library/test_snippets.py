"""Every Python example of the texts runs in a fresh process, in both precisions."""

import re
from pathlib import Path

import pytest
from processes import ROOT, run

TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def snippets() -> list[str]:
    """The Python blocks of all texts."""
    blocks = []
    for path in TEXTS:
        blocks += re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.M | re.S)
    return blocks


def test_there_are_examples() -> None:
    assert snippets()


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_every_example_runs(compiled: Path, tmp_path: Path, precision: str) -> None:
    setting = "import jax\njax.config.update('jax_enable_x64', True)\n"
    lines = [setting if precision == "float64" else ""]
    lines += [f"exec(compile({block!r}, 'example', 'exec'), {{}})\n" for block in snippets()]
    program = tmp_path / "examples.py"
    program.write_text("".join(lines))
    assert run(compiled, str(program)).strip()
