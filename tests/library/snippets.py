"""Runs every Python example of the texts, one after the other in this process.

usage: snippets.py [x64]
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def snippets() -> list[str]:
    """The Python blocks of all texts."""
    blocks = []
    for path in TEXTS:
        blocks += re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.M | re.S)
    return blocks


if __name__ == "__main__":
    if sys.argv[1:] == ["x64"]:
        import jax

        jax.config.update("jax_enable_x64", True)
    for block in snippets():
        exec(compile(block, "example", "exec"), {})
