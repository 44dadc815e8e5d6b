"""A comparison as a plain record."""

import dataclasses
from typing import Any

import equinox as eqx
import numpy as np

from qsopt.arrays import scalar
from qsopt.comparison.compare import Comparison, Side, settle, verdict
from qsopt.comparison.dense import MatchKind, kinds_of
from qsopt.comparison.duel import Duel, throughput_of
from qsopt.comparison.odds import odds_of_each
from qsopt.comparison.opinions import opinions
from qsopt.comparison.penalties import Penalties
from qsopt.comparison.slopes import comparison_slopes
from qsopt.fitted.spread import Quantiles
from qsopt.precision import in_float64
from qsopt.quality.belief import Belief
from qsopt.report.inquiry import Inquiry
from qsopt.report.records.design import asked_record, design_record, model_record
from qsopt.report.records.intervals import (
    Intervals,
    design_intervals,
    expected_error,
    of_dense,
    ratio_intervals,
    speed_errors,
)
from qsopt.report.records.quality import belief_record, opinion_records
from qsopt.spec.model import Model

UTILIZATIONS = (0.85, 0.9, 0.95)
"""Shares of the memory at which a comparison is made again, as answers near the limit are
fragile.
"""


@in_float64
def compare_record(
    result: Comparison, inquiry: Inquiry, duel: Duel, seed: int = 0
) -> dict[str, Any]:
    """Everything that `qsopt compare` says.

    Args:
        result: the comparison.
        inquiry: what was asked.
        duel: the duel behind it.
        seed: of the draws behind the probability that dense wins.
    """
    held = inquiry.believe()
    of_law, at_q = _probabilities(result, inquiry, duel, held, seed)
    return {
        **asked_record(inquiry),
        "question": "decode",
        **comparison_record(result, inquiry),
        "twin": twin_record(result.dense.model, inquiry.kind),
        **matches_record(result, inquiry, duel),
        "slopes": dataclasses.asdict(
            comparison_slopes(result, duel, inquiry.service, inquiry.named)
        ),
        **belief_record(held, inquiry.law_name),
        "expected_error": {
            name: expected_error(asked, side.deployment) if bool(side.feasible) else None
            for name, asked, side in _sides(result, inquiry)
        },
        "probability_dense_wins": of_law,
        "probability_dense_wins_at_q": at_q,
        "laws": _laws(inquiry, duel),
        "by_utilization": [_at_utilization(inquiry, result, share) for share in UTILIZATIONS],
    }


def _probabilities(
    result: Comparison, inquiry: Inquiry, duel: Duel, held: Belief, seed: int
) -> tuple[float | None, float]:
    """Probability that dense wins under the model's own error, over what is believed of q, if it is
    no given number, and at its centre.
    """
    expected = inquiry.expectation()
    spreads = None if expected is None else expected.spreads()
    qs = [held.q] if held.distribution is None else [held.q, held.distribution]
    errors = _speed_errors(result, inquiry)
    ratio_errors = None if errors is None else errors[1]
    each = odds_of_each(
        inquiry.model, inquiry.service, duel, qs, seed, spreads=spreads, ratio_errors=ratio_errors
    )
    at_q, *of_law = (float(draws.dense_wins) for draws in each)
    return (of_law[0] if of_law else None), at_q


def _laws(inquiry: Inquiry, duel: Duel) -> list[dict[str, Any]]:
    """All laws if asked for, else the one in use is all there is to say."""
    if not inquiry.all_laws:
        return []
    rows = opinions(inquiry.model, inquiry.training_tokens, inquiry.service, duel)
    return opinion_records(rows)


def _at_utilization(inquiry: Inquiry, result: Comparison, share: float) -> dict[str, Any]:
    """Answers near the memory limit are fragile, so say how they move with it."""
    service = eqx.tree_at(lambda s: s.workload.utilization, inquiry.service, np.asarray(share))
    moe, dense = (
        throughput_of(side.model, inquiry.model, service) for side in (result.moe, result.dense)
    )
    ratio = dense / moe if moe and dense else None
    return {"utilization": share, "ratio_dense_over_moe": ratio, "verdict": verdict(moe, dense)}


def twin_record(dense: Model | None, kind: MatchKind) -> dict[str, Any]:
    """A dense match by its kind, and by its shape where there is one."""
    record: dict[str, Any] = {"kind": kind.twin, "attention": kind.attention}
    if dense is None:
        return record
    return {
        **record,
        "hidden": int(dense.hidden),
        "layers": int(dense.layers),
        "ffn_width": float(dense.decoder.ffn[0].kind.width),
        "parameters": model_record(dense)["parameters"]["total"],
    }


def matches_record(result: Comparison, inquiry: Inquiry, duel: Duel) -> dict[str, Any]:
    """Every dense match, each in its own best deployment, and whether they agree."""
    rows = []
    kinds = kinds_of(inquiry.model)
    others = kinds if inquiry.named is None else (*kinds, inquiry.kind)
    q = float(result.numbers.q) if inquiry.named is None else _q_of_law(inquiry)
    for kind in others:
        answer = result
        if kind != inquiry.kind:
            answer, _ = settle(inquiry.model, inquiry.service, scalar(q), kind, moe=duel.moe)
        rows.append(_match_row(answer, kind, inquiry))
    return {"matches": rows, "verdict_overall": overall([row["verdict"] for row in rows])}


def _q_of_law(inquiry: Inquiry) -> float:
    """q of the matches that are made, beside a named one."""
    return dataclasses.replace(inquiry, named=None).believe().q


def _match_row(answer: Comparison, kind: MatchKind, inquiry: Inquiry) -> dict[str, Any]:
    return {
        "twin": twin_record(answer.dense.model, kind),
        "q": float(answer.numbers.q),
        "dense": _side_record(answer.dense, of_dense(inquiry, answer.dense.model)),
        "ratio_dense_over_moe": float(answer.ratio),
        "intervals": _ratio_intervals(answer, inquiry),
        "verdict": answer.verdict,
        "break_even_q": float(answer.break_even_q),
    }


def overall(verdicts: list[str]) -> str:
    """The verdict over all dense matches: unconditional only where they agree."""
    if len(set(verdicts)) > 1:
        return "depends on the dense shape"
    words = {
        "dense wins": "dense wins whatever its shape",
        "moe wins": "moe wins whatever the dense shape",
    }
    return words.get(verdicts[0], verdicts[0])


def comparison_record(result: Comparison, inquiry: Inquiry) -> dict[str, Any]:
    """Everything that a comparison at one q says."""
    sides = {"moe": result.moe, "dense": result.dense}
    return {
        **{name: _side_record(side, asked) for name, asked, side in _sides(result, inquiry)},
        "reason": "; ".join(
            f"{name}: {_reason(side)}" for name, side in sides.items() if not bool(side.feasible)
        )
        or None,
        "s": float(result.numbers.s),
        "q": float(result.numbers.q),
        "qs": float(result.numbers.qs),
        "ratio_dense_over_moe": float(result.ratio),
        "intervals": _ratio_intervals(result, inquiry),
        "verdict": result.verdict,
        "break_even_q": float(result.break_even_q),
        "penalties": penalties_record(result.penalties),
        "dense_twin": {
            "ffn_width": float(result.dense.model.decoder.ffn[0].kind.width),
            **model_record(result.dense.model),
        },
        "efficiency": inquiry.efficiency_name,
    }


def penalties_record(penalties: Penalties) -> dict[str, float]:
    """Factors of a ratio by cause."""
    return {name: float(getattr(penalties, name)) for name in penalties.__dataclass_fields__}


def _side_record(side: Side, inquiry: Inquiry) -> dict[str, Any] | None:
    if not bool(side.feasible):
        return None
    name, service = inquiry.efficiency_name, inquiry.service
    record = design_record(side.model, service, side.deployment, side.metrics, name)
    return {**record, "intervals": design_intervals(inquiry, side.deployment, record)}


def _sides(result: Comparison, inquiry: Inquiry) -> list[tuple[str, Inquiry, Side]]:
    """Both sides, each with the question about its own model."""
    dense = of_dense(inquiry, result.dense.model)
    return [("moe", inquiry, result.moe), ("dense", dense, result.dense)]


def _speed_errors(result: Comparison, inquiry: Inquiry) -> tuple[Quantiles, Quantiles] | None:
    """How far the MoE's throughput and the ratio are off; None without evidence or a ratio."""
    if not (bool(result.moe.feasible) and bool(result.dense.feasible)):
        return None
    moe, dense = ((asked, side.deployment) for _, asked, side in _sides(result, inquiry))
    return speed_errors(moe, dense, requests=False)


def _ratio_intervals(result: Comparison, inquiry: Inquiry) -> Intervals | None:
    return ratio_intervals(float(result.ratio), _speed_errors(result, inquiry))


def _reason(side: Side) -> str:
    """Why no deployment of a side keeps the limits, told by the one that comes closest."""
    held = side.metrics.memory
    if not bool(side.metrics.fits_memory):
        return (
            f"no deployment fits: the closest needs {float(held.total) / 1e9:.1f} GB of each "
            f"device for one batch unit, "
            f"and {float(held.capacity) / 1e9:.1f} GB may be used"
        )
    return (
        f"no deployment meets the TPOT limit: the fastest takes "
        f"{float(side.metrics.tpot) * 1e3:.3g} ms"
    )
