"""Is it cheaper to train DeepSeek-V3 or its dense match, or to distil one to the other?

`python -m experiments.pages.lifetime_page` writes docs/lifetime.md.
"""

from pathlib import Path
from typing import Any

from qsopt.cli import runtime
from qsopt.files import write_text

runtime.configure(quick=False)

import qsopt  # noqa: E402
from experiments.pages.template import render  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "lifetime.md"
MODEL = "deepseek-v3"

DECODE = {
    "16 H200, 128k decode": ("16xh200", qsopt.Workload(131072.0)),
    "64 H200, 128k decode": ("64xh200", qsopt.Workload(131072.0)),
    "16 H200, 8k decode": ("16xh200", qsopt.Workload(8192.0)),
}
REQUESTS = {
    "16 H200, 128k/1k": ("16xh200", qsopt.Workload(prompt=131072.0, answer=1024.0)),
    "16 H200, 128k/1k, 90 % cached": (
        "16xh200",
        qsopt.Workload(prompt=131072.0, answer=1024.0, cached=0.9),
    ),
    "16 H200, 8k/1k": ("16xh200", qsopt.Workload(prompt=8192.0, answer=1024.0)),
    "16 H200, 8k/1k, 30 ms a token": (
        "16xh200",
        qsopt.Workload(prompt=8192.0, answer=1024.0, tpot_limit=0.03),
    ),
}
GEOMETRIC = {"twin": "same-body", "law": "geometric", "law_raw": True}
BARE: dict[str, dict[str, Any]] = {
    "same body, geometric q, bare kernels": {**GEOMETRIC, "efficiency": "kernels"}
}
MATCHES: dict[str, dict[str, Any]] = {
    "same body, geometric q": GEOMETRIC,
    "same body": {"twin": "same-body"},
    "released shape": {},
    "released shape, 8 KV heads": {"twin_attention": "gqa8"},
}


def rows(
    questions: dict[str, tuple[str, qsopt.Workload]], matches: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """Answers by question and dense match."""
    found = []
    for words, (cluster, workload) in questions.items():
        for match, how in matches.items():
            record = qsopt.lifetime(MODEL, cluster, workload, **how).to_dict()
            found.append({"question": words, "match": match, **_row(record)})
            print(found[-1], flush=True)
    return found


def _row(record: dict[str, Any]) -> dict[str, Any]:
    by_name = {each["name"]: each for each in record["options"]}
    even = {(each["from"], each["to"]): each for each in record["break_even_output_tokens"]}
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
    }


if __name__ == "__main__":
    page = render(
        "lifetime.md", decode=rows(DECODE, BARE | MATCHES), requests=rows(REQUESTS, MATCHES)
    )
    write_text(PAGE, page)
