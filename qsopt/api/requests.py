"""Whole requests: the best ways to serve them, and what one given way reaches."""

from typing import overload

import jax
import numpy as np

from qsopt.api.names import (
    AnyCluster,
    AnyEfficiency,
    AnyModel,
    answered,
    as_model,
    as_service,
    inquire,
)
from qsopt.arrays import EXACT, Softness
from qsopt.errors import InputError
from qsopt.precision import in_float64
from qsopt.report.records.serving import serve_record
from qsopt.serving.answer import Serving, serving
from qsopt.serving.metrics import RequestMetrics, compiled_request_metrics
from qsopt.serving.plan import WAYS, Plan
from qsopt.serving.replica import Served
from qsopt.serving.speculation import Draft
from qsopt.serving.ways import SEARCHED, asked, layouts_of, lists
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

TOP = 10
"""Ways and layouts that are ranked."""

_serving, _metrics = in_float64(serving), in_float64(compiled_request_metrics)


@overload
def serve(
    model: AnyModel,
    cluster: AnyCluster | Service,
    workload: Workload | None = ...,
    efficiency: AnyEfficiency = ...,
    *,
    ways: tuple[str, ...] = ...,
    top: int = ...,
    draft: Draft | None = ...,
) -> Serving: ...


@overload
def serve(
    model: AnyModel,
    cluster: AnyCluster | Service,
    workload: Workload | None = ...,
    efficiency: AnyEfficiency = ...,
    *,
    plan: Plan,
    way: str,
    draft: Draft | None = ...,
    softness: Softness = ...,
) -> RequestMetrics: ...


def serve(
    model: AnyModel,
    cluster: AnyCluster | Service,
    workload: Workload | None = None,
    efficiency: AnyEfficiency = "fitted",
    *,
    ways: tuple[str, ...] = SEARCHED,
    top: int = TOP,
    draft: Draft | None = None,
    plan: Plan | None = None,
    way: str | None = None,
    softness: Softness = EXACT,
) -> Serving | RequestMetrics:
    """The best ways to serve a model's requests, or what one given plan reaches.

    With a set that is `fitted` or named by a software, times are those of a server.

    Args:
        model: what is served: a model, or the name of one.
        cluster: on what: a cluster, a phrase such as `8xh100`, or a whole service.
        workload: prompt, answer and limits.
        efficiency: a set, or the name of one (see `load_efficiency`).
        ways: that are searched, of `mixed`, `alternating` and `disaggregated`.
        top: plans that are ranked.
        draft: what makes drafts where `tokens_per_step` is above 1 (see `next_token_layer`).
        plan: layouts, batch and chunk, where one plan is asked about and nothing is searched.
        way: of that plan; `decode` too.
        softness: of that plan: 0 for the exact model, above 0 for the relaxed one.

    Returns:
        `Serving`; or, of a plan, `RequestMetrics`, a function of numbers that works inside
        `jax.jit`, `jax.grad` and `jax.vmap`.

    Raises:
        InputError: if the workload has no prompt and answer, a name is unknown, or only one of plan
            and way is given.
    """
    service = as_service(cluster, workload, efficiency)
    if plan is not None or way is not None:
        return _of_plan(as_model(model), service, draft, plan, way, softness)
    if top < 1:
        raise InputError(f"top = {top}: give a whole number, one or more")
    inquiry = inquire(model, cluster, service)
    every, groups = lists(layouts_of(inquiry.model, service), ways)
    answer = _serving(_numbers(asked(inquiry.model, service, draft)), every, groups, top)
    return answered(answer, serve_record, inquiry=inquiry)


def _numbers(served: Served) -> Served:
    """With arrays for Python's numbers, so that questions of one structure share a compilation."""
    return jax.tree.map(np.asarray, served)


def _of_plan(
    model, service: Service, draft: Draft | None, plan: Plan | None, way: str | None, softness
) -> RequestMetrics:
    if plan is None or way not in WAYS:
        raise InputError(f"give a plan together with its way, one of {', '.join(WAYS)}")
    if way != "decode":
        asked(model, service, draft)
    served = Served(model, service, draft, softness=softness)
    return _metrics(served, plan, way)
