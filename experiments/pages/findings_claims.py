"""The findings page: the numbers of the paper's claims, and the verdicts that they choose."""

from collections import Counter
from typing import Any

import numpy as np

from experiments.framework.pieces import Row
from experiments.pages.evidence import Book, Evidence, dense_wins
from experiments.paper.deepseek_claim import TITLES, near
from experiments.paper.predictor_scores import REGIMES

# ---- DeepSeek-V3 at 128k -------------------------------------------------------------------------


def headline(book: Book) -> dict[str, Any]:
    """DeepSeek-V3 at 128k: on which clusters its dense match has the claimed advantage."""
    evidence = book.evidence("deepseek_claim")
    inputs = evidence.inputs
    claimed = inputs["claimed"]
    both = [row for row in evidence.rows(law=inputs["law"]) if row["ratio"] is not None]
    hits = sum(near(row["ratio"], claimed) for row in both)
    reachable = [row for row in both if (row["q_of_claim"] or 0.0) >= 1.0]
    fitted = [row for row in both if row["efficiency"] == "fitted"]
    return {
        "claimed": claimed,
        "law": inputs["law"],
        "verdict": _headline_verdict(hits / len(both), bool(reachable)),
        "clusters": len(both),
        "hits": hits,
        "reachable": sorted(
            reachable, key=lambda row: (row["efficiency"], row["precision"], row["accelerator"])
        ),
        "edges": sum(row["devices"] == _smallest_cluster(both, row) for row in reachable),
        "median": float(np.median([row["ratio"] for row in fitted])),
        "most": max(fitted, key=lambda row: row["ratio"]),
        "spread": _spread(both, inputs),
        "formats": TITLES,
    }


def _headline_verdict(hits: float, reachable: bool) -> str:
    if hits >= 0.5:
        return "holds"
    if hits >= 0.1:
        return "depends on the cluster"
    return "only at the edge of memory" if reachable else "does not hold"


def _smallest_cluster(rows: list[Row], like: Row) -> int:
    """Devices of the smallest tested cluster of that kind on which both sides fit."""
    same = ("accelerator", "precision", "efficiency")
    return min(row["devices"] for row in rows if all(row[name] == like[name] for name in same))


def _spread(rows: list[Row], inputs: Row) -> list[Row]:
    """The ratio over all clusters, by formats and efficiencies."""
    spread = []
    for efficiency in inputs["efficiencies"]:
        for precision in inputs["precisions"]:
            place = {"precision": precision, "efficiency": efficiency}
            ratios = [row["ratio"] for row in rows if place.items() <= row.items()]
            if ratios:
                ends = {"least": min(ratios), "most": max(ratios)}
                middle = {"median": float(np.median(ratios))}
                spread.append({**place, "clusters": len(ratios), **ends, **middle})
    return spread


# ---- over context --------------------------------------------------------------------------------


def contexts(book: Book) -> dict[str, Any]:
    """DeepSeek-V3, Qwen3 and Grok-1 over context: from where dense wins, and by how much."""
    evidence = book.evidence("context_claim")
    inputs = evidence.inputs
    rows = [
        {"model": model, "cluster": cluster}
        | {
            efficiency: _advantage(
                evidence.rows(
                    model=model, cluster=cluster, efficiency=efficiency, law=inputs["law"]
                )
            )
            for efficiency in ("fitted", "ideal")
        }
        for model in inputs["models"]
        for cluster in inputs["clusters"]
    ]
    starts = [row["fitted"]["start"] for row in rows if row["fitted"]["start"] is not None]
    peaks = [row["fitted"]["ratio"] for row in rows]
    return {
        "verdict": "holds in direction; small" if max(peaks) < 2.0 else "holds",
        "first": min(starts),
        "last": max(starts),
        "peaks": (min(peaks), max(peaks)),
        "certain": _certain(evidence),
        "rows": rows,
    }


def _advantage(rows: list[Row]) -> Row:
    """The first context at which dense wins, if any, and the largest ratio with its context."""
    peak = max((row for row in rows if row["ratio"]), key=lambda row: row["ratio"])
    start = next((row["context"] for row in rows if dense_wins(row)), None)
    return {"start": start, "ratio": peak["ratio"], "context": peak["context"]}


def _certain(evidence: Evidence) -> float:
    """Share of the fitted points whose winner is the same at both ends of the interval of q."""
    ends = [evidence.rows(efficiency="fitted", law=law) for law in ("low", "high")]
    pairs = [pair for pair in zip(*ends, strict=True) if all(row["ratio"] for row in pair)]
    return float(np.mean([low["verdict"] == high["verdict"] for low, high in pairs]))


# ---- Switch-C ------------------------------------------------------------------------------------


def switch(book: Book) -> dict[str, Any]:
    """Switch-C's clusters, in bf16 with fitted efficiencies."""
    evidence = book.evidence("switch_claim")
    inputs, chosen = evidence.inputs, {"precision": "bf16", "efficiency": "fitted"}
    multiples = inputs["multiples"]
    gaps = [
        row
        for row in evidence.rows(**chosen, multiple=1)
        if row["moe_devices"] > row["dense_devices"]
    ]
    there, larger = (
        [row["ratio"] for row in evidence.rows(**chosen, multiple=multiple) if row["ratio"]]
        for multiple in multiples[:2]
    )
    flips = sum(ratio < 1.0 for ratio in larger)
    dense, moe = ([row[f"{side}_devices"] for row in gaps] for side in ("dense", "moe"))
    return {
        "verdict": "holds, but turns where it fits" if flips > len(larger) / 2 else "holds",
        "context": inputs["context"],
        "most_devices": inputs["most_devices"],
        "multiples": multiples,
        "gaps": len(gaps),
        "qs": gaps[0]["qs"],
        "dense_devices": (min(dense), max(dense)),
        "moe_devices": (min(moe), max(moe)),
        "there": (min(there), max(there)),
        "flips": flips,
        "larger": len(larger),
        "rows": [
            _switch_row(evidence.rows(**chosen, accelerator=accelerator), multiples)
            for accelerator in inputs["accelerators"]
        ],
    }


def _switch_row(rows: list[Row], multiples: list[int]) -> Row:
    """An accelerator: its smallest clusters, and the ratio on multiples of that of the MoE."""
    ratios = {row["multiple"]: row.get("ratio") for row in rows}
    return rows[0] | {"ratios": [ratios.get(multiple) for multiple in multiples]}


# ---- reuse ---------------------------------------------------------------------------------------


def reuse(book: Book) -> dict[str, Any]:
    """Tokens per weight read, and what bounds the feed-forward layers, at the largest batch."""
    evidence = book.evidence("reuse")
    most = max(row["limit"] for row in evidence.rows())
    points = [row for row in evidence.rows(limit=most) if row["ratio"] is not None]
    by_memory = Counter(
        side
        for row in points
        for side in ("moe", "dense")
        if row[f"{side}_compute_over_memory"] <= 1.0
    )
    return {
        "verdict": "holds" if by_memory["moe"] > by_memory["dense"] else "does not hold",
        "moe_bound": by_memory["moe"],
        "dense_bound": by_memory["dense"],
        "moe_wins": sum(not dense_wins(row) for row in points),
        "points": points,
    }


# ---- q s < 1 -------------------------------------------------------------------------------------


def predictor(book: Book) -> dict[str, Any]:
    """q s < 1 as a predictor, beside better ones."""
    evidence = book.evidence("qs_predictor")
    scores = evidence.record["scores"]["fitted"]
    free = scores["free q"]
    simple = free["criteria"]["q s < 1"]
    one_sided = simple["says_dense_wrongly"] > 3.0 * simple["says_moe_wrongly"]
    return {
        "verdict": "one-sided: only q s > 1 tells" if one_sided else "a rough guide",
        "one_sided": one_sided,
        "free": free,
        "law": scores["laws"]["geometric"],
        "simple": simple,
        "merged": free["criteria"]["merged roofline"],
        "base": max(free["dense_wins"], 1.0 - free["dense_wins"]),
        "best": scores["best_qs"],
        "qs_below_one": scores["qs_below_one"],
        "drawn": evidence.inputs["qs"],
        "regimes": {
            name: scores["regimes"][name] for name in REGIMES if scores["regimes"][name]["points"]
        },
    }
