"""Runs every Python example of the texts, one after the other in this process.

usage: snippets.py [x64]
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def snippets() -> list[list[str]]:
    """The Python blocks of each text, which build on those before them."""
    texts = (path.read_text("utf-8") for path in TEXTS)
    return [re.findall(r"^```python\n(.*?)^```", text, re.M | re.S) for text in texts]


if __name__ == "__main__":
    if sys.argv[1:] == ["x64"]:
        import jax

        jax.config.update("jax_enable_x64", True)
    for blocks in snippets():
        names: dict[str, object] = {}
        for block in blocks:
            exec(compile(block, "example", "exec"), names)
