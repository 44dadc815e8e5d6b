"""When to serve the MoE, when to distil to dense, and how sure that is: read from the scenarios of
the predictor.
"""

from collections.abc import Callable

import numpy as np

from experiments.framework.pieces import Row
from experiments.pages.evidence import (
    Book,
    advice,
    dense_wins,
    made_by,
    paragraph,
    section,
    share,
    table,
    times,
    tokens,
)

TIGHT = 0.5
"""Share of the usable memory of the whole cluster above which the MoE's weights count as tight."""

CASES: dict[str, Callable[[Row], bool]] = {
    "the MoE does not fit, the dense match does": lambda row: row["verdict"] == "moe infeasible",
    "memory tight: the MoE's weights take over half of it": lambda row: row["held"] > TIGHT,
    "at most 4 sequences at once": lambda row: (row["cap"] or np.inf) <= 4,
    "at most 64 sequences at once": lambda row: (row["cap"] or np.inf) <= 64,
    "as many sequences as fit, context up to 4k": lambda row: row["context"] <= 4096,
    "as many sequences as fit, context 8k to 32k": lambda row: row["context"] <= 32768,
    "as many sequences as fit, context 64k and more": lambda row: True,
}
"""Situations; a scenario belongs to the first that it meets. Limits above 64 sequences count as
none.
"""

MARGIN = 1.15
"""Ratios this close to 1 count as undecided: the allowance of `uncertainty.OPERATOR_SPREAD`."""

SCENARIO = ("model", "variation", "accelerator", "devices", "context", "cap")
"""What tells a scenario from others."""

LAWS = ("ludziejewski", "geometric", "tian")


def situations(rows: list[Row]) -> dict[str, list[Row]]:
    """The rows of every situation."""
    found: dict[str, list[Row]] = {name: [] for name in CASES}
    for row in rows:
        found[next(name for name, met in CASES.items() if met(row))].append(row)
    return found


def advice_section(book: Book) -> str:
    """The last section of the page."""
    found = book.of("qs_predictor")
    rows = [row for row in found.rows(efficiency="fitted") if row["law"] in LAWS]
    lines = []
    for name, kept in situations(rows).items():
        by_law = {law: [row for row in kept if row["law"] == law] for law in LAWS}
        won = {
            law: float(np.mean([dense_wins(row) for row in part])) if part else None
            for law, part in by_law.items()
        }
        ratios = [row["ratio"] for row in by_law["geometric"] if row["ratio"] is not None]
        cells = ("-" if value is None else share(value) for value in won.values())
        middle = times(float(np.median(ratios))) if ratios else "-"
        lines.append((name, str(len(by_law["geometric"])), *cells, middle, word(won)))
    head = (
        "situation",
        "scenarios",
        *(f"dense wins, q by {law}" for law in LAWS),
        "median ratio, geometric",
        "what to serve",
    )
    inputs = found.record["inputs"]
    drawn = paragraph(
        f"Random scenarios by situation: catalog models and variations of them, "
        f"{len(inputs['accelerators'])} accelerators,",
        f"{min(inputs['devices'])} to {max(inputs['devices'])} devices, "
        f"{tokens(inputs['contexts'][0])} to",
        f"{tokens(inputs['contexts'][1])} tokens.",
        "No situation knows more of a case than its line says.",
    )
    words = paragraph(
        "**dense** stands where dense wins at least 80 % of the scenarios with the geometric q, "
        "**MoE** where it",
        "wins at most 20 %;",
        '"if q is right" where the laws do not agree on the same word. Distilling to dense pays '
        "in the first kind",
        "only, and only if",
        "the ratio exceeds the errors below. For a decision compare your own case:",
        "`qsopt compare --model ... --cluster ... --context ... --law all`.",
    )
    missing = paragraph(
        "**What is not in these numbers.** Quality beyond pre-training loss; the cost of training "
        "or distilling the",
        "dense model, and",
        "whether it reaches the law's match; prefill beside decode, queueing and prefix caches; a "
        "limit on latency;",
        "expert placement",
        "that follows real routing.",
    )
    return section(
        "## When to serve the MoE, when to distil to dense, and how sure that is",
        drawn,
        table(head, lines),
        words,
        "**How sure.**",
        sure(rows, book),
        missing,
        made_by("qs_predictor"),
    )


def word(won: dict[str, float | None]) -> str:
    """What to serve by the geometric law, and whether the other laws agree."""
    words = {advice(value) for value in won.values() if value is not None}
    own = advice(won["geometric"]) if won["geometric"] is not None else "no scenario"
    return own if len(words) == 1 else f"{own}, if q is right"


def sure(rows: list[Row], book: Book) -> str:
    """What limits the confidence, each with its number."""
    margins = [
        abs(np.log(row["ratio"])) for row in rows if row["law"] == "geometric" and row["ratio"]
    ]
    winners: dict[tuple[object, ...], list[bool]] = {}
    for row in rows:
        winners.setdefault(tuple(row[name] for name in SCENARIO), []).append(dense_wins(row))
    several = [each for each in winners.values() if len(each) > 1]
    split = float(np.mean([len(set(each)) > 1 for each in several]))
    close = float(np.mean(np.array(margins) < np.log(MARGIN)))
    free = book.of("qs_predictor").record["scores"]["fitted"]["free q"]["criteria"]
    points = [
        paragraph(
            f"* **q.** In {share(split)} of the {len(several)} scenarios that several of the laws "
            f"{', '.join(LAWS)}",
            "answer, they name",
            "different winners.",
        ),
        paragraph(
            f"* **The margin.** In {share(close)} of the scenarios in which both sides fit the "
            f"ratio is within",
            f"{MARGIN - 1.0:.0%} of 1",
            "(geometric law): there the winner is not certain even at that q.",
        ),
        paragraph(
            f"* **Rules of thumb.** q s < 1 alone names the winner in "
            f"{share(free['q s < 1']['accuracy'])} of the",
            "scenarios with q drawn",
            f"freely, the merged roofline in {share(free['merged roofline']['accuracy'])}.",
        ),
    ]
    measured = book.of("real_stacks")
    if measured.there:
        good = measured.record["agreement"]
        text = paragraph(
            "* **The model.** On measured pairs of MoE and dense models the predicted ratio is "
            "off by a factor of",
            f"{good['median_factor']:.2f} in the median ({good['p90_factor']:.2f} at the 90th "
            f"percentile), and the",
            "winner is right in",
            f"{share(good['same_winner'])}; these pairs are far from equal.",
        )
        points.insert(2, text)
    return "\n".join(points)
