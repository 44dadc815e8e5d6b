"""Exact scores of architectures: each in every legal layout at its best whole batch, many in one
compiled call.

Time per token never falls with the batch and throughput neither, so of a layout the best batch is
the largest that the limits allow, or for tokens/s/user the smallest.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qsopt.arrays import Scalar
from qsopt.deployments.batches import chunks, in_batches, length, same_length
from qsopt.deployments.best import Best, best_of_parts, pick
from qsopt.deployments.contest import Entry
from qsopt.deployments.layouts import LayoutSizes, combined_layouts
from qsopt.deployments.legality import allows_experts, is_legal, splits_heads, with_places
from qsopt.deployments.optimum import best_layout, entry_of
from qsopt.deployments.sizes import cache_shares, divisors, traits_of, whole
from qsopt.physics.evaluate import meets, timing
from qsopt.programs import compiled
from qsopt.search.architecture import Values, with_architecture
from qsopt.search.problem import DesignProblem
from qsopt.search.variables import Rows, Variable, columns
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.rules import LayoutRules
from qsopt.spec.service import Service

ROWS, PART = 16, 256
"""Architectures and layouts of one compiled call."""


class BatchRule(eqx.Module):
    """Which batch of a layout is the best, and what counts."""

    low: Scalar = eqx.field()
    """Least batch of a replica."""
    high: Scalar = eqx.field()
    """Most."""
    per_user: bool = eqx.field(static=True)
    """Whether tokens/s of one sequence counts, not that of the cluster."""
    capped: bool = eqx.field(static=True)
    """Whether the bounds of the batch matter."""


@dataclass
class Scorer:
    """Scores architectures of a problem, and counts."""

    problem: DesignProblem
    layouts: Deployment
    """Legal layouts of any architecture of the problem."""
    evaluations: int = 0
    """Designs scored so far: an architecture in a layout counts as one."""
    many: bool = False
    """Whether so many are to be scored that a thorough compilation pays."""

    @classmethod
    def for_problem(cls, problem: DesignProblem) -> "Scorer":
        """The scorer of a problem."""
        return cls(problem, all_layouts(problem))

    @property
    def rule(self) -> BatchRule:
        """How batches are chosen."""
        batch, per_user = self.problem.variable("batch"), self.problem.objective == "per_user"
        capped = per_user or not batch.free or batch.low > 1
        return BatchRule(np.asarray(batch.low), np.asarray(batch.high), per_user, capped)

    def best(self, architectures: Rows, layouts: Deployment | None = None) -> Best:
        """The best deployment of each architecture, in all layouts or in some."""
        chosen = self.layouts if layouts is None else layouts
        self.evaluations += len(architectures) * length(chosen)
        (padded,) = same_length(chosen)
        return in_batches(
            lambda values: self._best_by_part(values, padded),
            columns(self.problem.architecture, architectures),
            ROWS,
        )

    def _best_by_part(self, values: Values, layouts: Deployment) -> Best:
        in_haste = "xla_backend_optimization_level=0" in os.environ.get("XLA_FLAGS", "")
        score = _thorough if self.many and in_haste else _compiled
        reference, service = self.problem.reference, self.problem.service
        parts, most = [], np.zeros(ROWS)
        for part in chunks(layouts, PART):
            parts.append(score(reference, service, self.rule, values, part, most))
            most = np.maximum(most, np.asarray(parts[-1].throughput))
        return best_of_parts(parts)


def _best_of_rows(
    reference: Model,
    service: Service,
    rule: BatchRule,
    values: Values,
    layouts: Deployment,
    ahead: Float[Array, " rows"],
) -> Best:
    """The best of some layouts for each row, where it is better than what is reached already."""

    def best(promise: Array, one: tuple[Values, Scalar]) -> tuple[Array, Best]:
        row, reached = one
        model = with_architecture(reference, row)
        if rule.per_user:
            scores = jax.vmap(lambda layout: fastest(model, service, rule, layout))(layouts)
            return promise, pick(scores)
        placed = with_places(model, layouts, service.rules)
        entry = jax.vmap(lambda layout: ruled_entry(model, service, rule, layout))(placed)
        found = best_layout(model, service, placed, entry, promise, reached)
        return found.throughputs, found.best  # rows are alike

    return jax.lax.scan(best, jnp.zeros(length(layouts)), (values, ahead))[1]


_compiled = compiled(_best_of_rows)
_thorough = compiled(
    _best_of_rows,
    options={"xla_backend_optimization_level": 2, "xla_cpu_use_fusion_emitters": True},
)
"""The same where the process compiles in haste (see `cli.runtime`): slower to compile and faster to
run.
"""


def ruled_entry(model: Model, service: Service, rule: BatchRule, layout: Deployment) -> Entry:
    """A layout with what bounds its batch, the rule included; out where it is illegal."""
    entry = entry_of(model, service, layout)
    legal = is_legal(model, service.cluster, layout, service.rules)
    most, least = entry.most, entry.least
    if rule.capped:
        most = jnp.minimum(most, jnp.floor(rule.high / entry.unit))
        least = jnp.maximum(least, jnp.ceil(rule.low / entry.unit))
    return eqx.tree_at(lambda e: (e.most, e.least), entry, (jnp.where(legal, most, 0.0), least))


def fastest(model: Model, service: Service, rule: BatchRule, layout: Deployment) -> Best:
    """A layout at the smallest batch that the rule allows; its `throughput` is that of one
    sequence, 0 where it is illegal or infeasible.
    """
    layout = with_places(model, layout, service.rules)
    entry = ruled_entry(model, service, rule, layout)
    smallest = eqx.tree_at(lambda d: d.batch, layout, entry.least * entry.unit)
    tpot = timing(model, service, smallest).tpot
    legal = (entry.most >= entry.least) & meets(tpot, service.workload)
    return Best(smallest, jnp.where(legal, 1.0 / tpot, 0.0), legal)


# ---- every layout that some architecture of the problem may have ---------------------------------


def all_layouts(problem: DesignProblem) -> Deployment:
    """Layouts in the order of `layouts.legal_layouts`, for any values of the architecture
    variables: what a layout must divide may be free, so `score` asks again for each architecture,
    and gives it its places for experts.
    """
    model, rules, models = problem.reference, problem.service.rules, _models(problem)
    devices = whole(problem.service.cluster.devices, "devices")
    every = np.arange(1.0, devices + 1.0)
    sizes = LayoutSizes(
        tensor=_within(problem, "tp", every[splits_heads(model, every)]),
        data=_within(problem, "dp", every),
        pipeline=_within(problem, "pp", every[every <= _most_layers(problem)]),
        shares=lambda tensor: _cache_shares(problem, tensor),
        expert=lambda stage: _within(problem, "ep", _expert_sizes(models, rules, divisors(stage))),
    )
    return combined_layouts(problem.service.cluster, sizes, traits_of(model), rules)


def _within(problem: DesignProblem, name: str, sizes: Iterable[float]) -> list[int]:
    """The sizes that a variable's bounds and kind leave."""
    legal = set(problem.variable(name).legal())
    return [int(size) for size in sizes if size in legal]


def _cache_shares(problem: DesignProblem, tensor: int) -> list[int]:
    """Context parallel sizes that are legal for some number of KV heads."""
    if "kv_heads" in _free(problem):
        return [int(size) for size in divisors(tensor)]
    return cache_shares(problem.reference, tensor)


def _models(problem: DesignProblem) -> list[Model]:
    """The reference with every number of experts that may be asked for."""
    free = _free(problem)
    if "experts" not in free:
        return [problem.reference]
    counts = free["experts"].legal()
    return [with_architecture(problem.reference, {"experts": np.asarray(n)}) for n in counts]


def _expert_sizes(
    models: list[Model], rules: LayoutRules, sizes: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """The sizes that have places in any of some models."""
    return sizes[np.any([allows_experts(model, sizes, rules) for model in models], axis=0)]


def _most_layers(problem: DesignProblem) -> float:
    free = _free(problem)
    return free["layers"].high if "layers" in free else float(problem.reference.layers)


def _free(problem: DesignProblem) -> dict[str, Variable]:
    """Free architecture variables by name."""
    return {variable.name: variable for variable in problem.architecture}
