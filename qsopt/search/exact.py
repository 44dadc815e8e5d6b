"""Exact scores of architectures: each in every legal layout at its best whole batch, many in one
compiled call.

Time per token never falls with the batch and throughput neither, so of a layout the best batch is
the largest that the limits allow, or for tokens/s/user the smallest.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from qsopt.arrays import Scalar
from qsopt.deployments.layouts import layout_batch, whole
from qsopt.deployments.optimum import Best, at_largest_batch, pick, same_length
from qsopt.physics.evaluate import timing
from qsopt.search.architecture import Values, with_architecture
from qsopt.search.problem import DesignProblem
from qsopt.spec.deployment import DISPATCHED, GATHERED, Deployment
from qsopt.spec.model import Gqa, Model, MoeFfn
from qsopt.spec.service import Service

ROWS, PART = 16, 256
"""Architectures and layouts of one compiled call."""


class Rule(eqx.Module):
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
    def of(cls, problem: DesignProblem) -> "Scorer":
        """The scorer of a problem."""
        return cls(problem, all_layouts(problem))

    @property
    def rule(self) -> Rule:
        """How batches are chosen."""
        batch, per_user = self.problem.variable("batch"), self.problem.objective == "per_user"
        capped = per_user or not batch.free or batch.low > 1
        return Rule(np.asarray(batch.low), np.asarray(batch.high), per_user, capped)

    def best(
        self, architectures: Float[np.ndarray, "n variables"], layouts: Deployment | None = None
    ) -> Best:
        """The best deployment of each architecture, given as one row of variables each."""
        (filled,) = same_length(self.layouts if layouts is None else layouts)
        count, names = len(architectures), [each.name for each in self.problem.architecture]
        rows = np.concatenate([architectures, np.repeat(architectures[-1:], -count % ROWS, axis=0)])
        self.evaluations += count * (self.layouts if layouts is None else layouts).tensor.shape[0]
        parts = [
            self._rows(dict(zip(names, rows[at : at + ROWS].T, strict=True)), filled)
            for at in range(0, len(rows), ROWS)
        ]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *parts)

    def _rows(self, values: Values, layouts: Deployment) -> Best:
        values = dict(values) or {"": np.zeros(ROWS)}
        score = (
            _thorough
            if self.many and "xla_backend_optimization_level=0" in os.environ.get("XLA_FLAGS", "")
            else _compiled
        )
        parts = []
        for at in range(0, layouts.tensor.shape[0], PART):
            chunk = jax.tree.map(itemgetter(slice(at, at + PART)), layouts)
            best = score(self.problem.reference, self.problem.service, self.rule, values, chunk)
            parts.append(jax.tree.map(np.asarray, best))
        if len(parts) == 1:
            return parts[0]
        winner = np.argmax([part.throughput for part in parts], axis=0)
        return jax.tree.map(
            lambda *leaves: np.stack(leaves)[winner, np.arange(len(winner))], *parts
        )


def _best_rows(
    reference: Model, service: Service, rule: Rule, values: Values, layouts: Deployment
) -> Best:
    def of(row: Values) -> Best:
        model = with_architecture(reference, row)
        return pick(jax.vmap(lambda layout: scored(model, service, rule, layout))(layouts))

    return jax.lax.map(of, values)


_compiled = jax.jit(_best_rows)
_thorough = jax.jit(
    _best_rows,
    compiler_options={"xla_backend_optimization_level": 2, "xla_cpu_use_fusion_emitters": True},
)
"""The same where the process compiles in haste (see `cli.runtime`): slower to compile and faster to
run.
"""


def scored(model: Model, service: Service, rule: Rule, layout: Deployment) -> Best:
    """A layout at its best batch; its `throughput` is what counts, 0 where it is illegal or
    infeasible.
    """
    found = at_largest_batch(model, service, layout)
    legal = found.feasible & is_legal(model, layout)
    if not rule.capped:
        return Best(found.deployment, jnp.where(legal, found.throughput, 0.0), legal)
    unit = layout.pipeline * layout.data
    least = jnp.ceil(rule.low / unit) * unit
    most = jnp.minimum(found.deployment.batch, jnp.floor(rule.high / unit) * unit)
    chosen = least if rule.per_user else most
    deployment = eqx.tree_at(lambda d: d.batch, layout, jnp.maximum(chosen, unit))
    time = timing(model, service, deployment)
    legal = legal & (most >= least) & (time.replicas > 0)
    return Best(
        deployment,
        jnp.where(legal, 1.0 / time.tpot if rule.per_user else time.throughput, 0.0),
        legal,
    )


def is_legal(model: Model, layout: Deployment) -> Bool[Array, ""]:
    """Whether a layout divides a model's experts and KV heads, and has no more stages than
    layers.
    """
    legal = layout.pipeline <= model.layers
    for layers in model.decoder.ffn:
        if isinstance(layers.kind, MoeFfn):
            legal = legal & (jnp.mod(layers.kind.experts, layout.expert) == 0.0)
    for layers in model.decoder.attention:
        if isinstance(layers.kind, Gqa):
            kv = layers.kind.kv_heads
            legal = legal & (
                (jnp.mod(kv, layout.tensor) == 0.0) | (jnp.mod(layout.tensor, kv) == 0.0)
            )
    return legal


# ---- every layout that some architecture of the problem may have ---------------------------------


def all_layouts(problem: DesignProblem) -> Deployment:
    """Layouts in the order of `layouts.legal_layouts`, for any values of the architecture
    variables.
    """
    rows = sorted(_layout_rows(problem), key=lambda row: (row[2], *row))
    return layout_batch(rows)


def _layout_rows(problem: DesignProblem) -> Iterator[tuple[float, ...]]:
    devices = whole(problem.service.cluster.devices, "devices")
    free = {each.name: each for each in problem.architecture}
    experts = free["experts"].legal() if "experts" in free else _expert_counts(problem.reference)
    layers = free["layers"].high if "layers" in free else float(problem.reference.layers)
    divides = [e for e in range(1, devices + 1) if np.any(experts % e == 0)]
    heads = [whole(group.kind.heads, "heads") for group in problem.reference.decoder.attention]
    for tensor in _sizes(
        problem, "tp", [t for t in range(1, devices + 1) if all(count % t == 0 for count in heads)]
    ):
        for data in _sizes(problem, "dp", range(1, devices // tensor + 1)):
            stage = tensor * data
            splits = [e for e in _sizes(problem, "ep", divides) if stage % e == 0]
            for pipeline in _sizes(problem, "pp", range(1, devices // stage + 1)):
                if pipeline <= layers:
                    yield from (
                        (tensor, data, pipeline, e, way) for e in splits for way in _ways(e)
                    )


def _ways(expert: int) -> tuple[float, ...]:
    return (GATHERED, DISPATCHED) if expert > 1 else (GATHERED,)


def _sizes(problem: DesignProblem, name: str, sizes: "range | list[int]") -> list[int]:
    """The sizes that a variable's bounds and kind leave."""
    legal = set(problem.variable(name).legal())
    return [size for size in sizes if size in legal]


def _expert_counts(model: Model) -> Float[np.ndarray, " kinds"]:
    return np.array(
        [float(group.kind.experts) for group in model.decoder.ffn if isinstance(group.kind, MoeFfn)]
    )
