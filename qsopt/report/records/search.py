"""What a search answers, as a plain record."""

from dataclasses import asdict
from typing import Any

from qsopt.comparison.dense import dense_match, kinds_of
from qsopt.comparison.duel import throughput_of
from qsopt.comparison.opinions import opinions
from qsopt.errors import InputError
from qsopt.physics.parameters import parameter_count
from qsopt.precision import in_float64
from qsopt.report.inquiry import Inquiry
from qsopt.report.records.comparison import twin_record
from qsopt.report.records.design import asked_record, design_record
from qsopt.search.problem import UNITS, DesignProblem
from qsopt.search.request_answer import RequestAnswer
from qsopt.search.solution import Answer, Solution
from qsopt.spec.model import Model


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
        "hardware_notes": asked["hardware_notes"],
        "question": "decode",
        "context": asked["context"],
        "trained_context": asked["trained_context"],
        "beyond_trained_context": asked["beyond_trained_context"],
        "vary": [each.name for each in problem.variables if each.free],
        "law": problem.law.name,
        "efficiency": inquiry.efficiency_name,
        "twin": _twin(problem, found),
        "best": _best(inquiry, problem, found),
        "at_bounds": at_bounds(problem, found.best),
        "beside": _beside(inquiry, problem),
        "laws": law_rows(inquiry, problem, found.best),
        "objective": problem.objective,
        "minimize": problem.minimize,
        "value": found.value,
        "unit": UNITS[problem.objective],
        "relaxed_value": found.relaxed_value,
        "all_real_value": found.all_real_value,
        "certificate": None if found.certificate is None else asdict(found.certificate),
        "shadow_prices": [asdict(price) for price in found.shadow_prices],
        "multipliers": found.multipliers,
        "budgets": [asdict(budget) for budget in found.budgets],
        **_slopes(found),
        "conflicts": [asdict(conflict) for conflict in found.conflicts],
        "starts": found.starts,
        "evaluations": found.evaluations,
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


def at_bounds(problem: DesignProblem, best: Answer | RequestAnswer | None) -> list[dict[str, Any]]:
    """Sizes of the answer that stand on the first or last of their legal values, beyond which
    nothing was looked at; the least that a size can be is no bound.
    """
    if best is None:
        return []
    told = []
    for variable in problem.architecture:
        legal, value = variable.legal(), best.architecture[variable.name]
        if len(legal) > 1 and value in (legal[0], legal[-1]) and value > 1:
            side = "lower" if value == legal[0] else "upper"
            told.append({"variable": variable.name, "side": side, "value": float(value)})
    return told


def _beside(inquiry: Inquiry, problem: DesignProblem) -> dict[str, Any]:
    """Throughput of the reference and of the dense model of its quality in their best deployments,
    0 where infeasible [tokens/s]; None for a match that the law does not give.
    """
    reference, service = problem.reference, problem.service
    own = throughput_of(reference, reference, service)
    try:
        match = match_of(inquiry, problem)
    except InputError:
        return {"reference": own, "dense_match": None}
    return {"reference": own, "dense_match": throughput_of(match, reference, service)}


def match_of(inquiry: Inquiry, problem: DesignProblem) -> Model:
    """The dense model of the reference's quality, of the problem's kind where the reference has it.

    Raises:
        InputError: if the law gives none.
    """
    known = kinds_of(problem.reference)
    kind = problem.kind if problem.kind in known else known[0]
    return dense_match(problem.reference, inquiry.believe().q, kind)


def law_rows(
    inquiry: Inquiry, problem: DesignProblem, best: Answer | RequestAnswer | None
) -> list[dict[str, Any]]:
    """Of each law, the size of the dense model of the answer's quality over that of the
    reference's; None where a law has no answer for both.
    """
    if best is None:
        return []
    tokens = inquiry.training_tokens
    sides = [opinions(model, tokens) for model in (best.model, problem.reference)]
    active = [float(parameter_count(model).active) for model in (best.model, problem.reference)]
    return [
        {
            "law": own.law,
            "dense_size_over_reference": own.q * active[0] / (other.q * active[1])
            if own.q is not None and other.q is not None
            else None,
            "in_range": own.in_range,
            "warnings": list(own.warnings),
        }
        for own, other in zip(*sides, strict=True)
    ]


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
