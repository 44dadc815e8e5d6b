"""A design as a plan of serving, and what it reaches exactly."""

import equinox as eqx
import jax
import numpy as np

from qsopt.deployments.batches import in_numpy
from qsopt.deployments.legality import with_places
from qsopt.physics.parameters import compiled_parameter_count
from qsopt.proposals.architecture import padded
from qsopt.proposals.configs import model_of
from qsopt.proposals.fields import Task
from qsopt.proposals.goals import with_routed
from qsopt.proposals.points import Point
from qsopt.proposals.sides import Companion
from qsopt.serving.candidates import ALTERNATING, Candidates
from qsopt.serving.metrics import compiled_request_metrics
from qsopt.serving.plan import Plan
from qsopt.serving.ranking import Option
from qsopt.serving.replica import Served
from qsopt.serving.trial import layout_at, tokens_of
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service


def way_of(design: Point | Companion, decode_alone: bool) -> str:
    """Of `serving.plan.WAYS`."""
    assert design.candidate is not None
    if decode_alone:
        return "decode"
    if design.reader is not None:
        return "disaggregated"
    return "alternating" if int(design.candidate.kind) == ALTERNATING else "mixed"


def plan_of(model: Model, design: Point | Companion, service: Service) -> Plan:
    """The plan of a design that has one."""
    one = design.candidate
    assert one is not None
    served = Served(model, service)
    decode = _placed(model, one, design.units, service)
    if design.reader is None:
        return in_numpy(Plan(decode, decode, tokens_of(served, one, decode)))
    reads = _placed(model, design.reader, 1.0, service)
    tokens = tokens_of(served, design.reader, reads)
    return in_numpy(Plan(decode, reads, tokens, design.reader.sharing))


def _placed(model: Model, one: Candidates, units: float, service: Service) -> Deployment:
    """The layout at a batch, with places for the model's experts."""
    layout = layout_at(one, np.float64(units))
    return with_places(model, layout, service.rules)


def reached(model: Model, plan: Plan, way: str, service: Service) -> Option:
    """What a plan reaches, by the function that evaluates single plans."""
    served = jax.tree.map(np.asarray, Served(with_routed(model), service))
    plan = jax.tree.map(np.asarray, plan)
    return Option(plan, in_numpy(compiled_request_metrics(served, plan, way)), way)


def option_of(design: Point | Companion, task: Task) -> Option:
    """A design's plan with what it reaches."""
    service = at_limit(task.service, design)
    model = model_of_design(design, task)
    way = way_of(design, task.decode_alone)
    return reached(model, plan_of(model, design, service), way, service)


def at_limit(service: Service, design: Point | Companion) -> Service:
    """The service with the limit on the time per token that a design was found for."""
    limit = design.limit if isinstance(design, Point) else float(service.workload.tpot_limit)
    return eqx.tree_at(lambda s: s.workload.tpot_limit, service, np.float64(limit))


def model_of_design(design: Point | Companion, task: Task) -> Model:
    """Its model, with groups of layers that may be empty."""
    if isinstance(design, Companion):
        return design.model
    return padded(model_of(design.row, task.body))


def parameters(model: Model) -> dict[str, float]:
    """Total and active parameters, all tables counted."""
    count = compiled_parameter_count(model)
    return {"total": float(count.total), "active": float(count.active)}
