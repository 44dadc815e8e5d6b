"""How much of the paper's 4.5 times is left when a user is served?

`python -m experiments.findings.waterfall` starts from the argument of arXiv 2603.08960 as stated
(the MoE's own body at the geometric q, decode, roofline, all of the memory, bf16, 8 MI300X) and
takes one assumption at a time away, until whole requests are served under a limit. Beside it: what
the laws of quality say at both ends, what of q s < 1 is a theorem, from which context on dense
wins, and which clusters hold only the dense match of Switch-C.

The theorem: where both sides are bound by memory traffic, fill the memory M with weights and cache,
read all weights and have the same cache per token, a step takes the same time on both, so that

    dense over MoE = (M - q s W)/(M - W),

with W the weights of the MoE: above 1 exactly where q s < 1, and without bound as W comes near M.
"""

from dataclasses import dataclass
from typing import Any

import qsopt
from experiments.findings import sides
from experiments.findings.sides import AS_THE_PAPER, compared
from experiments.findings.waterfall_figure import draw
from experiments.framework import study
from experiments.framework.pieces import Row
from experiments.framework.study import joined
from qsopt.catalog.models import trained_context
from qsopt.physics.memory import memory
from qsopt.spec.deployment import Deployment

NAME = "waterfall"

STATED: Row = {"model": "deepseek-v3", "context": 131072.0, **AS_THE_PAPER}
PAPER: Row = {
    **STATED,
    "cluster": "8xmi300x",
    "weight_dtype": "bf16",
    "efficiency": "ideal",
    "utilization": 1.0,
}
PLAIN: Row = {"assume": "", "expert_slots": "any", "packing": "whole"}
REQUESTS: Row = {"context": None, "prompt": 130560.0, "answer": 1024.0}
"""Of the same mean context."""

STEPS: tuple[tuple[str, Row], ...] = (
    ("as stated: same body, decode, roofline, bf16, all memory", {}),
    ("a tenth of the memory kept free", {"utilization": 0.9}),
    ("fp8 weights, as published", {"weight_dtype": None}),
    ("what kernels and servers reach", {"efficiency": "fitted"}),
    ("ranks share caches", {"dcp": "any"}),
    ("merged dispatch, mesh links, spare experts", PLAIN),
    ("q = 5.75 as matches say, not 4.23", {"law": "power", "law_raw": False}),
    ("shape of released dense models", {"twin": "released"}),
    ("a token within 50 ms", {"tpot_ms": 50.0}),
    ("prompts are read: 127.5k in, 1k out", REQUESTS),
)  # fmt: skip
"""One assumption after the other, as flags that change."""

BRANCHES: tuple[tuple[str, Row], ...] = (
    ("nine tenths of each prompt cached", {"cached": 0.9}),
    ("the same, in the MoE's own body", {"cached": 0.9, "twin": "same-body"}),
    ("released shape with 8 KV heads", {"twin_attention": "gqa8"}),
    ("in the MoE's own body", {"twin": "same-body"}),
)
"""Of the last step."""

LAWS = ("power", "geometric", "ludziejewski", "tian")


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Where the argument is followed."""

    clusters: tuple[str, ...]
    """On which the theorem is tried."""
    models: tuple[str, ...]
    """Of which the context is sought from which on dense wins."""
    wide: str
    """Cluster for that."""
    accelerators: tuple[str, ...]
    """Of which the smallest clusters are sought for Switch-C."""


def steps() -> list[Row]:
    """The ratio after every step, then the branches of the last."""
    rows, flags = [], dict(PAPER)
    for words, change in STEPS:
        flags |= change
        rows.append({"step": words, "branch": False, **compared(**_given(flags))})
    return rows + [
        {"step": words, "branch": True, **compared(**_given(flags | change))}
        for words, change in BRANCHES
    ]


def _given(flags: Row) -> Row:
    return {name: value for name, value in flags.items() if value is not None}


def by_law(law: str) -> list[Row]:
    """Both ends of the way at the q of a law, uncorrected."""
    last = dict(PAPER)
    for _, change in STEPS:
        last |= change
    asked = {"law": law, "law_raw": True}
    ends = {"stated": PAPER | asked, "served": last | asked}
    return [{"law": law, "end": name, **compared(**_given(flags))} for name, flags in ends.items()]


def theorem(cluster: str, weight_dtype: str | None) -> list[Row]:
    """What the closed form says beside both models, all memory filled."""
    flags = {**STATED, "cluster": cluster, "utilization": 1.0, "dcp": "any"}
    flags |= {} if weight_dtype is None else {"weight_dtype": weight_dtype}
    case = sides.asked({**flags, "efficiency": "ideal"})
    weights = [
        float(memory(model, case.service, Deployment()).weights)
        for model in (case.model, case.dense)
    ]
    room = float(case.service.cluster.devices * case.service.cluster.accelerator.memory_bytes)
    free = [room - each for each in weights]
    return [
        {
            "cluster": cluster,
            "format": weight_dtype or "as published",
            "weights_over_memory": weights[0] / room,
            "closed_form": free[1] / free[0] if free[0] > 0 else None,
            "qs": weights[1] / weights[0],
            "ideal": compared(**flags, efficiency="ideal")["ratio"],
            "kernels": compared(**flags, efficiency="kernels")["ratio"],
        }
    ]


def dense_wins_from(model: str, cluster: str) -> list[Row]:
    """The context from which on dense wins, decode alone, by the paper's argument and by today's
    comparison.
    """
    rows = []
    for words, how in (
        ("as stated", {**AS_THE_PAPER, "efficiency": "ideal"}),
        ("same body", {"twin": "same-body"}),
        ("released shape", {"twin": "released"}),
    ):
        case = sides.asked({"model": model, "cluster": cluster, "context": 8192.0, **how})
        rows.append(_from(words, case))
    return rows


def _from(words: str, case: sides.Asked) -> Row:
    trained = trained_context(case.question.model)
    top = 1048576.0 if trained is None else float(trained)
    found = qsopt.crossovers(
        case.model, over="context", low=1024.0, high=top, service=case.service, q=case.q,
        twin=case.question.twin,
    )  # fmt: skip
    last = found.crossings[-1] if found.crossings else None
    return {
        "model": case.question.model,
        "cluster": case.question.cluster,
        "how": words,
        "trained": top,
        "from": last.value if last is not None and last.direction == "to dense" else None,
        "at_low": found.at_low.ratio,
        "at_trained": found.at_high.ratio,
        "crossings": len(found.crossings),
    }


COUNTS = (1, 2, 4, 8, 12, 16, 18, 20, 24, 28, 32, 36, 40, 44, 48, 56, 64)
"""Devices that are tried."""


def switch(accelerator: str) -> list[Row]:
    """The smallest clusters that hold Switch-C and its dense match, in bf16, and who wins there and
    on twice as many devices.
    """
    flags = {"model": "switch-c", "context": 512.0, "weight_dtype": "bf16", "twin": "same-body"}

    def at(devices: int) -> Row:
        return compared(**flags, cluster=f"{devices}x{accelerator}")

    dense = _first(lambda devices: at(devices)["dense_tokens_per_s"] > 0.0)
    moe = _first(lambda devices: at(devices)["moe_tokens_per_s"] > 0.0)
    ratios = [
        None if moe is None else at(devices)["ratio"] for devices in (moe or 1, 2 * (moe or 1))
    ]
    return [
        {
            "accelerator": accelerator,
            "dense_from": dense,
            "moe_from": moe,
            "ratio": ratios[0],
            "ratio_at_twice": ratios[1],
        }
    ]


def _first(fits: Any) -> int | None:
    """The first of `COUNTS` that holds a side, by bisection."""
    low, high = 0, len(COUNTS)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(COUNTS[middle]) else (middle + 1, high)
    return COUNTS[low] if low < len(COUNTS) else None


def main(settings: Settings) -> None:
    with study.Study(NAME, settings) as this:
        (rows,) = this.pieces([{}], steps, (sides,))
        laws = this.pieces([{"law": law} for law in LAWS], by_law, (sides,))
        formats = [
            {"cluster": c, "weight_dtype": f} for c in settings.clusters for f in ("bf16", None)
        ]
        closed = this.pieces(formats, theorem, (sides,))
        wide = [{"model": model, "cluster": settings.wide} for model in settings.models]
        contexts = this.pieces(wide, dense_wins_from, (sides,))
        smallest = this.pieces(
            [{"accelerator": a} for a in settings.accelerators], switch, (sides,)
        )
        more = {"laws": laws, "theorem": closed, "contexts": contexts, "switch": smallest}
        this.write(rows, draw, **{name: joined(pieces) for name, pieces in more.items()})


if __name__ == "__main__":
    study.start(main, Settings, NAME)
