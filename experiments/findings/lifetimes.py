"""Is it cheaper to train DeepSeek-V3 or its dense match, or to distil one to the other?

`python -m experiments.findings.lifetimes` asks `qsopt lifetime` about decode alone and about whole
requests, for every dense match at the calibrated q and for two at that of every law as published,
and writes docs/lifetime.md.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qsopt
from experiments.findings import sides
from experiments.findings.lifetimes_figure import draw
from experiments.findings.sides import at_law
from experiments.framework import study
from experiments.framework.pieces import Row
from experiments.pages.template import render
from qsopt.files import write_text

NAME = "lifetimes"

GEOMETRIC: Row = {"twin": "same-body", "law": "geometric", "law_raw": True}
BARE: dict[str, Row] = {
    "same body, geometric q, bare kernels": {**GEOMETRIC, "efficiency": "kernels"}
}
MATCHES: dict[str, Row] = {
    "same body, geometric q": GEOMETRIC,
    "same body": {"twin": "same-body"},
    "released shape": {},
    "released shape, 8 KV heads": {"twin_attention": "gqa8"},
}

OF_LAWS = ("same body", "released shape")
"""Matches that are asked about at every law's own q."""


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Questions: words, cluster, context, prompt, answer, cached share, limit [ms] (0 for none)."""

    model: str
    questions: tuple[tuple[str, str, float, float, float, float, float], ...]
    laws: tuple[str, ...]
    """Whose own q is asked too."""
    page: Path = Path("docs/lifetime.md")
    """Page to write."""


def asked(model: str, question: list[Any], match: str, how: Row, law: str) -> list[Row]:
    """One question about one dense match, at a law's own q where one is named."""
    words, cluster, context, prompt, answer, cached, limit_ms = question
    limit = {"tpot_limit": limit_ms * 1e-3} if limit_ms else {}
    workload = (
        qsopt.Workload(context, **limit)
        if context
        else qsopt.Workload(prompt=prompt, answer=answer, cached=cached, **limit)
    )
    record = qsopt.lifetime(model, cluster, workload, **how, **at_law(law)).to_dict()
    where = {"question": words, "requests": not context, "match": match, "law": law}
    return [where | _row(record)]


def _row(record: dict[str, Any]) -> Row:
    by_name = {each["name"]: each for each in record["options"]}
    even = {(each["from"], each["to"]): each for each in record["break_even_output_tokens"]}
    energy = {(each["from"], each["to"]): each for each in record["break_even_by_energy"]}
    more = by_name["dense"]["training_cost"] - by_name["moe"]["training_cost"]
    costs = {name: each["cost_per_million_output_tokens"] for name, each in by_name.items()}
    return {
        "q": record["q"],
        "more": more / 1e6,
        "student": by_name["distilled"]["distillation_cost"] / 1e6,
        "moe": costs["moe"],
        "dense": costs["dense"],
        "paid": even["moe", "dense"],
        "distilled": even["moe", "distilled"],
        "moe_joules": by_name["moe"]["joules_per_output_token"],
        "dense_joules": by_name["dense"]["joules_per_output_token"],
        "distilled_by_energy": energy["moe", "distilled"]["tokens"],
    }


def main(settings: Settings) -> None:
    with study.Study(NAME, settings) as this:
        keys = [
            {"model": settings.model, "question": question, "match": match, "how": how, "law": ""}
            for question in settings.questions
            for match, how in (MATCHES if not question[2] else BARE | MATCHES).items()
        ]
        rows = study.joined(this.pieces(keys, asked, (sides,)))
        keys = [
            key | {"law": law} for key in keys if key["match"] in OF_LAWS for law in settings.laws
        ]
        this.write(rows, draw, laws=study.joined(this.pieces(keys, asked, (sides,))))
    decode, requests = ([r for r in rows if r["requests"] == kind] for kind in (False, True))
    page = render("lifetime.md", decode=decode, requests=requests)
    write_text(settings.page, page)


if __name__ == "__main__":
    study.start(main, Settings, NAME)
