"""Proposals as plain records: the keys of `qsopt propose --json`, and of what a folder holds."""

from dataclasses import replace
from typing import Any

import numpy as np

from qsopt.precision import in_float64
from qsopt.proposals.answers import Answer, Proposal
from qsopt.proposals.architecture import COLUMNS, as_row, trimmed
from qsopt.proposals.bodies import GROUPED, Body
from qsopt.proposals.changes import Change, Changes
from qsopt.proposals.configs import config_of, model_of
from qsopt.proposals.fronts import SPEED, Front, leaders
from qsopt.proposals.judgement import robust_names
from qsopt.proposals.marks import columns_of
from qsopt.proposals.opinions import DesignOpinion
from qsopt.proposals.plans import option_of
from qsopt.proposals.points import Point
from qsopt.proposals.priors import beyond, priors
from qsopt.proposals.responses import Response
from qsopt.proposals.sides import Companion
from qsopt.report.inquiry import Inquiry
from qsopt.report.records.design import model_record
from qsopt.report.records.serving import option_record, workload_record
from qsopt.serving.ranking import Option
from qsopt.spec.model import Model
from qsopt.spec.workload import NO_LIMIT

LAUNCH = ("stack", "command")
PHASES = ("prefill", "decode")
NOT_OF_DECODE = ("requests_per_s", "ttft_s", "end_to_end_s", "cost_per_million_input_tokens")
"""What decode alone says nothing about."""


@in_float64
def propose_record(answer: Answer, inquiry: Inquiry, inputs: dict[str, Any]) -> dict[str, Any]:
    """Everything that `qsopt propose` says.

    Args:
        answer: what was found.
        inquiry: what it is served on and for, by the names that were used.
        inputs: the question, as it can be asked again.
    """
    goal = answer.task.goal
    return {
        "inputs": inputs,
        "seed": answer.task.seed,
        "complete": answer.complete,
        "cluster": inquiry.cluster_name,
        "hardware_notes": inquiry.hardware_notes,
        "efficiency": inquiry.efficiency_name,
        "law": goal.law.name,
        "question": "decode" if answer.task.decode_alone else "request",
        **_asked(answer, inquiry),
        "goal": {
            "dense_equivalent_parameters": float(goal.size) if float(goal.budget) == 0 else None,
            "training_tokens": float(goal.tokens),
            "budget_flops": float(goal.budget) or None,
        },
        "reference": _side(answer.reference, answer, inquiry),
        "usual_deployment": _side(answer.usual, answer, inquiry),
        "dense_matches": [_side(each, answer, inquiry) for each in answer.dense],
        "proposals": [proposal_record(each, answer, inquiry) for each in answer.proposals],
        "robust": robust_names(answer),
        "pareto": {
            measure: [_front(each, answer) for each in fronts]
            for measure, fronts in answer.fronts.items()
        },
        "winner_along_front": [
            {
                "from_tokens_per_s_per_user": each.low,
                "to_tokens_per_s_per_user": each.high,
                "family": each.family,
            }
            for each in leaders(answer.fronts.get(SPEED, ()))
        ],
        "evaluations": answer.state.evaluations,
    }


def _asked(answer: Answer, inquiry: Inquiry) -> dict[str, Any]:
    workload = inquiry.service.workload
    if answer.task.decode_alone:
        limit = float(workload.tpot_limit)
        return {
            "context": float(workload.context),
            "tpot_limit_s": None if limit >= NO_LIMIT else limit,
        }
    return workload_record(workload)


def proposal_record(proposal: Proposal, answer: Answer, inquiry: Inquiry) -> dict[str, Any]:
    """One proposal."""
    point, body = proposal.point, answer.task.body
    model = model_of(point.row, body)
    own = replace(inquiry, model=model, model_name=proposal.name)
    served = evaluation_record(option_of(point, answer.task), own)
    return {
        "name": proposal.name,
        "family": point.family,
        "folder": None,
        "roles": list(proposal.roles),
        **_sizes(model),
        "architecture": architecture_record(point, body),
        **served,
        "quality": quality_record(point),
        "marks": list(proposal.marks),
        "probability_beats_reference": proposal.beats_reference,
        "probability_beats_dense": proposal.beats_dense,
        "per_law": {each.law: _opinion(each, answer) for each in proposal.opinions},
        "elasticities": {each.input: _finite(each.elasticity) for each in proposal.responses},
        "shadow_prices": [_price(each) for each in proposal.responses if each.unit is not None],
    }


def _sizes(model: Model) -> dict[str, Any]:
    return {"parameters": model_record(model)["parameters"]}


def architecture_record(point: Point, body: Body) -> dict[str, Any]:
    """The numbers of an architecture."""
    row, config = columns_of(point), config_of(point.row, body, 1)
    whole = {name: round(value) for name, value in row.items()}
    names = {"shared": "shared_experts", "leading": "leading_dense"}
    found = {names.get(name, name): value for name, value in whole.items() if name != "kv"}
    key = "kv_heads" if body.attention == GROUPED else "kv_rank"
    return {
        "class": config["architectures"][0],
        **found,
        "heads": config["num_attention_heads"],
        key: whole["kv"],
        "head_dim": body.head_dim,
        "vocabulary": body.vocabulary,
        "weights": body.precision,
    }


def quality_record(point: Point) -> dict[str, float]:
    """How the law judges it."""
    quality = point.quality
    return {
        "dense_equivalent_parameters": float(quality.dense_size),
        "margin": float(quality.margin),
        "training_tokens": float(quality.tokens),
        "training_flops": float(quality.training_flops),
    }


def evaluation_record(option: Option, inquiry: Inquiry) -> dict[str, Any]:
    """What a plan reaches, and how it is launched.

    Args:
        option: the plan with what it reaches.
        inquiry: the model that it serves, and on what.
    """
    found = option_record(option, inquiry)
    intervals = found.pop("intervals")
    deployment = {"way": found["way"], **{name: found.pop(name) for name in (*PHASES, *LAUNCH)}}
    if option.way == "decode":
        deployment.pop("prefill")
        deployment["command"] = None
        found = {name: None if name in NOT_OF_DECODE else each for name, each in found.items()}
        kept = (intervals or {}).items()
        intervals = {name: each for name, each in kept if name not in NOT_OF_DECODE} or None
    return {"deployment": deployment, "metrics": found, "intervals": intervals}


def _side(side: Companion | None, answer: Answer, inquiry: Inquiry) -> dict[str, Any] | None:
    """A model that stands beside."""
    if side is None:
        return None
    model = trimmed(side.model)
    named = inquiry.model_name if side is not answer.usual else answer.question.name
    own = replace(inquiry, model=model, model_name=named)
    served = {"deployment": None, "metrics": None, "intervals": None}
    if side.throughput > 0:
        served = evaluation_record(option_of(side, answer.task), own)
    return {"name": side.name, "feasible": side.throughput > 0, **_sizes(model), **served}


def _opinion(opinion: DesignOpinion, answer: Answer) -> dict[str, Any]:
    reference = answer.reference
    known = reference is not None and reference.throughput > 0
    ratio = opinion.throughput / reference.throughput if known else np.nan  # pyright: ignore[reportOptionalMemberAccess]
    return {
        "log_size_margin": _finite(opinion.margin),
        "width_at_equal_quality": _finite(opinion.width),
        "throughput_at_equal_quality": _finite(opinion.throughput),
        "ratio_to_reference": _finite(ratio),
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _price(response: Response) -> dict[str, Any]:
    price = response.price
    return {
        "input": response.input,
        "unit": response.unit,
        "tokens_per_s": None if price is None else _finite(price),
    }


def _front(front: Front, answer: Answer) -> dict[str, Any]:
    return {
        "family": front.family,
        "points": [point_record(point, answer) for point in front.points],
    }


def point_record(point: Point, answer: Answer) -> dict[str, Any]:
    """One point of a front."""
    row = columns_of(point)
    quality = point.quality
    return {
        "tokens_per_s_per_device": point.throughput / answer.task.devices,
        "tokens_per_s_per_user": 1.0 / point.tpot,
        "dense_equivalent_parameters": float(quality.dense_size),
        "training_flops": float(quality.training_flops),
        "total": float(quality.total),
        "active": float(quality.active),
        **{name: round(value) for name, value in row.items()},
    }


def _marks_of_change(change: Change) -> list[str]:
    """What a change leaves: released shapes, or what laws know of."""
    model = model_of(change.point.row, change.task.body)
    marks = beyond(model, priors(change.point.family))
    stored = [text for text in change.text if text.startswith("weights")]
    return [*marks, *(["no law prices number formats"] if stored else [])]


@in_float64
def changes_record(found: Changes, inquiry: Inquiry, inputs: dict[str, Any]) -> dict[str, Any]:
    """Everything that `qsopt propose --from` says.

    Args:
        found: the changes.
        inquiry: what the model is served on and for, by the names that were used.
        inputs: the question, as it can be asked again.
    """
    task, devices = found.task, found.task.devices
    option = option_of(found.reference, task)
    return {
        "inputs": inputs,
        "model": inquiry.model_name,
        "cluster": inquiry.cluster_name,
        "hardware_notes": inquiry.hardware_notes,
        "law": task.goal.law.name,
        "reference": {
            **_sizes(model_of(found.reference.row, task.body)),
            "architecture": architecture_record(found.reference, task.body),
            **evaluation_record(option, inquiry),
        },
        "changes": [
            {
                "changes": list(each.text),
                "predicted_gain": _finite(each.predicted),
                "gain": each.gain,
                "tokens_per_s_per_device": each.point.throughput / devices,
                **_sizes(model_of(each.point.row, each.task.body)),
                "architecture": architecture_record(each.point, each.task.body),
                "way": each.way,
                "marks": _marks_of_change(each),
            }
            for each in found.ranked
        ],
    }


def rows_from(record: dict[str, Any]) -> tuple[tuple[float, ...], ...]:
    """The architectures of a record's proposals, as rows."""
    names = {"shared": "shared_experts", "leading": "leading_dense"}
    found = []
    for proposal in record["proposals"]:
        sizes = proposal["architecture"]
        kv = sizes.get("kv_heads", sizes.get("kv_rank"))
        values = {name: sizes.get(names.get(name, name), kv) for name in COLUMNS}
        found.append(tuple(as_row(values).tolist()))
    return tuple(found)
