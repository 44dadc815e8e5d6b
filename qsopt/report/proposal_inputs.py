"""A question for proposals as a record that can be asked again, and the service that it names."""

from typing import Any

from qsopt.catalog.accelerators import at_price, load_cluster
from qsopt.catalog.models import load_model
from qsopt.errors import InputError
from qsopt.fitted.expected import efficiency_for
from qsopt.proposals.answers import ProposalQuestion
from qsopt.proposals.requests import as_requests
from qsopt.report.inquiry import Inquiry
from qsopt.spec.model import Model
from qsopt.spec.rules import LayoutRules
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload, time_limit

SERVED = (
    "cluster",
    "context",
    "prompt",
    "answer",
    "cached",
    "ttft_ms",
    "tpot_ms",
    "load",
    "efficiency",
    "assume",
    "utilization",
    "stack",
    "dcp",
    "expert_slots",
    "whole_domains",
    "price",
)
"""Inputs that decide what a design is served on and for."""


def service_of(inputs: dict[str, Any]) -> Service:
    """The service of recorded inputs, with a workload of requests.

    Raises:
        InputError: if the cluster was no name, or anything is unknown.
    """
    missing = [name for name in SERVED if name not in inputs]
    if missing or inputs["cluster"] is None:
        raise InputError(
            "the record does not name what designs are served on, so nothing can be evaluated "
            "again: ask with names, not with records"
        )
    cluster = at_price(load_cluster(inputs["cluster"]), inputs["price"])
    efficiency = efficiency_for(inputs["efficiency"], cluster.accelerator, inputs["assume"] or "")
    rules = LayoutRules(
        inputs["dcp"], inputs["expert_slots"], inputs["stack"], inputs["whole_domains"]
    )
    return Service(cluster, as_requests(_workload(inputs)), efficiency, rules)


def _workload(inputs: dict[str, Any]) -> Workload:
    about = {name: inputs[name] for name in ("context", "prompt", "answer")}
    return Workload(
        **about,
        cached=inputs["cached"],
        load=inputs["load"],
        ttft_limit=time_limit("ttft_ms", inputs["ttft_ms"]),
        tpot_limit=time_limit("tpot_ms", inputs["tpot_ms"]),
        utilization=inputs["utilization"],
    )


def shown_model(question: ProposalQuestion) -> Model:
    """The reference; where no quality is a model's, a dense model for a record to hang its names
    on.
    """
    return load_model("qwen3-32b") if question.reference is None else question.reference


def inquiry_of(inputs: dict[str, Any], model: Model, name: str) -> Inquiry:
    """What is asked of a model by recorded inputs."""
    return Inquiry(
        model,
        service_of(inputs),
        model_name=name,
        efficiency_name=inputs["efficiency"],
        phrase=inputs["cluster"],
    )
