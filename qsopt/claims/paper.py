"""Every claim with its question: rows of numbers, and what they say of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from qsopt.claims.contexts import criterion, long_contexts
from qsopt.claims.found import RATIO, Found, Row, ratios
from qsopt.claims.views import (
    ARGUED,
    VIEWS,
    match_of,
    model_of,
    outcome,
    service_of,
    smallest_replica,
)
from qsopt.errors import unknown_name
from qsopt.physics.routing import experts_hit
from qsopt.precision import in_float64
from qsopt.spec.model import routed_layers

ClaimName = Literal["deepseek-128k", "switch-fit", "length", "reuse", "qs"]
"""What a claim is called."""

SOURCE = "V. Adhinarayanan and N. Jayasena, The qs Inequality, arXiv 2603.08960 (2026)"


class Picture(NamedTuple):
    """What a plot of the rows shows."""

    x: str
    y: str
    series: str
    title: str


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, and how it is asked here."""

    name: str
    statement: str
    """Of the paper."""
    question: str
    """What is computed."""
    find: Callable[[], Found]
    picture: Picture


# ---- DeepSeek-V3 at 128k -------------------------------------------------------------------------

CLAIMED = 4.5
"""Throughput of the dense match over that of DeepSeek-V3 at 128k."""

_CLUSTERS = (
    ("8xmi300x", "bf16"),
    ("24xh100", "bf16"),
    ("16xh200", None),
    ("64xh100", None),
    ("72xgb200", None),
)


def deepseek() -> Found:
    """On clusters that just hold the model, and on larger ones."""
    rows = [
        {**outcome(view, "deepseek-v3", cluster, 131_072.0, weights), "weights": weights or "own"}
        for view in VIEWS
        for cluster, weights in _CLUSTERS
    ]
    argued, counted = (ratios(rows, view.name) for view in VIEWS)
    above = sum(ratio >= CLAIMED for ratio in argued)
    words = (
        f"as argued the dense match is {min(argued):.2f} to {max(argued):.2f} times as fast on "
        f"{len(argued)} clusters, {above} of them at {CLAIMED:g} or more; as counted "
        f"{min(counted):.2f} to {max(counted):.2f} times"
    )
    held = "only at the edge of memory" if 0 < above < len(argued) else ""
    return Found(held or ("holds" if above else "not found"), words, rows)


# ---- Switch-C ------------------------------------------------------------------------------------

_HOLDING = ("a100-80gb", "h100", "h200", "b200")
_MOST = 128


def switch() -> Found:
    """The smallest clusters that hold either side, all in bf16."""
    rows = [_smallest(name, "switch-c") for name in _HOLDING]
    dense = [row["dense_devices"] for row in rows if row["dense_devices"]]
    moe = [row["moe_devices"] or _MOST for row in rows]
    held = bool(dense) and len(dense) == len(rows) and min(moe) > max(dense)
    words = (
        f"the dense match fits from {min(dense)} to {max(dense)} devices on, Switch-C from "
        f"{min(moe)} to {max(moe)} (bf16, as argued)"
        if dense
        else "the dense match fits nowhere"
    )
    return Found("holds" if held else "does not hold", words, rows)


def _smallest(accelerator: str, name: str) -> Row:
    model = model_of(name, "bf16")
    service = service_of(ARGUED, f"{_MOST}x{accelerator}", 512.0)
    q, match = match_of(ARGUED, model, name)
    sizes = {"moe": model, "dense": match}
    found = {
        f"{side}_devices": smallest_replica(each, model, service) for side, each in sizes.items()
    }
    return {"accelerator": accelerator, "q": q, **found}


# ---- reuse ---------------------------------------------------------------------------------------

_REUSING = ("mixtral-8x7b", "deepseek-v3", "qwen3-235b-a22b", "switch-c")


def reuse() -> Found:
    """Tokens that share a read of a feed-forward weight, along the tokens of a step."""
    rows = [_shared(name, float(tokens)) for name in _REUSING for tokens in 2.0 ** np.arange(0, 13)]
    at_256 = {row["model"]: row["of_dense"] for row in rows if row["tokens"] == 256.0}
    listed = ", ".join(f"{share:.0%} ({name})" for name, share in at_256.items())
    words = f"of what a dense layer reuses, experts reuse at 256 tokens: {listed}"
    held = all(share < 1.0 for share in at_256.values())
    return Found("holds" if held else "does not hold", words, rows)


def _shared(name: str, tokens: float) -> Row:
    layer = routed_layers(model_of(name), "reuse of experts is asked about")
    hit = float(experts_hit(np.float64(tokens), layer.experts, layer.top_k))
    reused = tokens * float(layer.top_k) / hit
    return {
        "model": name,
        "tokens": tokens,
        "experts_hit": hit,
        "tokens_per_read": reused,
        "of_dense": reused / tokens,
    }


CLAIMS = {
    claim.name: claim
    for claim in (
        Claim(
            "deepseek-128k",
            "at 128k tokens of context DeepSeek-V3 has 4.5 times less throughput than its "
            "quality-matched dense model",
            "decode at 131,072 tokens on five clusters, each side at its exact optimum",
            deepseek,
            Picture("cluster", RATIO, "view", "DeepSeek-V3 at 128k"),
        ),
        Claim(
            "switch-fit",
            "Switch-C does not fit where its quality-matched dense model does",
            "the smallest cluster that holds either side, at 512 tokens",
            switch,
            Picture("accelerator", "devices", "side", "Smallest clusters of Switch-C"),
        ),
        Claim(
            "length",
            "the dense advantage holds for DeepSeek-V3, Qwen3-235B and Grok-1 at long contexts",
            "decode along the context on 16 H200, each side at its exact optimum",
            long_contexts,
            Picture("context", RATIO, "model", "Dense over MoE along the context, 16 H200"),
        ),
        Claim(
            "reuse",
            "routing fragments a batch over experts, so a weight that is read serves fewer tokens",
            "tokens that share a read, T k / E(1 - (1 - k/E)^T), against T of a dense layer",
            reuse,
            Picture("tokens", "of_dense", "model", "Reuse of weights, of a dense layer's"),
        ),
        Claim(
            "qs",
            "an MoE is at a structural disadvantage where q s is below 1",
            "q s against who wins, five models on 16 H200 at three contexts",
            criterion,
            Picture("qs", RATIO, "view", "q s against the ratio, 16 H200"),
        ),
    )
}
"""All claims by name."""


@in_float64
def found(name: str) -> Found:
    """What comes of a claim.

    Raises:
        InputError: if there is no such claim.
    """
    if name not in CLAIMS:
        raise unknown_name("claim", name[:60], tuple(CLAIMS))
    return CLAIMS[name].find()
