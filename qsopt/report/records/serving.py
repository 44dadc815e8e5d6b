"""Answers about requests as plain records."""

import dataclasses
from typing import Any

from qsopt.deployments.layouts import legal_layouts
from qsopt.deployments.request import closest
from qsopt.fitted.power import power_with
from qsopt.physics.evaluate import compiled_metrics
from qsopt.physics.memory import Memory
from qsopt.precision import in_float64
from qsopt.report.inquiry import Inquiry
from qsopt.report.records.design import (
    cost_of_tokens,
    deployment_record,
    evaluate_record,
    memory_record,
    model_record,
    power_record,
    violations,
)
from qsopt.report.records.intervals import request_intervals
from qsopt.report.records.launch import launch_record
from qsopt.serving.answer import Serving
from qsopt.serving.devices import Fewest
from qsopt.serving.metrics import RequestMetrics, request_energy
from qsopt.serving.ranking import Option
from qsopt.serving.speculation import drafted_by
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service
from qsopt.spec.workload import NO_LIMIT, Workload


def workload_record(workload: Workload) -> dict[str, Any]:
    """What is asked of the service, under the names of the command line."""
    return {
        "prompt": _tokens(workload.prompt),
        "answer": _tokens(workload.answer),
        "cached": float(workload.cached),
        "ttft_limit_s": _limit(workload.ttft_limit),
        "tpot_limit_s": _limit(workload.tpot_limit),
        "load": float(workload.load),
        "acceptance": float(workload.acceptance),
    }


def _tokens(value: Any) -> float:
    """Tokens of a prompt or an answer, which requests have."""
    return float(value)


def _limit(value: Any) -> float | None:
    return None if float(value) >= NO_LIMIT else float(value)


@in_float64
def serve_record(
    answer: Serving, inquiry: Inquiry, fewest: Fewest | None = None, draft: str | None = None
) -> dict[str, Any]:
    """Everything that `qsopt serve` says.

    Args:
        answer: the ranked plans and the front.
        inquiry: what was asked.
        fewest: the fewest devices that serve a load, where one was asked for.
        draft: name of the model that makes drafts, where one was given.
    """
    best, workload = answer.best, inquiry.service.workload
    drafts = float(workload.tokens_per_step) > 1.0
    return {
        "model": inquiry.model_name,
        "cluster": inquiry.cluster_name,
        "hardware_notes": inquiry.hardware_notes,
        **workload_record(workload),
        "tokens_per_step": float(workload.tokens_per_step),
        "drafted_by": (draft or drafted_by(inquiry.model)) if drafts else None,
        "efficiency": inquiry.efficiency_name,
        **model_record(inquiry.model),
        "feasible": answer.feasible,
        "violations": _violations(answer, inquiry.model, inquiry.service),
        "best": None if best is None else option_record(best, inquiry),
        "ranked": [option_record(option, inquiry) for option in answer.ranked],
        "pareto": [point_record(option, inquiry) for option in answer.front],
        "fewest_devices": None if fewest is None else fewest._asdict(),
    }


def option_record(option: Option, inquiry: Inquiry) -> dict[str, Any]:
    """One way of serving, and what it reaches."""
    reached, service = option.reached, inquiry.service
    values = {
        **_rates(option),
        **request_energy_record(inquiry, reached),
        "room_bytes_per_device": float(_fuller(reached).room),
    }
    return {
        **values,
        **cost_record(service, reached),
        **_phases(option, inquiry),
        **launch_record(option, inquiry),
        "memory_bytes_per_device": memory_record(_fuller(reached), service.cluster),
        "intervals": request_intervals(inquiry, option.plan.decode, values),
    }


def _rates(option: Option) -> dict[str, Any]:
    reached = option.reached
    return {
        "way": option.way,
        "throughput_tokens_per_s": float(reached.throughput),
        "tokens_per_s_per_device": float(reached.per_device),
        "tokens_per_s_per_user": float(reached.per_user),
        "requests_per_s": float(reached.requests),
        "ttft_s": float(reached.ttft),
        "tpot_s": float(reached.tpot),
        "end_to_end_s": float(reached.end_to_end),
    }


def decode_service(service: Service) -> Service:
    """The same with decode alone of its requests."""
    return Service(
        service.cluster, service.workload.decode_alone, service.efficiency, service.rules
    )


@in_float64
def evaluate_request_record(option: Option, inquiry: Inquiry, chosen: str) -> dict[str, Any]:
    """Everything that `qsopt evaluate` says about requests: that of the decode steps of the plan,
    with rates, times and limits of whole requests.

    Args:
        option: the plan.
        inquiry: what was asked.
        chosen: how the plan came about.
    """
    reached, layout = option.reached, option.plan.decode
    alone = dataclasses.replace(inquiry, service=decode_service(inquiry.service))
    step = compiled_metrics(inquiry.model, alone.service, layout)
    record = evaluate_record(step, alone, layout, chosen)
    costs = cost_record(inquiry.service, reached)
    values = {
        **_rates(option),
        **request_energy_record(inquiry, reached),
        "room_bytes_per_device": float(_fuller(reached).room),
    }
    return {
        **record,
        "question": "request",
        **workload_record(inquiry.service.workload),
        "feasible": bool(reached.feasible),
        "violations": request_violations(inquiry.service, reached),
        **costs,
        **values,
        "cost_usd_per_million_tokens": costs["cost_per_million_output_tokens"],
        "memory_bytes_per_device": memory_record(_fuller(reached), inquiry.service.cluster),
        **_phases(option, inquiry),
        "intervals": request_intervals(inquiry, layout, values),
        "decode_alone": {
            name: record[name]
            for name in ("throughput_tokens_per_s", "tokens_per_s_per_device", "tpot_s")
        },
    }


def point_record(option: Option, inquiry: Inquiry) -> dict[str, Any]:
    """One point of the front."""
    return {
        "tokens_per_s_per_device": float(option.reached.per_device),
        "tokens_per_s_per_user": float(option.reached.per_user),
        "ttft_s": float(option.reached.ttft),
        "tpot_s": float(option.reached.tpot),
        "way": option.way,
        **_phases(option, inquiry),
    }


def _fuller(reached: RequestMetrics) -> Memory:
    """Memory of the fuller of both pools."""
    parts = (reached.memory, reached.prefill_memory)
    return max(parts, key=lambda held: float(held.total))


def _phases(option: Option, inquiry: Inquiry) -> dict[str, Any]:
    """Layouts that read and that write; a prefill batch is the prompts that a forward has tokens
    of.
    """
    plan, reached, workload = option.plan, option.reached, inquiry.service.workload
    data = float(plan.prefill.data)
    share = float(plan.tokens) * float(plan.sharing) / data
    prompts = max(1.0, float(plan.tokens) / min(share, float(workload.read)))
    reads = _phase(inquiry, plan.prefill, float(reached.prefill_replicas), prompts)
    reads |= {
        "tokens_per_forward": float(plan.tokens),
        "ranks_per_prompt": int(float(plan.sharing)),
    }
    writes = _phase(inquiry, plan.decode, float(reached.decode_replicas), float(plan.decode.batch))
    return {"prefill": reads, "decode": writes}


def _phase(inquiry: Inquiry, layout: Deployment, replicas: float, batch: float) -> dict[str, Any]:
    record = deployment_record(inquiry.model, inquiry.service, layout, replicas)
    return {
        "deployment": record,
        "in_words": record["in_words"],
        "batch": round(batch),
        "devices": round(replicas * float(layout.replica_devices)),
    }


def cost_record(service: Service, reached: RequestMetrics) -> dict[str, float | None]:
    """Rental of the cluster per million output tokens, prompts included, and the same rental per
    million input tokens; None where no price is known [US dollar].
    """
    outputs, workload = cost_of_tokens(service.cluster, reached.throughput), service.workload
    per_request = _tokens(workload.answer) / max(_tokens(workload.prompt), 1.0)
    return {
        "cost_per_million_output_tokens": outputs,
        "cost_per_million_input_tokens": None if outputs is None else outputs * per_request,
    }


def request_energy_record(inquiry: Inquiry, reached: RequestMetrics) -> dict[str, Any]:
    """Power and energy of the devices, prompts included; shares of a server's own time where its
    constants are in the times.
    """
    found = power_with(inquiry.efficiency_name)
    return power_record(request_energy(inquiry.service.cluster, found.law, reached), found)


def _violations(answer: Serving, model: Model, service: Service) -> list[dict[str, Any]]:
    """Limits that the plan breaks which comes closest; memory where none is left."""
    if answer.feasible:
        return []
    if answer.closest is None:
        return _too_large(model, service)
    return request_violations(service, answer.closest.reached)


def _too_large(model: Model, service: Service) -> list[dict[str, Any]]:
    """Limits that the layout breaks which comes closest to holding one sequence to a rank."""
    decode = decode_service(service)
    best = closest(model, decode, legal_layouts(model, service.cluster, service.rules))
    reached = compiled_metrics(model, decode, best.deployment)
    return violations(decode, best.deployment, reached)


def request_violations(service: Service, reached: RequestMetrics) -> list[dict[str, Any]]:
    """Limits that a plan breaks, with its value and the limit."""
    held, workload = _fuller(reached), service.workload
    limits = (
        ("memory", reached.fits_memory, held.total, held.capacity, "byte per device"),
        ("ttft", reached.meets_ttft, reached.ttft, workload.ttft_limit, "s"),
        ("tpot", reached.meets_tpot, reached.tpot, workload.tpot_limit, "s"),
        ("devices", reached.fits_devices, reached.used_devices, service.cluster.devices, "device"),
    )
    return [
        {"constraint": name, "value": float(value), "limit": float(limit), "unit": unit}
        for name, kept, value, limit, unit in limits
        if not bool(kept)
    ]
