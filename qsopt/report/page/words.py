"""The answer of a page in a sentence."""

import math
from typing import Any

from qsopt.record import name_of
from qsopt.report.inquiry import Inquiry
from qsopt.report.records.intervals import central_ratio
from qsopt.report.style import tokens_text

_FLIPS = {
    "answer": lambda value: f"with answers of {value:,.0f} tokens",
    "uncached": lambda value: f"with {1.0 - value:.0%} of the prompt cached",
    "cached": lambda value: f"with {value:.0%} of the prompt cached",
    "tpot_limit_s": lambda value: f"with a token due within {value * 1e3:.3g} ms",
    "q": lambda value: f"with a dense model of q = {value:.3g}",
}
"""What would turn a verdict, by the input that moves."""


def verdict_sentence(record: dict[str, Any], inquiry: Inquiry) -> str:
    """Who wins, by how much, with which interval, and what would turn it."""
    subject = f"{asked_words(record)} on {inquiry.cluster_name or 'this cluster'}"
    ratio = record["ratio_dense_over_moe"]
    moe, dense = inquiry.model_name or "the MoE", dense_words(record, inquiry)
    if ratio is None or not math.isfinite(ratio):
        return f"For {subject}: {record['verdict']}. {record['reason'] or ''}".strip()
    times, ends = ratio, central_ratio(record["intervals"])
    first, second = dense, moe
    if ratio < 1.0:
        times, first, second = 1.0 / ratio, moe, dense
        ends = None if ends is None else [1.0 / end for end in reversed(ends)]
    sure = "" if ends is None else f" (80 % interval: {ends[0]:.2f} to {ends[1]:.2f})"
    sentence = f"For {subject}, {first} reaches {times:.2f} times the throughput of {second}{sure}."
    return sentence + _turns(record) + _beyond(record, moe)


def _beyond(record: dict[str, Any], moe: str) -> str:
    """That the context is longer than what the MoE was made for."""
    if not record.get("beyond_trained_context"):
        return ""
    return f" {moe} was made for {tokens_text(record['trained_context'])} tokens of context."


def _turns(record: dict[str, Any]) -> str:
    flips = [flip for flip in record.get("flips") or [] if flip["to"].endswith("wins")]
    words = [_FLIPS[flip["input"]](flip["value"]) for flip in flips if flip["input"] in _FLIPS]
    if not flips and math.isfinite(record["break_even_q"] or math.nan):
        words = [_FLIPS["q"](record["break_even_q"])]
    return f" The verdict turns {', or '.join(words)}." if words else ""


def asked_words(record: dict[str, Any]) -> str:
    """The requests or the context."""
    if record["question"] == "request":
        asked = f"{tokens_text(record['prompt'])} of prompt and {tokens_text(record['answer'])} of"
        cached = f", {record['cached']:.0%} of the prompt cached" if record["cached"] else ""
        return f"requests of {asked} answer{cached}"
    return f"decode at {tokens_text(record['context'])} tokens of context"


def dense_words(record: dict[str, Any], inquiry: Inquiry) -> str:
    """The dense model, by its name or by what it is."""
    name = name_of(inquiry.named)
    if name is not None:
        return name
    size = record["dense_twin"]["parameters"]["total"] / 1e9
    return f"a dense model of the same quality, {size:,.1f} B parameters with q = {record['q']:.2f}"
