"""How far is each quality law from the observed matches when it must predict them unseen?

`python -m experiments.pages.quality_table` writes docs/quality-loo.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import tyro

from experiments.pages.template import render
from qsopt.quality import (
    COMBINED,
    CONTROLLED,
    FITTED,
    MATCHES,
    Match,
    blend,
    chosen_inside,
    law,
    laws,
    leave_one_out,
    predict,
)

GROUPS = {
    "Controlled, same-family and vendor matches (the calibration)": FITTED,
    "Controlled and same-family matches only": CONTROLLED,
}


@dataclass(frozen=True)
class Settings:
    """Where the table goes."""

    output: Path = Path("docs/quality-loo.md")


def main(settings: Settings) -> None:
    jax.config.update("jax_enable_x64", True)
    switch = next(match for match in MATCHES if match.moe == "Switch-C")
    page = render(
        "quality-loo.md",
        groups=[{"title": title, **errors(matches)} for title, matches in GROUPS.items()],
        switch_q=switch.q,
        switch=probabilities(switch),
    )
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    settings.output.write_text(page)


def errors(matches: Sequence[Match]) -> dict[str, Any]:
    """Held-out errors of every law, and of choosing the law inside each fold."""
    low, middle, high = law("ludziejewski"), law("geometric"), law("tian")
    blends = (
        blend("low + mid", low, middle),
        blend("low + high", low, high),
        blend("all three", low, middle, high),
    )
    rms, chosen = chosen_inside((low, middle, high, COMBINED, *blends), matches)
    rows = leave_one_out(laws().values(), matches)
    return {"matches": matches, "laws": rows, "rms": rms, "chosen": chosen}


def probabilities(bound: Match) -> dict[str, float]:
    """Probability by each law that q is at least that of a match which only bounds it."""
    return {
        name: float(1 - predict(law(name), bound.architecture).probability_below(bound.q))
        for name in ("ludziejewski", "geometric", "tian", "combined")
    }


if __name__ == "__main__":
    main(tyro.cli(Settings))
