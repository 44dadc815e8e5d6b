"""Why a problem has no answer: which constraints conflict, by how much, and which of them alone
would have to give way.
"""

from dataclasses import dataclass, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from qsopt.arrays import Scalar
from qsopt.deployments.batches import take
from qsopt.deployments.best import Best
from qsopt.deployments.legality import is_legal, with_places
from qsopt.deployments.request import excess
from qsopt.physics.evaluate import compiled_metrics, metrics
from qsopt.programs import compiled
from qsopt.search.architecture import MatchedSizes, with_architecture
from qsopt.search.budgets import TRAINING
from qsopt.search.evaluator import Evaluator
from qsopt.search.exact import BatchRule
from qsopt.search.problem import DesignProblem
from qsopt.search.variables import Rows, columns
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service
from qsopt.spec.workload import NO_LIMIT

TRIED = 32
"""Architectures deployed, the smallest of the thinned grid."""


@dataclass(frozen=True)
class Conflict:
    """A constraint that the design which comes closest still breaks."""

    constraint: str
    """Its name, as among the shadow prices."""
    value: float
    """Of the closest design."""
    limit: float
    """That the value breaks."""
    unit: str
    """Of both."""
    alone: bool
    """Whether there are answers once this constraint is dropped and the others stay."""


def conflicts(evaluator: Evaluator) -> tuple[Conflict, ...]:
    """The conflicts of a problem in which nothing is feasible."""
    rows = evaluator.admission.thinned_grid()
    admissible = evaluator.admission.narrowest(rows)
    if not len(admissible):
        return _model_conflicts(evaluator, rows)
    return _deployment_conflicts(evaluator, admissible)


# ---- no model keeps quality and ceilings ---------------------------------------------------------


def _model_conflicts(evaluator: Evaluator, rows: Rows) -> tuple[Conflict, ...]:
    """The best match under the ceilings, and the least sizes of those good enough."""
    problem, admission = evaluator.problem, evaluator.admission
    sizes = admission.sizes(rows[admission.is_routable(rows)])
    small = (sizes.total <= problem.most_total) & (sizes.active <= problem.most_active)
    small &= sizes.training <= problem.budgets.training_flops
    good = (sizes.dense >= admission.least_size) & np.asarray(sizes.is_physical)
    largest = float(np.max(sizes.dense[small], initial=-np.inf)) if small.any() else float("nan")
    quality = Conflict(
        "quality",
        largest,
        admission.least_size,
        "parameter of the dense match",
        bool(small.any()),
    )
    return (quality, *_ceiling_conflicts(problem, sizes, good))


def _ceiling_conflicts(
    problem: DesignProblem, sizes: MatchedSizes, good: Bool[np.ndarray, " n"]
) -> list[Conflict]:
    """Each ceiling that was given, against the least size of a model that is good enough."""

    def conflict(name: str, values: Float[np.ndarray, " n"], ceiling: float, unit: str) -> Conflict:
        least = float(values[good].min()) if good.any() else float("nan")
        return Conflict(name, least, ceiling, unit, bool(good.any()))

    budget = problem.budgets.training_flops
    ceilings = (
        ("total_parameters", np.asarray(sizes.total), problem.most_total, "parameter"),
        ("active_parameters", np.asarray(sizes.active), problem.most_active, "parameter"),
        (TRAINING, np.asarray(sizes.training), budget, "FLOP"),
    )
    return [conflict(*ceiling) for ceiling in ceilings if np.isfinite(ceiling[2])]


# ---- no deployment of any model keeps memory and time --------------------------------------------


def _deployment_conflicts(evaluator: Evaluator, rows: Rows) -> tuple[Conflict, ...]:
    """What the closest of the smallest models breaks."""
    problem, service = evaluator.problem, evaluator.problem.service
    sizes = evaluator.admission.sizes(rows)
    smallest = [_smallest(np.asarray(size)) for size in (sizes.total, sizes.active)]
    closest = [
        _closest_of(evaluator, rows[index : index + 1])
        for index in np.unique(np.concatenate(smallest))
    ]
    model, best = max(closest, key=lambda pair: float(pair[1].throughput))
    metrics_there = compiled_metrics(model, service, best.deployment)
    memory, limit = metrics_there.memory, float(service.workload.tpot_limit)
    broken = []
    if not bool(metrics_there.fits_memory):
        broken.append(("memory", float(memory.total), float(memory.capacity), "byte per device"))
    if not bool(metrics_there.meets_tpot):
        broken.append(("tpot", float(metrics_there.tpot), limit, "s"))
    if problem.keep_quality and _has_answer(_without(problem, "quality")):
        size = evaluator.admission.least_size
        broken.append(("quality", size, size, "parameter of the dense match"))
    return tuple(
        Conflict(*conflict, alone=_has_answer(_without(problem, conflict[0])))
        for conflict in broken
    )


def _smallest(sizes: Float[np.ndarray, " n"]) -> np.ndarray:
    """Indices of the `TRIED` smallest."""
    return np.argsort(sizes, kind="stable")[:TRIED]


def _without(problem: DesignProblem, constraint: str) -> DesignProblem:
    """The problem with one constraint dropped."""
    if constraint == "quality":
        return replace(problem, keep_quality=False)
    limit = {
        "tpot": lambda s: s.workload.tpot_limit,
        "memory": lambda s: s.cluster.accelerator.memory_bytes,
    }[constraint]
    return replace(problem, service=eqx.tree_at(limit, problem.service, np.asarray(NO_LIMIT)))


def _has_answer(problem: DesignProblem) -> bool:
    """Whether a problem has an answer among the smallest models."""
    evaluator = Evaluator.for_problem(problem)
    rows = evaluator.admission.narrowest(evaluator.admission.thinned_grid())
    if not len(rows):
        return False
    smallest = _smallest(np.asarray(evaluator.admission.sizes(rows).total))
    return evaluator.designs(rows[smallest]).any_feasible


def _closest_of(evaluator: Evaluator, row: Rows) -> tuple[Model, Best]:
    """The model of one row, and its layout that comes closest to keeping the limits."""
    problem, scorer = evaluator.problem, evaluator.scorer
    values = take(columns(problem.architecture, row), 0)
    model = with_architecture(problem.reference, values)
    return model, _closest(model, problem.service, scorer.rule, scorer.layouts)


@compiled
def _closest(model: Model, service: Service, rule: BatchRule, layouts: Deployment) -> Best:
    """The legal layout at its least batch whose worst excess is least; its `throughput` is one over
    that excess.
    """

    def closeness(layout: Deployment) -> tuple[Deployment, Scalar]:
        layout = with_places(model, layout, service.rules)
        unit = layout.pipeline * layout.data
        deployment = eqx.tree_at(
            lambda d: d.batch, layout, jnp.maximum(jnp.ceil(rule.low / unit), 1.0) * unit
        )
        worst = excess(metrics(model, service, deployment), service)
        legal = is_legal(model, service.cluster, layout, service.rules)
        return deployment, jnp.where(legal, 1.0 / worst, 0.0)

    deployments, close = jax.vmap(closeness)(layouts)
    index = jnp.argmax(close)
    return Best(take(deployments, index), close[index], close[index] >= 1.0)
