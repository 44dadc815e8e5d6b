"""Why a problem has no answer: which constraints conflict, by how much, and which of them alone
would have to give way.
"""

from dataclasses import dataclass, replace
from operator import itemgetter

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qsopt.arrays import Scalar
from qsopt.deployments.optimum import Best
from qsopt.physics.evaluate import compiled_metrics, metrics
from qsopt.search.admission import Admission, Rows
from qsopt.search.architecture import with_architecture
from qsopt.search.exact import Rule, is_legal
from qsopt.search.judge import Judge
from qsopt.search.problem import DesignProblem
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service
from qsopt.spec.workload import NO_LIMIT

LISTED = 20_000
"""Architectures looked at."""

TRIED = 32
"""Of them deployed, the smallest."""


@dataclass(frozen=True)
class Conflict:
    """A constraint that the design which comes closest still breaks."""

    constraint: str
    value: float
    limit: float
    unit: str
    alone: bool
    """Whether there are answers once this constraint is dropped and the others stay."""


def conflicts(judge: Judge) -> tuple[Conflict, ...]:
    """The conflict of a problem in which nothing is feasible."""
    rows = coarse(judge.admission)
    admitted = judge.admission.narrowest(rows)
    if not len(admitted):
        return _of_models(judge.problem, judge.admission, rows)
    return _of_deployments(judge, admitted)


def coarse(admission: Admission) -> Rows:
    """A thinned grid that keeps the ends of every variable."""
    variables = admission.variables
    each = max(2, int(LISTED ** (1.0 / max(len(variables), 1))))
    picked = []
    for variable in variables:
        legal = variable.legal()
        picked.append(
            legal[
                np.unique(np.linspace(0, legal.size - 1, min(each, legal.size)).round().astype(int))
            ]
        )
    return (
        np.stack([axis.ravel() for axis in np.meshgrid(*picked, indexing="ij")], axis=1)
        if picked
        else np.zeros((1, 0))
    )


def _of_models(problem: DesignProblem, admission: Admission, rows: Rows) -> tuple[Conflict, ...]:
    """No model keeps quality and ceilings: the best under the ceilings, and the least sizes of
    those good enough.
    """
    rows = rows[admission.is_routable(rows)]
    sizes = admission.sizes(rows)
    small = (sizes[:, 2] <= problem.most_total) & (sizes[:, 3] <= problem.most_active)
    good = (sizes[:, 0] >= admission.least_size) & (sizes[:, 1] > 0)
    found = [
        Conflict(
            "quality",
            _most(sizes[small, 0]),
            admission.least_size,
            "parameter of the dense match",
            bool(small.any()),
        ),
    ]
    if np.isfinite(problem.most_total):
        found.append(
            Conflict(
                "total_parameters",
                _least(sizes[good, 2]),
                problem.most_total,
                "parameter",
                bool(good.any()),
            )
        )
    if np.isfinite(problem.most_active):
        found.append(
            Conflict(
                "active_parameters",
                _least(sizes[good, 3]),
                problem.most_active,
                "parameter",
                bool(good.any()),
            )
        )
    return tuple(found)


def _most(values: np.ndarray) -> float:
    return float(values.max()) if values.size else float("nan")


def _least(values: np.ndarray) -> float:
    return float(values.min()) if values.size else float("nan")


def _of_deployments(judge: Judge, rows: Rows) -> tuple[Conflict, ...]:
    """No deployment of any model keeps memory and time: the closest of the smallest ones."""
    problem, service = judge.problem, judge.problem.service
    sizes = judge.admission.sizes(rows)
    order = np.unique(
        np.concatenate([np.argsort(sizes[:, column], kind="stable")[:TRIED] for column in (2, 3)])
    )
    found = [_closest_of(judge, row) for row in rows[order]]
    model, best = max(found, key=lambda pair: float(pair[1].throughput))
    reached = compiled_metrics(model, service, best.deployment)
    held, limit = reached.memory, float(service.workload.tpot_limit)
    broken = []
    if not bool(reached.fits_memory):
        broken.append(("memory", float(held.total), float(held.capacity), "byte per device"))
    if not bool(reached.meets_tpot):
        broken.append(("tpot", float(reached.tpot), limit, "s"))
    if problem.keep_quality and _free_of(replace(problem, keep_quality=False)):
        size = judge.admission.least_size
        broken.append(("quality", size, size, "parameter of the dense match"))
    return tuple(Conflict(*each, alone=_free_of(_without(problem, each[0]))) for each in broken)


def _without(problem: DesignProblem, constraint: str) -> DesignProblem:
    if constraint == "quality":
        return replace(problem, keep_quality=False)
    field = {
        "tpot": lambda s: s.workload.tpot_limit,
        "memory": lambda s: s.cluster.accelerator.memory_bytes,
    }[constraint]
    return replace(problem, service=eqx.tree_at(field, problem.service, np.asarray(NO_LIMIT)))


def _free_of(problem: DesignProblem) -> bool:
    """Whether a problem has an answer among the smallest models."""
    judge = Judge.of(problem)
    rows = judge.admission.narrowest(coarse(judge.admission))
    if not len(rows):
        return False
    order = np.argsort(judge.admission.sizes(rows)[:, 2], kind="stable")[:TRIED]
    return bool(np.isfinite(judge.judge(rows[order]).merits).any())


def _closest_of(judge: Judge, row: Rows) -> tuple[Model, Best]:
    names = [each.name for each in judge.problem.architecture]
    model = with_architecture(
        judge.problem.reference, dict(zip(names, map(np.asarray, row), strict=True))
    )  # pyright: ignore[reportArgumentType]
    best = _closest(model, judge.problem.service, judge.scorer.rule, judge.scorer.layouts)
    return model, best


@eqx.filter_jit
def _closest(model: Model, service: Service, rule: Rule, layouts: Deployment) -> Best:
    """The legal layout at its least batch whose worst excess is least; its `throughput` is one over
    that excess.
    """

    def closeness(layout: Deployment) -> tuple[Deployment, Scalar]:
        unit = layout.pipeline * layout.data
        deployment = eqx.tree_at(
            lambda d: d.batch, layout, jnp.maximum(jnp.ceil(rule.low / unit), 1.0) * unit
        )
        reached = metrics(model, service, deployment)
        worst = jnp.maximum(
            reached.memory.total / reached.memory.capacity,
            reached.tpot / service.workload.tpot_limit,
        )
        return deployment, jnp.where(is_legal(model, layout), 1.0 / worst, 0.0)

    deployments, close = jax.vmap(closeness)(layouts)
    index = jnp.argmax(close)
    return Best(jax.tree.map(itemgetter(index), deployments), close[index], close[index] >= 1.0)
