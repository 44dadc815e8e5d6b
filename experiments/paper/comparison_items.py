"""Which choices of the comparison decide its verdicts?

`python -m experiments.paper.comparison_items` writes the ratio of dense over MoE as the comparison
was first made (the paper's argument: a twin in the MoE's body, the bare geometric rule, plain
layouts), with each later choice alone, and with all of them, at every case, context and limit, into
`results/comparison_items` and docs/comparison-items.md.

Every ratio is of two exact optima. Also the numbers of an independent review of the same points.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import jax.numpy as jnp

from experiments.findings.sides import AS_THE_PAPER
from experiments.framework import study
from experiments.framework.pieces import Row
from experiments.pages.template import render
from qsopt.cli.options import Question
from qsopt.comparison.compare import verdict
from qsopt.comparison.dense import SAME_BODY, dense_match, match_kind
from qsopt.comparison.duel import throughput_of
from qsopt.files import write_text

NAME = "comparison_items"

BEFORE = AS_THE_PAPER
"""The comparison as it was first made."""

ITEMS = {
    "before": {},
    "released shape": {"twin": "released"},
    "released, 8 KV heads": {"twin": "released", "twin_attention": "gqa8"},
    "calibrated q": {"law": "power", "law_raw": False},
    "context parallel": {"dcp": "any"},
    "expert slots": {"expert_slots": "any"},
    "whole domains": {"packing": "whole"},
    "merged dispatch": {"assume": "shared_links=0"},
    "mesh links": {"assume": "merged_dispatch=0"},
}
"""Each choice alone, as flags of the command."""

ALL = "all"

ALONE = tuple(name for name in ITEMS if name != "before")


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Every model on every cluster, at every context and limit."""

    models: tuple[str, ...]
    clusters: tuple[str, ...]
    contexts: tuple[float, ...]
    limits_ms: tuple[float, ...]
    """Longest times per output token; 0 for none."""
    efficiency: str
    page: Path = Path("docs/comparison-items.md")
    """Page to write."""


def items(
    model: str, cluster: str, contexts: Sequence[float], limit_ms: float, efficiency: str
) -> list[Row]:
    """A model on a cluster under a limit, at every context."""
    return [compared(model, cluster, context, limit_ms, efficiency) for context in contexts]


def compared(model: str, cluster: str, context: float, limit_ms: float, efficiency: str) -> Row:
    """Ratios of one case, with the items that are taken alone and with all."""
    plain = Question(
        model, cluster, context=context, tpot_ms=limit_ms or None, efficiency=efficiency
    )
    questions = {name: replace(plain, **(BEFORE | item)) for name, item in ITEMS.items()}
    questions[ALL] = plain
    outcomes = {name: ratio(question) for name, question in questions.items()}
    return {
        "model": model,
        "cluster": cluster,
        "context": context,
        "limit_ms": limit_ms,
        **{name: outcome[0] for name, outcome in outcomes.items()},
        **{f"{name}: verdict": outcome[1] for name, outcome in outcomes.items()},
    }


def ratio(question: Question) -> tuple[float | None, str]:
    """Throughput of dense over MoE, None where a side does not fit, and who wins."""
    model, service = question.load()
    q = question.inquiry(model, service).believe().q
    kind = match_kind(question.twin, question.twin_attention)
    dense = dense_match(model, jnp.asarray(q), kind if model.encoder is None else SAME_BODY)
    reached = tuple(throughput_of(side, model, service) for side in (model, dense))
    return (reached[1] / reached[0] if all(reached) else None), verdict(*reached)


# ---- the numbers of an independent review --------------------------------------------------------

PAPER = {
    "model": "deepseek-v3",
    "cluster": "8xmi300x",
    "context": 131072.0,
    "weight_dtype": "bf16",
    "efficiency": "ideal",
    **BEFORE,
}
H200 = {"model": "deepseek-v3", "cluster": "16xh200", **BEFORE}
RACK = {"model": "deepseek-v3", "cluster": "72xgb200", "context": 8192.0, "tpot_ms": 30.0, **BEFORE}
OSS = {"model": "gpt-oss-120b", "cluster": "8xb200", "context": 8192.0}
SHARED, SLOTS, VLLM = {"dcp": "any"}, {"expert_slots": "any"}, {"stack": "vllm"}
MERGED, CALIBRATED = ITEMS["merged dispatch"], ITEMS["calibrated q"]
RELEASED, GQA8 = {"twin": "released"}, {"twin": "released", "twin_attention": "gqa8"}
AT_128K = {"context": 131072.0}

REVIEWED = (
    ("8 MI300X, bf16, 128k, ideal, no context parallelism", PAPER, "6.49"),
    ("the same with context parallelism", PAPER | SHARED, "3.75-3.86"),
    ("at 85 % of the memory, without", PAPER | {"utilization": 0.85}, "infeasible"),
    ("at 85 % of the memory, with", PAPER | SHARED | {"utilization": 0.85}, "4.7-4.85"),
    ("at 97 % of the memory, without", PAPER | {"utilization": 0.97}, "4.47"),
    ("at all of the memory, without", PAPER | {"utilization": 1.0}, "4.47"),
    *(
        (f"16 H200, {context // 1024}k, {text}", H200 | shape | {"context": float(context)}, theirs)
        for text, shape, each in (
            ("same body", {}, ("0.99", "1.24", "1.35")),
            ("released shape, same attention", RELEASED, ("0.77", "0.84", "0.86")),
            ("released shape, 8 KV heads", GQA8, ("0.43", "0.43", "0.44")),
        )
        for context, theirs in zip((8192, 32768, 131072), each, strict=True)
    ),
    ("16 H200, 128k, same body, layouts that vLLM runs", H200 | AT_128K | VLLM, "0.83"),
    ("72 GB200, 8k, 30 ms, no redundant experts", RACK, None),
    ("the same with redundant experts", RACK | SLOTS, "1.02"),
    ("with them and merged dispatch", RACK | SLOTS | MERGED, "1.02"),
    ("with both and the calibrated q", RACK | SLOTS | MERGED | CALIBRATED, "1.02"),
    ("gpt-oss-120b on 8 B200, 8k, as the comparison was first made", OSS | BEFORE, None),
    ("the same with all choices of today", OSS, None),
)
"""What was asked, as flags of the command, and what the review found."""


def review() -> list[Row]:
    """Ours beside theirs: with everything that is counted today, and with operators alone, as it
    was when the review was made.
    """
    return [{"case": text, "theirs": theirs} | reviewed(flags) for text, flags, theirs in REVIEWED]


def reviewed(flags: dict[str, Any]) -> Row:
    """Both ratios of a point, and who wins."""
    ours, outcome = ratio(Question(**flags))
    alone = (ours, outcome)
    if "efficiency" not in flags:
        alone = ratio(Question(**flags, efficiency="kernels"))
    return {
        "ours": ours,
        "verdict": outcome,
        "operators alone": alone[0],
        "operators alone: verdict": alone[1],
    }


def merged_copies(ranks: float, top_k: float) -> tuple[float, float]:
    """Copies of a token that leave its rank, of k experts over e ranks: one for each expert, and
    merged by rank.
    """
    distinct = ranks * (1.0 - (1.0 - 1.0 / ranks) ** top_k)
    away = 1.0 - 1.0 / ranks
    return top_k * away, distinct * away


# ---- the page ------------------------------------------------------------------------------------


class Effect(NamedTuple):
    """What one choice does to the cases."""

    turned: int
    """Cases whose verdict it changes."""
    dense_wins: int
    """Cases that dense wins with it."""
    factor: float | None
    """Typical factor on the ratio: geometric mean over the cases where both sides run."""


def effect(rows: Sequence[Row], name: str) -> Effect:
    """Of a choice over some cases."""
    both = [(row[name], row["before"]) for row in rows if row[name] and row["before"]]
    return Effect(
        sum(row[f"{name}: verdict"] != row["before: verdict"] for row in rows),
        sum(row[f"{name}: verdict"] == "dense wins" for row in rows),
        math.exp(fmean(math.log(after / before) for after, before in both)) if both else None,
    )


def summary(rows: Sequence[Row], model: str) -> dict[str, Any]:
    """Of the cases of one model, before and with everything."""
    own = [row for row in rows if row["model"] == model]
    return {"cases": len(own)} | {name: effect(own, name) for name in ("before", ALL)}


def cell(row: Row, name: str) -> str:
    """A ratio as the table shows it: bold where its verdict is not that of before."""
    outcome = row[f"{name}: verdict"]
    words = {"moe infeasible": "only dense", "dense infeasible": "only MoE"}
    value = row[name]
    text = words.get(outcome, "neither") if value is None else f"{value:.2f}"
    return f"**{text}**" if outcome != row["before: verdict"] else text


def write_page(rows: Sequence[Row], reviewed: Sequence[Row], settings: Settings) -> None:
    """The page from its template."""
    names = (*ITEMS, ALL)
    text = render(
        "comparison-items.md",
        rows=rows,
        names=names,
        cell=cell,
        limits=settings.limits_ms,
        effects={name: effect(rows, name) for name in names},
        by_model={model: summary(rows, model) for model in settings.models},
        ranked=sorted(ALONE, key=lambda name: -effect(rows, name).turned),
        reviewed=reviewed,
        asked=len(settings.models) * len(settings.clusters) * len(settings.contexts)
        * len(settings.limits_ms),
        copies=merged_copies(8.0, 8.0),
    )  # fmt: skip
    write_text(settings.page, text)


def main(settings: Settings) -> None:
    with study.Study(NAME, settings) as this:
        keys = [
            {
                "model": model,
                "cluster": cluster,
                "contexts": settings.contexts,
                "limit_ms": limit,
                "efficiency": settings.efficiency,
            }
            for model in settings.models
            for cluster in settings.clusters
            for limit in settings.limits_ms
        ]
        rows = [row for piece in this.pieces(keys, items) for row in piece]
        (reviewed,) = this.pieces([{}], review)
        this.write(rows, reviewed=reviewed)
        write_page(rows, reviewed, settings)


if __name__ == "__main__":
    study.start(main, Settings, NAME)
