"""What do the experiments find, in one page whose every number and figure comes from their results?

`python -m experiments.pages.findings` writes docs/findings.md from `experiments/data/findings`,
which `make figures` makes anew. Words such as "holds" are chosen by the numbers, so the page stays
true when results move.
"""

import json
from pathlib import Path
from typing import Any

from experiments.framework.figures import FINDINGS, KEPT
from experiments.pages import findings_numbers, findings_sections
from experiments.pages.template import render
from qsopt.files import write_text

PAGE = Path(__file__).parents[2] / "docs" / "findings.md"

SECTIONS = (
    "findings-opening.md",
    "findings-waterfall.md",
    "findings-lengths.md",
    "findings-limits.md",
    "findings-attention.md",
    "findings-pairs.md",
    "findings-mixed.md",
    "findings-lifetimes.md",
    "findings-hardware.md",
    "findings-sparsity.md",
    "findings-decisions.md",
)
"""Templates, in the order of the page."""


def records(kept: Path) -> dict[str, Any]:
    """What is kept of every experiment, by its name."""
    return {
        name: json.loads((kept / f"{name}.json").read_text(encoding="utf-8")) for name in FINDINGS
    }


def page(kept: Path = KEPT) -> str:
    """The whole page."""
    found = records(kept)
    numbers = {**found, "take": findings_numbers, "section": findings_sections}
    return "\n".join(render(template, **numbers) for template in SECTIONS)


if __name__ == "__main__":
    write_text(PAGE, page())
