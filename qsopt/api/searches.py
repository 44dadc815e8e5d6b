"""The best design near a reference model."""

from collections.abc import Iterable, Mapping
from typing import Any

from qsopt.api.names import (
    AnyCluster,
    AnyEfficiency,
    AnyLaw,
    AnyModel,
    answered,
    as_service,
    inquire,
    ruled,
)
from qsopt.comparison.dense import Twin, match_kind
from qsopt.comparison.shapes import MatchAttention
from qsopt.errors import InputError
from qsopt.fitted.power import power_with
from qsopt.quality.belief import DEFAULT
from qsopt.quality.of_model import UNKNOWN_TOKENS
from qsopt.report.inquiry import Inquiry
from qsopt.report.records.request_search import optimize_requests_record
from qsopt.report.records.search import optimize_record
from qsopt.search import optimize as search
from qsopt.search import problem as problems
from qsopt.search.budgets import TRAINING, Budgets
from qsopt.search.problem import DEFAULT_VARY, DesignProblem
from qsopt.search.request_answer import RequestSolution, optimize_requests
from qsopt.search.solution import Solution
from qsopt.search.variables import Variable
from qsopt.spec.rules import LayoutRules, Stack
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload


def design_problem(
    reference: AnyModel,
    cluster: AnyCluster | Service | None = None,
    workload: Workload | None = None,
    efficiency: AnyEfficiency = "fitted",
    *,
    vary: Iterable[str] = DEFAULT_VARY,
    fixed: Mapping[str, float] | None = None,
    bounds: Mapping[str, Variable] | None = None,
    law: AnyLaw = DEFAULT,
    tokens: float | None = None,
    twin: Twin = "released",
    twin_attention: MatchAttention = "same",
    law_raw: bool = False,
    dcp: int | None = None,
    expert_slots: int | None = None,
    stack: Stack = "any",
    service: Service | None = None,
    budgets: Budgets | None = None,
    **options: Any,
) -> DesignProblem:
    """A search for the best legal design near a reference, with the usual bounds.

    Args:
        reference: the model to start from, or its name.
        cluster: accelerators and their number, or a phrase such as `8xh100`.
        workload: context, or prompt and answer, and limits.
        efficiency: a set, or the name of one.
        vary: names of free variables (`etp` follows from tp * dp = ep * etp, so it is ep that
            varies).
        fixed: values of deployment variables that are not free; 1 for those left out.
        bounds: variables to use instead of the usual ones, by name.
        law: the quality law that compares designs, or its name.
        tokens: training tokens for laws that use them; those of the catalog if left out.
        twin: shape of the dense model that an advantage is over, `released` or `same-body`.
        twin_attention: of a twin of released shape, `same` or `gqa8`.
        law_raw: take the bare law's q for that model, not the calibrated median.
        dcp: ranks that share a cache; 1 for none, any if left out.
        expert_slots: places for experts; 0 for as many as experts, any if left out.
        stack: software whose layouts count: any, vllm, sglang or trtllm.
        service: instead of cluster, workload and efficiency, and of these rules, with its own.
        budgets: of devices, their rental and operations of training; none if left out.
        **options: other fields of `DesignProblem`.

    Raises:
        InputError: if a name is unknown, the law or a budget lacks the training tokens, or the
            question has no meaning.
    """
    rules = LayoutRules(dcp, expert_slots, stack)
    served = ruled(as_service(cluster, workload, efficiency, service), workload, rules)
    inquiry = inquire(reference, cluster, served, law=law, tokens=tokens)
    chosen, known = inquiry.quality_law, inquiry.training_tokens
    if chosen.uses_tokens and known is None:
        raise InputError(
            f"law '{chosen.name}' needs the training tokens of the model: give tokens, such as "
            f"14.8e12"
        )
    if budgets is not None and TRAINING in budgets.given and known is None:
        raise InputError(
            "max_training_flops: the training tokens of the model are not known; give --tokens, "
            "such as 15T"
        )
    read = UNKNOWN_TOKENS if known is None else known
    power = power_with(inquiry.efficiency_name).law
    match = {"kind": match_kind(twin, twin_attention), "law_raw": law_raw, "power": power}
    return problems.design_problem(
        inquiry.model,
        served,
        vary,
        fixed,
        bounds,
        budgets,
        **{"law": chosen, "tokens": read, **match, **options},
    )


def optimize(
    problem: DesignProblem,
    seed: int = 0,
    starts: int = search.STARTS,
    certify: float | None = None,
) -> Solution | RequestSolution:
    """The best legal design of a problem.

    On a decode step by gradient from many starts on the relaxed model, rounded to legal neighbours,
    scored and improved exactly; on requests from many starts to the best legal neighbour, each
    scored in its exact best way of serving. Certified by enumeration where the grid is small
    enough.

    Args:
        problem: what is wanted (see `design_problem`).
        seed: of the starts.
        starts: of the relaxed search, or architectures that the search on requests begins at.
        certify: designs that may be enumerated to certify the answer, on requests candidates of
            ways of serving; 0 for no certificate, 1e7 or 1e6 if left out.

    Returns:
        `Solution`, or `RequestSolution` where the workload has a prompt and an answer.

    Raises:
        InputError: if the seed, the starts or the designs are out of range.
    """
    how = {"tokens": problem.tokens, "kind": problem.kind, "law_raw": problem.law_raw}
    inquiry = Inquiry(problem.reference, problem.service, problem.law, **how)
    if problem.on_requests:
        answer = optimize_requests(problem, seed, starts, certify)
        return answered(answer, optimize_requests_record, inquiry=inquiry, problem=problem)
    found = search.optimize(problem, seed, starts, certify)
    return answered(found, optimize_record, inquiry=inquiry, problem=problem)
