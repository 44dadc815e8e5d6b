"""How far is each quality law from the observed matches when it must predict them unseen?

`python -m experiments.pages.quality_table` writes docs/quality-loo.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from experiments.pages.template import render
from qsopt.files import write_text
from qsopt.quality import (
    CONTROLLED,
    FITTED,
    MATCHES,
    Bound,
    Match,
    chosen_inside,
    law,
    laws,
    leave_one_out,
    power,
    predict,
)

GROUPS = {
    "Controlled, same-family and vendor matches (the calibration)": FITTED,
    "Controlled and same-family matches only": CONTROLLED,
}
CHOSEN_AMONG = ("ludziejewski", "geometric", "tian", "combined", "power")
"""Laws among which each fold chooses anew."""
BOUND_LAWS = ("ludziejewski", "geometric", "tian", "combined", "power")
"""Laws whose answers to the bounds are shown."""


@dataclass(frozen=True)
class Settings:
    """Where the table goes."""

    output: Path = Path("docs/quality-loo.md")


def main(settings: Settings) -> None:
    jax.config.update("jax_enable_x64", True)
    page = render(
        "quality-loo.md",
        groups=[{"title": title, **errors(matches)} for title, matches in GROUPS.items()],
        bounds=[bound(match) for match in MATCHES if not match.is_exact],
        bound_laws=BOUND_LAWS,
    )
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    write_text(settings.output, page)


def errors(matches: Sequence[Match]) -> dict[str, Any]:
    """Held-out errors of every law, the exponent of the power law, and the price of choosing."""
    rows, fitted = leave_one_out(laws().values(), matches), power(matches)
    exact = [match for match in matches if match.is_exact]
    rms, chosen = chosen_inside([law(name) for name in CHOSEN_AMONG], matches)
    return {
        "exact": [match.moe for match in exact],
        "bounds": [match.moe for match in matches if not match.is_exact],
        "laws": rows,
        "best": sorted(rows, key=lambda row: row.rms)[:3],
        "best_laboratory": sorted(rows, key=lambda row: row.rms_laboratory)[:3],
        "exponent": float(fitted.exponent),
        "standard_error": float(fitted.standard_error),
        **single_exponents(exact),
        "rms": rms,
        "chosen": chosen,
        "chosen_among": CHOSEN_AMONG,
    }


def single_exponents(exact: Sequence[Match]) -> dict[str, float]:
    """Median and spread of the exponents log q / log(1/s) that single matches would give."""
    log_q = np.log([match.q for match in exact])
    log_s = np.log([float(match.architecture.active_fraction) for match in exact])
    return {
        "median": float(np.median(-log_q / log_s)),
        "spread": float(np.std(log_q / log_s, ddof=1)),
    }


def bound(match: Match) -> dict[str, Any]:
    """A match that only bounds q, and the probability by some laws that q is on its side."""
    below = [
        float(predict(law(name), match.architecture).probability_below(match.q))
        for name in BOUND_LAWS
    ]
    above = match.bound is Bound.AT_LEAST
    return {"match": match, "above": above, "shares": [1 - p if above else p for p in below]}


if __name__ == "__main__":
    main(tyro.cli(Settings))
