"""What a search answers, as a plain record."""

from dataclasses import asdict
from typing import Any

from qsopt.precision import in_float64
from qsopt.report.inquiry import Inquiry
from qsopt.report.records.comparison import twin_record
from qsopt.report.records.design import asked_record, design_record
from qsopt.search.problem import UNITS, DesignProblem
from qsopt.search.solution import Solution


@in_float64
def optimize_record(found: Solution, inquiry: Inquiry, problem: DesignProblem) -> dict[str, Any]:
    """Everything that `qsopt optimize` says.

    Args:
        found: the answer.
        inquiry: what was asked.
        problem: the same as a problem.
    """
    asked = asked_record(inquiry)
    return {
        "like": asked["model"],
        "cluster": asked["cluster"],
        "context": asked["context"],
        "trained_context": asked["trained_context"],
        "beyond_trained_context": asked["beyond_trained_context"],
        "vary": [each.name for each in problem.variables if each.free],
        "law": problem.law.name,
        "efficiency": inquiry.efficiency_name,
        "twin": _twin(problem, found),
        "best": _best(inquiry, problem, found),
        "objective": problem.objective,
        "minimize": problem.minimize,
        "value": found.value,
        "unit": UNITS[problem.objective],
        "relaxed_value": found.relaxed_value,
        "all_real_value": found.all_real_value,
        "certificate": None if found.certificate is None else asdict(found.certificate),
        "shadow_prices": [asdict(price) for price in found.shadow_prices],
        "multipliers": found.multipliers,
        **_slopes(found),
        "conflicts": [asdict(conflict) for conflict in found.conflicts],
        "starts": found.starts,
        "evaluations": found.evaluations,
        "seconds": found.seconds,
    }


def _twin(problem: DesignProblem, found: Solution) -> dict[str, Any] | None:
    """The dense match that the advantage is over."""
    if problem.objective != "advantage":
        return None
    return twin_record(
        None if found.best is None else problem.match(found.best.model), problem.kind
    )


def _best(inquiry: Inquiry, problem: DesignProblem, found: Solution) -> dict[str, Any] | None:
    if found.best is None:
        return None
    best, name = found.best, inquiry.efficiency_name
    record = design_record(best.model, problem.service, best.deployment, best.metrics, name)
    return {**record, "architecture": best.architecture}


def _slopes(found: Solution) -> dict[str, Any]:
    """Elasticities at the largest batch of the best layout, or at the design itself where there is
    none.
    """
    slopes = found.sensitivity
    if slopes is None:
        return {"elasticities": {}, "elasticities_at": None}
    if slopes.relaxed is not None:
        return {"elasticities": slopes.relaxed.elasticity, "elasticities_at": "largest batch"}
    return {"elasticities": slopes.fixed.elasticity, "elasticities_at": "design"}
