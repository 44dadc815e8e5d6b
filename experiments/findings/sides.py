"""One comparison by the flags of `qsopt compare`: both sides in their best way of serving, how sure
that is, and who wins; what all findings share.

A row of a finding can be asked again with `qsopt compare` and the flags that `command` gives.
"""

from dataclasses import dataclass, fields
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.framework.pieces import Row
from qsopt.cli.compare import Compare
from qsopt.comparison.compare import verdict
from qsopt.comparison.contenders import Contender, RequestDuel, request_duel
from qsopt.comparison.dense import SAME_BODY, dense_match
from qsopt.comparison.duel import best_of
from qsopt.comparison.twin import qs_numbers
from qsopt.report.inquiry import Inquiry
from qsopt.report.records.intervals import central_ratio, of_dense, ratio_intervals, speed_errors
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service

AS_THE_PAPER: dict[str, Any] = {
    "twin": "same-body",
    "law": "geometric",
    "law_raw": True,
    "dcp": "1",
    "expert_slots": "none",
    "packing": "loose",
    "assume": "merged_dispatch=0,shared_links=0",
}
"""The argument of arXiv 2603.08960: the MoE's own body, q = s^-1/2, plain layouts."""

DEFAULTS = {field.name: field.default for field in fields(Compare)}


@dataclass(frozen=True)
class Asked:
    """A question of `qsopt compare`, both models and what they are served on."""

    question: Compare
    model: Model
    service: Service
    inquiry: Inquiry
    dense: Model

    @property
    def q(self) -> float:
        """Size of the dense model over the active parameters."""
        return float(self.inquiry.believe().q)


def asked(flags: Row) -> Asked:
    """The question of some flags.

    Args:
        flags: of `qsopt compare`, with underscores for dashes.
    """
    question = Compare(**flags)
    model, service = question.load()
    inquiry = question.inquiry(model, service)
    dense = inquiry.named
    if dense is None:
        kind = inquiry.kind if model.encoder is None else SAME_BODY
        dense = dense_match(model, jnp.asarray(inquiry.believe().q), kind)
    return Asked(question, model, service, inquiry, dense)


def at_law(law: str) -> Row:
    """Flags that ask for the q of a law as it was published; none without a law, where q is the
    calibrated median.
    """
    return {"law": law, "law_raw": True} if law else {}


def limited(milliseconds: float) -> Row:
    """Flags of a limit on the time per output token, none for 0 [ms]."""
    return {"tpot_ms": milliseconds} if milliseconds else {}


def command(flags: Row) -> str:
    """The command line that asks the same."""
    words = [
        f"--{name.replace('_', '-')}" + ("" if value is True else f" {_word(value)}")
        for name, value in flags.items()
        if value != DEFAULTS.get(name)
    ]
    return " ".join(["qsopt compare", *words])


def _word(value: object) -> str:
    return (
        f"{value:g}" if isinstance(value, float) and value < 1e5 else str(value).removesuffix(".0")
    )


@dataclass(frozen=True)
class Reached:
    """What one side reaches at its best."""

    throughput: float
    """Of the cluster, 0 where nothing is feasible [tokens/s]."""
    deployment: Deployment | None = None
    """That writes the answers."""
    way: str = "decode"


def compared(**flags: Any) -> Row:
    """The ratio of dense over MoE with its 80 % interval, and both sides.

    Args:
        **flags: of `qsopt compare`, with underscores for dashes.
    """
    case = asked(flags)
    moe, dense = sides(case)
    return {
        **outcome(case, moe, dense),
        "s": float(qs_numbers(case.model, jnp.asarray(1.0)).s),
        "q": case.q,
        **_of("moe", moe),
        **_of("dense", dense),
        "command": command(flags),
    }


def outcome(case: Asked, moe: Reached, dense: Reached) -> Row:
    """The ratio of what both sides reach, its 80 % interval, and who wins."""
    ratio = dense.throughput / moe.throughput if moe.throughput and dense.throughput else None
    return {
        "ratio": ratio,
        **_interval(case, moe, dense, ratio),
        "verdict": verdict(moe.throughput, dense.throughput),
    }


def _of(name: str, side: Reached) -> Row:
    layout = side.deployment
    batch = None if layout is None else float(layout.batch)
    return {
        f"{name}_tokens_per_s": side.throughput,
        f"{name}_way": side.way,
        f"{name}_batch": batch,
    }


def _interval(case: Asked, moe: Reached, dense: Reached, ratio: float | None) -> Row:
    found = None
    if ratio is not None and moe.deployment is not None and dense.deployment is not None:
        pair = (
            (case.inquiry, moe.deployment),
            (of_dense(case.inquiry, case.dense), dense.deployment),
        )
        errors = speed_errors(*pair, requests=case.question.on_requests)
        found = ratio_intervals(ratio, errors)
    low, high = central_ratio(found) or (None, None)
    return {"low": low, "high": high}


def sides(case: Asked) -> tuple[Reached, Reached]:
    """Both sides at their best: on requests if the question has a prompt, else decode alone."""
    if case.question.on_requests:
        both = duel(case)
        return served(both.moe, case.service), served(both.dense, case.service)
    return decoding(case.model, case), decoding(case.dense, case)


def duel(case: Asked) -> RequestDuel:
    """Both sides with every way in which requests may be served."""
    return request_duel(case.model, case.dense, case.service, case.inquiry.kind)


def served(side: Contender, service: Service) -> Reached:
    """A side in its best way of serving requests."""
    found = side.side(service)
    if not float(found.throughput) or found.best is None:
        return Reached(0.0)
    return Reached(float(found.throughput), found.best.plan.decode, found.best.way)


def decoding(side: Model, case: Asked) -> Reached:
    """A side in its best deployment, decode alone."""
    best = best_of(side, case.model, case.service)
    found = float(best.throughput)
    return Reached(found, best.deployment if found else None)


def log_mean(values: list[float]) -> float:
    """Geometric mean."""
    return float(np.exp(np.mean(np.log(values))))
