"""Sensitivities of one design as a plain record."""

from dataclasses import asdict
from typing import Any

from qsopt.physics.evaluate import compiled_metrics
from qsopt.precision import in_float64
from qsopt.report.inquiry import Inquiry
from qsopt.report.records.design import AS_GIVEN, asked_record, deployment_record
from qsopt.report.records.serving import evaluate_request_record, workload_record
from qsopt.serving.ranking import Option
from qsopt.slopes.first_order import Slopes
from qsopt.slopes.requests import RequestSensitivity
from qsopt.slopes.sensitivity import Sensitivity
from qsopt.spec.deployment import Deployment


@in_float64
def sensitivity_record(
    found: Sensitivity, inquiry: Inquiry, deployment: Deployment, chosen: str = AS_GIVEN
) -> dict[str, Any]:
    """Everything that `qsopt sensitivity` says: slopes at the design, and under `at_largest_batch`
    where the batch follows the limits.

    Args:
        found: the slopes.
        inquiry: what was asked.
        deployment: of the design.
        chosen: how the deployment came about.
    """
    reached = compiled_metrics(inquiry.model, inquiry.service, deployment)
    relaxed = found.relaxed
    return {
        **asked_record(inquiry),
        "efficiency": inquiry.efficiency_name,
        "feasible": bool(reached.feasible),
        "deployment": deployment_record(
            inquiry.model, inquiry.service, deployment, reached.replicas
        ),
        "chosen": chosen,
        **_slopes_record(found.fixed),
        "at_largest_batch": None
        if relaxed is None
        else {"binding": found.binding, **_slopes_record(relaxed)},
        "shadow_prices": [asdict(price) for price in found.shadow_prices],
    }


@in_float64
def request_sensitivity_record(
    found: RequestSensitivity, inquiry: Inquiry, option: Option, chosen: str = AS_GIVEN
) -> dict[str, Any]:
    """Everything that `qsopt sensitivity` says about requests.

    Args:
        found: the slopes.
        inquiry: what was asked.
        option: the plan, and what it reaches.
        chosen: how the plan came about.
    """
    relaxed, reached = found.relaxed, option.reached
    plan = evaluate_request_record(option, inquiry, chosen)
    kept = ("prefill", "decode", "deployment", "way", "ttft_s", "tpot_s", "violations")
    return {
        **asked_record(inquiry),
        "question": "request",
        **workload_record(inquiry.service.workload),
        "efficiency": inquiry.efficiency_name,
        "feasible": bool(reached.feasible),
        **{name: plan[name] for name in kept},
        "chosen": chosen,
        **_slopes_record(found.fixed),
        "ttft_elasticity": found.ttft_elasticity,
        "tpot_elasticity": found.tpot_elasticity,
        "at_largest_batch": None
        if relaxed is None
        else {"binding": found.binding, **_slopes_record(relaxed)},
        "shadow_prices": [asdict(price) for price in found.shadow_prices],
    }


def _slopes_record(slopes: Slopes) -> dict[str, Any]:
    return {
        "batch": slopes.batch,
        "throughput_tokens_per_s": slopes.throughput,
        "gradient": slopes.gradient,
        "elasticity": slopes.elasticity,
    }
