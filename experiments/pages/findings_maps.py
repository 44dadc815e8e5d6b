"""The findings page: the numbers of maps, of the roofline bound against measured efficiencies, of
sparsity, hardware and measured models.
"""

from collections import defaultdict
from typing import Any

import numpy as np

from experiments.framework.pieces import Row
from experiments.pages.evidence import Book, Evidence, dense_wins
from experiments.regimes.sparsity import INPUTS, WAYS

SLOPES = {f"s_{way}": f"s {text}" for way, text in WAYS.items()} | INPUTS
"""Inputs whose slopes are shown."""


# ---- maps ----------------------------------------------------------------------------------------


def maps(book: Book) -> dict[str, Any]:
    """Where the MoE wins and loses, for every pair of axes."""
    evidence = book.evidence("phase_maps")
    inputs = evidence.inputs
    return {
        "accelerators": len(inputs["accelerators"]),
        "another_winner": _mean(
            evidence.rows(efficiency="ideal"), "share_verdict_differs_from_drawn"
        ),
        "pairs": [
            {
                "x": x,
                "y": y,
                "figure": f"{x}_{y}_{inputs['models'][0]}",
                "rows": [
                    {"model": model}
                    | _outcomes(
                        evidence.rows(model=model, x=x, y=y, efficiency=inputs["efficiency"])
                    )
                    for model in inputs["models"]
                ],
            }
            for x, y in inputs["pairs"]
        ],
    }


def _outcomes(rows: list[Row]) -> Row:
    """Who wins on the maps of one model, one row an accelerator."""
    ratios = [row["ratio_median"] for row in rows if row["ratio_median"] is not None]
    return {
        **{
            outcome: _mean(rows, f"share_{outcome}")
            for outcome in ("dense_wins", "moe_wins", "moe_infeasible")
        },
        "ratio": float(np.median(ratios)) if ratios else None,
        "unsure": _mean(rows, "share_unsure"),
        "qs_right": _mean(rows, "qs_calls_it_right"),
    }


def _mean(rows: list[Row], key: str) -> float | None:
    """Mean over the rows that have one."""
    values = [row[key] for row in rows if row[key] is not None]
    return float(np.mean(values)) if values else None


# ---- ideal against fitted ------------------------------------------------------------------------


def bound(book: Book) -> list[Row]:
    """How the roofline bound would conclude otherwise."""
    comparisons = {
        "DeepSeek-V3 at 128k": (
            "deepseek_claim",
            ("accelerator", "devices", "precision", "law", "q"),
        ),
        "over context": ("context_claim", ("model", "cluster", "context", "law", "q")),
        "Switch-C": ("switch_claim", ("accelerator", "precision", "multiple")),
    }
    return [
        {"comparison": comparison} | _bound_over_fitted(_partners(book.evidence(name), place))
        for comparison, (name, place) in comparisons.items()
    ]


def _partners(evidence: Evidence, place: tuple[str, ...]) -> list[tuple[Row, Row]]:
    """Rows of the ideal set with those of the fitted one at the same point, where both fit."""
    fitted = {tuple(row[name] for name in place): row for row in evidence.rows(efficiency="fitted")}
    pairs = (
        (row, fitted.get(tuple(row[name] for name in place), {}))
        for row in evidence.rows(efficiency="ideal")
    )
    return [pair for pair in pairs if all(row.get("ratio") for row in pair)]


def _bound_over_fitted(pairs: list[tuple[Row, Row]]) -> Row:
    factors = np.log([ideal["ratio"] / fitted["ratio"] for ideal, fitted in pairs])
    low, median, high = np.exp(np.quantile(factors, (0.1, 0.5, 0.9))).tolist()
    differs = [ideal["verdict"] != fitted["verdict"] for ideal, fitted in pairs]
    return {
        "points": len(pairs),
        "another_winner": float(np.mean(differs)),
        "low": low,
        "median": median,
        "high": high,
    }


# ---- sparsity and hardware -----------------------------------------------------------------------


def sparsity(book: Book) -> dict[str, Any]:
    """What more sparsity does to the best throughput."""
    rows = book.evidence("sparsity_gradients").rows(feasible=True)
    best = np.array(
        [row["best_s_fixed_quality"] / row["s"] for row in rows if row.get("best_s_fixed_quality")]
    )
    return {
        "optima": len(rows),
        "slopes": [
            {"input": text} | _slopes([row[key] for row in rows if row[key] is not None])
            for key, text in SLOPES.items()
        ],
        "best": np.median(best),
        "sparser": float(np.mean(best < 0.99)),
    }


def _slopes(values: list[float]) -> Row:
    low, median, high = np.quantile(values, (0.1, 0.5, 0.9))
    negative = float(np.mean(np.array(values) < 0.0))
    return {"low": low, "median": median, "high": high, "negative": negative}


def hardware(book: Book) -> dict[str, Any]:
    """What hardware would make the MoE win."""
    evidence = book.evidence("hardware_for_moe")
    inputs = evidence.inputs
    return {
        "rows": [{"input": name} | _turns(evidence.rows(input=name)) for name in inputs["inputs"]],
        "models": len(inputs["models"]),
        "clusters": inputs["clusters"],
        "contexts": inputs["contexts"],
        "factor": inputs["factor"],
    }


def _turns(rows: list[Row]) -> Row:
    """How often more of an input makes the MoE win where dense wins as built, and from where."""
    lost = [row for row in rows if dense_wins({"verdict": row["verdict_own"]})]
    turned = [row["moe_wins_above_own_times"] for row in lost if row["moe_wins_above_own_times"]]
    slopes = [row["elasticity_of_ratio"] for row in rows if row["elasticity_of_ratio"] is not None]
    return {
        "elasticity": np.median(slopes) if slopes else None,
        "lost": len(lost),
        "turned": len(turned),
        "turning_point": np.median(turned) if turned else None,
    }


# ---- measured models -----------------------------------------------------------------------------


def stacks(book: Book) -> dict[str, Any] | None:
    """Measured MoE models against measured dense ones; None without measured results."""
    evidence = book.evidence("real_stacks")
    if not evidence.exists:
        return None
    rows = sorted(evidence.rows(), key=lambda row: row["size_over_match"])
    by_pair: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        by_pair[row["moe"], row["dense"]].append(row)
    smaller, larger = (
        [row["measured_ratio"] > 1.0 for row in rows if (row["size_over_match"] < 1.0) == small]
        for small in (True, False)
    )
    return {
        "agreement": evidence.record["agreement"],
        "points": len(rows),
        "pairs": [_pair(members) for members in by_pair.values()],
        "smaller_wins": float(np.mean(smaller)),
        "larger_wins": float(np.mean(larger)),
        "longest": max(row["prompt"] + row["answer"] for row in rows),
    }


def _pair(rows: list[Row]) -> Row:
    """A pair, with the range of its ratios, and whether it may be a match by the law."""
    ranges = {
        side: (min(ratios), max(ratios))
        for side in ("measured", "predicted")
        if (ratios := [row[f"{side}_ratio"] for row in rows])
    }
    first = rows[0]
    may_match = first["law_q_low"] <= first["q"] <= first["law_q_high"]
    return first | ranges | {"points": len(rows), "may_match": may_match}
