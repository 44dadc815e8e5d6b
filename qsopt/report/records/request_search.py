"""What a search on whole requests answers, as a plain record."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from qsopt.errors import InputError
from qsopt.precision import in_float64
from qsopt.report.inquiry import Inquiry
from qsopt.report.records.design import model_record
from qsopt.report.records.search import at_bounds, law_rows, match_of
from qsopt.report.records.serving import option_record, request_violations, workload_record
from qsopt.search.problem import UNITS, DesignProblem
from qsopt.search.request_answer import RequestAnswer, RequestSolution
from qsopt.search.request_scores import RequestScorer
from qsopt.search.solution import objective_value
from qsopt.spec.model import Model

NO_CHECKPOINT = ("stack", "command")
"""Of a way of serving, what an architecture that nobody has trained cannot have."""


@in_float64
def optimize_requests_record(
    found: RequestSolution, inquiry: Inquiry, problem: DesignProblem
) -> dict[str, Any]:
    """Everything that `qsopt optimize` says about whole requests.

    Args:
        found: the answer.
        inquiry: what was asked.
        problem: the same as a problem.
    """
    return {
        "like": inquiry.model_name,
        "cluster": inquiry.cluster_name,
        "hardware_notes": inquiry.hardware_notes,
        "question": "request",
        **workload_record(problem.service.workload),
        "vary": [each.name for each in problem.architecture],
        "law": problem.law.name,
        "efficiency": inquiry.efficiency_name,
        "best": _design(found.best, inquiry),
        "at_bounds": at_bounds(problem, found.best),
        "beside": _beside(inquiry, problem),
        "laws": law_rows(inquiry, problem, found.best),
        "objective": problem.objective,
        "value": found.value,
        "unit": UNITS[problem.objective],
        "certificate": None if found.certificate is None else asdict(found.certificate),
        "budgets": [asdict(budget) for budget in found.budgets],
        "limits": [asdict(limit) for limit in found.limits],
        "conflicts": [asdict(conflict) for conflict in found.conflicts],
        "closest": _design(found.closest, inquiry),
        "violations": []
        if found.closest is None
        else request_violations(problem.service, found.closest.option.reached),
        "starts": found.starts,
        "evaluations": found.evaluations,
    }


def _design(answer: RequestAnswer | None, inquiry: Inquiry) -> dict[str, Any] | None:
    if answer is None:
        return None
    own = replace(inquiry, model=answer.model)
    record = option_record(answer.option, own)
    kept = {name: each for name, each in record.items() if name not in NO_CHECKPOINT}
    return {**kept, **model_record(answer.model), "architecture": answer.architecture}


def _beside(inquiry: Inquiry, problem: DesignProblem) -> dict[str, float | None]:
    """The objective of the reference and of the dense model of its quality in their best ways of
    serving; None where infeasible, and for a match that the law does not give.
    """
    scorer = RequestScorer(problem)

    def value(model: Model) -> float | None:
        merit, _ = scorer.best(model)
        return objective_value(problem, merit) if np.isfinite(merit) else None

    own = value(problem.reference)
    try:
        match = match_of(inquiry, problem)
    except InputError:
        return {"reference": own, "dense_match": None}
    return {"reference": own, "dense_match": value(match)}
