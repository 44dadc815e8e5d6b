"""One design: what it reaches, how long a prompt takes, and how it answers to every input."""

from typing import overload

import jax
import numpy as np

from qsopt.api.names import (
    AnyCluster,
    AnyEfficiency,
    AnyModel,
    answered,
    as_cluster,
    as_design,
    as_model,
    as_service,
    inquire,
)
from qsopt.arrays import EXACT, Scalar, Softness, scalar
from qsopt.deployments import layouts
from qsopt.errors import InputError
from qsopt.physics import kv_cache, parameters
from qsopt.physics.evaluate import Metrics, compiled_metrics
from qsopt.physics.parameters import Parameters
from qsopt.physics.prefill import compiled_prefill
from qsopt.physics.roofline import Spent
from qsopt.precision import in_float64
from qsopt.report.records.design import evaluate_record
from qsopt.report.records.slopes import request_sensitivity_record, sensitivity_record
from qsopt.serving.answer import option
from qsopt.serving.plan import Plan
from qsopt.serving.replica import Served
from qsopt.serving.speculation import Draft
from qsopt.serving.ways import SEARCHED, asked
from qsopt.slopes import sensitivity as slopes
from qsopt.slopes.inputs import Design
from qsopt.slopes.requests import RequestSensitivity, request_design, request_sensitivity
from qsopt.slopes.sensitivity import Sensitivity
from qsopt.spec.counterfactual import ACTUAL, Counterfactual
from qsopt.spec.deployment import DISPATCHED, GATHERED, Deployment
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

_metrics, _prefill = in_float64(compiled_metrics), in_float64(compiled_prefill)
_sensitivity, _option = in_float64(slopes.sensitivity), in_float64(option)


def evaluate(
    model: AnyModel,
    cluster: AnyCluster | Service | None = None,
    workload: Workload | Deployment | None = None,
    deployment: Deployment | None = None,
    efficiency: AnyEfficiency = "fitted",
    world: Counterfactual = ACTUAL,
    softness: Softness = EXACT,
    *,
    service: Service | None = None,
) -> Metrics:
    """Metrics of one design: throughput, latency, memory, reuse, and the breakdown of a step.

    Args:
        model: what is served: a model, or the name of one.
        cluster: on what: a cluster, or a phrase such as `8xh100`.
        workload: context and limits.
        deployment: parallel sizes, batch and way.
        efficiency: a set, or the name of one (see `load_efficiency`).
        world: counterfactual without one of the penalties; things as they are by default.
        softness: 0 for the exact model, above 0 for the relaxed one.
        service: instead of cluster, workload and efficiency.

    Returns:
        `Metrics`. A design that breaks a limit still has numbers; `feasible` says that it does.

    Raises:
        InputError: if a name is unknown, or something is missing.
    """
    served, design = as_design(cluster, workload, deployment, efficiency, service)
    inquiry = inquire(model, cluster, served)
    reached = _metrics(
        inquiry.model, served, design, world, softness if softness is EXACT else scalar(softness)
    )
    return answered(reached, evaluate_record, inquiry=inquiry, deployment=design)


def prefill(
    model: AnyModel,
    cluster: AnyCluster | Service | None = None,
    workload: Workload | Deployment | None = None,
    deployment: Deployment | None = None,
    efficiency: AnyEfficiency = "fitted",
    *,
    service: Service | None = None,
) -> Spent:
    """Time to read one prompt on each data rank, from the operators of a decode step (see
    `physics.prefill.compiled_prefill`): the workload's prompt but for its cached share, or one of
    `context` tokens.

    Arguments and errors are those of `evaluate`.

    Returns:
        `Spent`: its `seconds` are the time to first token [s].
    """
    served, design = as_design(cluster, workload, deployment, efficiency, service)
    return _prefill(as_model(model), served, design)


@overload
def sensitivity(
    model: AnyModel,
    cluster: AnyCluster | Service | None = ...,
    workload: Workload | Deployment | None = ...,
    deployment: Deployment | None = ...,
    efficiency: AnyEfficiency = ...,
    *,
    service: Service | None = ...,
) -> Sensitivity: ...


@overload
def sensitivity(
    model: AnyModel,
    cluster: AnyCluster | Service | None = ...,
    workload: Workload | None = ...,
    deployment: None = ...,
    efficiency: AnyEfficiency = ...,
    *,
    service: Service | None = ...,
    plan: Plan,
    way: str,
    draft: Draft | None = ...,
) -> RequestSensitivity: ...


def sensitivity(
    model: AnyModel,
    cluster: AnyCluster | Service | None = None,
    workload: Workload | Deployment | None = None,
    deployment: Deployment | None = None,
    efficiency: AnyEfficiency = "fitted",
    *,
    service: Service | None = None,
    plan: Plan | None = None,
    way: str | None = None,
    draft: Draft | None = None,
) -> Sensitivity | RequestSensitivity:
    """Derivatives of the throughput of a concrete design with respect to every input, as it is and
    where its batch follows the limits; with a plan and its way, of whole requests.

    Other arguments and errors are those of `evaluate`.

    Args:
        model: see `evaluate`.
        cluster: see `evaluate`.
        workload: see `evaluate`; for a plan a prompt and an answer.
        deployment: see `evaluate`; none for a plan.
        efficiency: see `evaluate`.
        service: see `evaluate`.
        plan: layouts, batch and chunk of requests, such as those of `serve`.
        way: of that plan: `mixed`, `alternating` or `disaggregated`.
        draft: what makes drafts where `tokens_per_step` is above 1.
    """
    if plan is not None or way is not None:
        return _of_plan(model, cluster, workload, efficiency, service, plan, way, draft)
    served, design = as_design(cluster, workload, deployment, efficiency, service)
    inquiry = inquire(model, cluster, served)
    found = _sensitivity(Design(inquiry.model, served, design))
    return answered(found, sensitivity_record, inquiry=inquiry, deployment=design)


@in_float64
def _request_sensitivity(served: Served, plan: Plan, way: str) -> RequestSensitivity:
    return request_sensitivity(request_design(served, plan, way))


def _of_plan(model, cluster, workload, efficiency, service, plan, way, draft) -> RequestSensitivity:
    if plan is None or way not in SEARCHED:
        raise InputError(f"give a plan together with its way, one of {', '.join(SEARCHED)}")
    served = as_service(cluster, workload, efficiency, service)
    inquiry = inquire(model, cluster, served)
    question = jax.tree.map(np.asarray, asked(inquiry.model, served, draft))
    found = _request_sensitivity(question, plan, way)
    reached = _option(question, plan, way)
    return answered(found, request_sensitivity_record, inquiry=inquiry, option=reached)


@in_float64
def parameter_count(model: AnyModel) -> Parameters:
    """Parameters of a model by part, differentiable in every size."""
    return parameters.parameter_count(as_model(model))


@in_float64
def kv_bytes_per_token(model: AnyModel) -> Scalar:
    """Cache growth per decoded token over all softmax layers, windowed ones included, indexer keys
    not [byte/token].
    """
    return kv_cache.kv_bytes_per_token(as_model(model))


def legal_layouts(
    model: AnyModel, cluster: AnyCluster, ways: tuple[float, ...] = (GATHERED, DISPATCHED)
) -> Deployment:
    """All legal layouts of a model on a cluster, as one batched `Deployment` at its smallest batch.

    Args:
        model: what is served.
        cluster: on what.
        ways: of the experts' communication, where experts are spread over devices.

    Raises:
        InputError: if a size that decides legality is being traced or is not whole, or the cluster
            is too large.
    """
    return layouts.legal_layouts(as_model(model), as_cluster(cluster), ways=ways)
