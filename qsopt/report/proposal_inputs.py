"""A question for proposals as a record that can be asked again, and the service that it names."""

from typing import Any

import equinox as eqx

from qsopt.arrays import scalar
from qsopt.catalog.accelerators import accelerator_name, load_cluster
from qsopt.catalog.efficiencies import assuming
from qsopt.errors import InputError
from qsopt.fitted.expected import SOFTWARE, named_efficiency
from qsopt.proposals.requests import as_requests
from qsopt.report.inquiry import Inquiry
from qsopt.spec.model import Model
from qsopt.spec.rules import LayoutRules
from qsopt.spec.service import Service
from qsopt.spec.workload import NO_LIMIT, Workload
from qsopt.units import MILLISECOND

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
    cluster = load_cluster(inputs["cluster"])
    if inputs["price"] is not None:
        price = scalar(inputs["price"])
        cluster = eqx.tree_at(lambda c: c.accelerator.price_per_hour, cluster, price)
    name = inputs["efficiency"]
    chip = accelerator_name(cluster.accelerator) if name in SOFTWARE else None
    efficiency = assuming(named_efficiency(name, chip), inputs["assume"] or "")
    rules = LayoutRules(
        inputs["dcp"], inputs["expert_slots"], inputs["stack"], inputs["whole_domains"]
    )
    return Service(cluster, as_requests(_workload(inputs)), efficiency, rules)


def _workload(inputs: dict[str, Any]) -> Workload:
    def limit(name: str) -> float:
        return NO_LIMIT if inputs[name] is None else inputs[name] * MILLISECOND

    about = {name: inputs[name] for name in ("context", "prompt", "answer")}
    return Workload(
        **about,
        cached=inputs["cached"],
        load=inputs["load"],
        ttft_limit=limit("ttft_ms"),
        tpot_limit=limit("tpot_ms"),
        utilization=inputs["utilization"],
    )


def inquiry_of(inputs: dict[str, Any], model: Model, name: str) -> Inquiry:
    """What is asked of a model by recorded inputs."""
    return Inquiry(
        model,
        service_of(inputs),
        model_name=name,
        efficiency_name=inputs["efficiency"],
        phrase=inputs["cluster"],
    )
