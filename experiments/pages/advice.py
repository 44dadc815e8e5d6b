"""The findings page: when to serve the MoE, when to distil to dense, and how sure that is, read
from the scenarios of the predictor.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.framework.pieces import Row
from experiments.pages.evidence import Book, dense_wins

TIGHT = 0.5
"""Share of the usable memory of the whole cluster above which the MoE's weights count as tight."""

SITUATIONS: dict[str, Callable[[Row], bool]] = {
    "the MoE does not fit, the dense match does": lambda row: row["verdict"] == "moe infeasible",
    "memory tight: the MoE's weights take over half of it": lambda row: row["weights"] > TIGHT,
    "at most 4 sequences at once": lambda row: (row["cap"] or np.inf) <= 4,
    "at most 64 sequences at once": lambda row: (row["cap"] or np.inf) <= 64,
    "as many sequences as fit, context up to 4k": lambda row: row["context"] <= 4096,
    "as many sequences as fit, context 8k to 32k": lambda row: row["context"] <= 32768,
    "as many sequences as fit, context 64k and more": lambda row: True,
}
"""A scenario belongs to the first that it meets. Limits above 64 sequences count as none."""

MARGIN = 1.15
"""Ratios this close to 1 count as undecided: the allowance of `uncertainty.OPERATOR_SPREAD`."""

SCENARIO = ("model", "variation", "accelerator", "devices", "context", "cap")
"""What tells a scenario from others."""

LAWS = ("ludziejewski", "geometric", "tian")


def advice(book: Book) -> dict[str, Any]:
    """The advice for every situation, and what limits the confidence in it."""
    evidence = book.evidence("qs_predictor")
    inputs = evidence.inputs
    rows = [row for row in evidence.rows(efficiency="fitted") if row["law"] in LAWS]
    winners: dict[tuple[object, ...], list[bool]] = defaultdict(list)
    for row in rows:
        winners[tuple(row[name] for name in SCENARIO)].append(dense_wins(row))
    several = [verdicts for verdicts in winners.values() if len(verdicts) > 1]
    margins = [
        abs(np.log(row["ratio"])) for row in rows if row["law"] == "geometric" and row["ratio"]
    ]
    return {
        "accelerators": len(inputs["accelerators"]),
        "devices": (min(inputs["devices"]), max(inputs["devices"])),
        "contexts": inputs["contexts"],
        "laws": LAWS,
        "situations": [
            {"situation": name} | _shares(members) for name, members in situations(rows).items()
        ],
        "of_several_laws": len(several),
        "laws_differ": float(np.mean([len(set(verdicts)) > 1 for verdicts in several])),
        "margin": MARGIN - 1.0,
        "close": float(np.mean(np.array(margins) < np.log(MARGIN))),
    }


def situations(rows: list[Row]) -> dict[str, list[Row]]:
    """The rows of every situation."""
    members: dict[str, list[Row]] = {name: [] for name in SITUATIONS}
    for row in rows:
        members[next(name for name, meets in SITUATIONS.items() if meets(row))].append(row)
    return members


def _shares(rows: list[Row]) -> Row:
    """How often dense wins by each law, the median ratio, and what follows."""
    by_law = {law: [row for row in rows if row["law"] == law] for law in LAWS}
    wins = {
        law: float(np.mean([dense_wins(row) for row in part])) if part else None
        for law, part in by_law.items()
    }
    ratios = [row["ratio"] for row in by_law["geometric"] if row["ratio"] is not None]
    return {
        "scenarios": len(by_law["geometric"]),
        "dense_wins": list(wins.values()),
        "ratio": float(np.median(ratios)) if ratios else None,
        "advice": what_to_serve(wins),
    }


def what_to_serve(wins: dict[str, float | None]) -> str:
    """What to serve by the geometric law, and whether the other laws agree."""
    words = {_word(share) for share in wins.values() if share is not None}
    own = "no scenario" if wins["geometric"] is None else _word(wins["geometric"])
    return own if len(words) == 1 else f"{own}, if q is right"


def _word(wins: float) -> str:
    """What to do where the dense twin wins this share of the cases."""
    if wins >= 0.8:
        return "**dense**"
    if wins <= 0.2:
        return "**MoE**"
    if wins >= 0.6:
        return "leans dense, compare"
    return "leans MoE, compare" if wins <= 0.4 else "open, compare"
