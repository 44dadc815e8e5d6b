"""What three ways to have a model cost, as a plain record."""

import math
from typing import Any

from qsopt.comparison.twin import qs_numbers
from qsopt.lifetimes.break_even import BreakEven
from qsopt.lifetimes.draws import SpeedErrors
from qsopt.lifetimes.lifetime import KnownErrors, LawOpinion, Lifetime, LifetimeQuestion, MovedInput
from qsopt.lifetimes.plans import WORDS, LifetimePlan
from qsopt.lifetimes.running import Running
from qsopt.lifetimes.training import STUDENT_SHARE
from qsopt.physics.cost import MILLION
from qsopt.precision import in_float64
from qsopt.report.inquiry import Inquiry
from qsopt.report.records.comparison import twin_record
from qsopt.report.records.design import deployment_record, model_record
from qsopt.report.records.intervals import of_dense, speed_errors
from qsopt.report.records.quality import belief_record
from qsopt.report.records.serving import workload_record
from qsopt.spec.model import Model
from qsopt.units import JOULES_PER_KWH


def known_errors(inquiry: Inquiry) -> KnownErrors:
    """How far the speeds of an MoE and of its match are off."""

    def errors(match: Model, moe: Running, dense: Running) -> SpeedErrors | None:
        if moe.deployment is None or dense.deployment is None:
            return None
        sides = (inquiry, moe.deployment), (of_dense(inquiry, match), dense.deployment)
        found = speed_errors(*sides, inquiry.service.workload.prompt is not None)
        return None if found is None else SpeedErrors(*found)

    return errors


@in_float64
def lifetime_record(result: Lifetime, inquiry: Inquiry, asked: LifetimeQuestion) -> dict[str, Any]:
    """Everything that `qsopt lifetime` says.

    Args:
        result: the three ways.
        inquiry: what was asked, by name.
        asked: the question.
    """
    workload, numbers = inquiry.service.workload, qs_numbers(inquiry.model, result.q)
    requests = workload.prompt is not None
    context = {"context": float(workload.context)}
    return {
        "model": inquiry.model_name,
        "cluster": inquiry.cluster_name,
        "hardware_notes": inquiry.hardware_notes,
        "question": "request" if requests else "decode",
        **(workload_record(workload) if requests else context),
        "efficiency": inquiry.efficiency_name,
        "training_tokens": asked.tokens,
        "student_share": result.share,
        "student_share_range": list(_share_range(asked)),
        "mfu": float(asked.trainer.mfu),
        "training_sequence": float(asked.trainer.sequence),
        "s": float(numbers.s),
        "q": result.q,
        **belief_record(inquiry.believe(), inquiry.law_name),
        "twin": twin_record(result.match, inquiry.kind),
        "dense_twin": model_record(result.match),
        "options": [_option(plan, inquiry, result.match) for plan in result.plans.values()],
        "break_even_output_tokens": [_break_even(each) for each in result.break_evens],
        "break_even_by_energy": [_break_even(each, drawn=False) for each in result.energy],
        "changes": [_change(each) for each in result.changes],
        "laws": [_law(each) for each in result.laws],
    }


def _share_range(asked: LifetimeQuestion) -> tuple[float, float]:
    known = asked.student_share
    return (STUDENT_SHARE[0], STUDENT_SHARE[2]) if known is None else (known, known)


def _option(plan: LifetimePlan, inquiry: Inquiry, match: Model) -> dict[str, Any]:
    running = plan.running
    model = inquiry.model if plan.name == "moe" else match
    layout = running.deployment
    return {
        "name": plan.name,
        "in_words": WORDS[plan.name],
        "training_flops": plan.training_flops,
        "training_cost": plan.fixed,
        "distillation_flops": plan.distillation_flops,
        "distillation_cost": plan.distillation,
        "training_kwh": plan.fixed_joules / JOULES_PER_KWH,
        "throughput_tokens_per_s": running.throughput,
        "cost_per_million_output_tokens": running.dollars * MILLION,
        "joules_per_output_token": running.joules,
        "deployment": None
        if layout is None
        else deployment_record(model, inquiry.service, layout, running.replicas),
    }


def _break_even(found: BreakEven, drawn: bool = True) -> dict[str, Any]:
    tokens = {"from": found.first, "to": found.later, "tokens": _finite(found.tokens)}
    if not drawn:
        return tokens
    return {
        **tokens,
        "low": _finite(found.low),
        "high": _finite(found.high),
        "probability_never": found.never,
    }


def _change(change: MovedInput) -> dict[str, Any]:
    return {
        "input": change.input,
        "value": change.value,
        "from": change.first,
        "to": "dense" if change.first == "moe" else "moe",
        "tokens": _finite(change.tokens),
    }


def _finite(tokens: float) -> float | None:
    """None where the order never changes."""
    return tokens if math.isfinite(tokens) else None


def _law(each: LawOpinion) -> dict[str, Any]:
    tokens = {"dense": _finite(each.dense), "distilled": _finite(each.distilled)}
    return {"law": each.law, "q": each.q, "break_even_output_tokens": tokens}
