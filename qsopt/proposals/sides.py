"""What stands beside every proposal: the reference as it is usually served, the best change of its
deployment alone, and its dense matches, each in its best deployment.
"""

from dataclasses import dataclass

import jax
import numpy as np

from qsopt.comparison.dense import dense_match as match_of_kind
from qsopt.comparison.dense import kinds_of, least_q
from qsopt.comparison.twin import aligned
from qsopt.deployments.batches import length, take
from qsopt.physics.parameters import compiled_parameter_count
from qsopt.proposals.architecture import COLUMNS, trimmed
from qsopt.proposals.boxes import Table
from qsopt.proposals.choices import coarse, distinct, every_layout, joined, refined, ways_of
from qsopt.proposals.fields import Task
from qsopt.proposals.goals import with_routed
from qsopt.proposals.pools import NOBODY, best_rows
from qsopt.proposals.scores import Designs, Scores, rows_of, scored_model
from qsopt.serving.candidates import WRITER, Candidates
from qsopt.spec.model import Model, moe_layers

USUAL = "usual deployment"
"""One group of tensor parallel ranks, the smallest that keeps the limits, and replicas of it."""


@dataclass(frozen=True)
class Companion:
    """A model that stands beside the proposals, in one deployment."""

    name: str
    model: Model
    throughput: float
    """Output tokens of the cluster, 0 where nothing is feasible [tokens/s]."""
    units: float = 0.0
    tpot: float = np.inf
    candidate: Candidates | None = None
    """Of one pool, or the pool that writes."""
    reader: Candidates | None = None


def best_side(name: str, model: Model, task: Task) -> Companion:
    """A model in the best of all layouts."""
    designs, scores = _tried_everywhere(model, task)
    return _side(name, model, task, designs, scores)


def reference_sides(name: str, model: Model, task: Task) -> tuple[Companion, Companion]:
    """A model in its best deployment, and in the usual one."""
    designs, scores = _tried_everywhere(model, task)
    best = _side(name, model, task, designs, scores)
    return best, _side(USUAL, model, task, designs, _usual(designs, scores))


def dense_matches(model: Model, size: float, task: Task) -> list[Companion]:
    """The dense models of an MoE's quality in the shapes that a comparison knows; none of a dense
    model.

    Args:
        model: the MoE.
        size: of its dense match [parameters].
        task: what is asked.
    """
    if moe_layers(model) is None:
        return []
    q = size / float(compiled_parameter_count(model).active)
    found = []
    for kind in kinds_of(model):
        if q < float(least_q(model, kind)):
            continue
        match = match_of_kind(model, q, kind)
        name = f"{kind.twin}-{kind.attention}"
        found.append(best_side(name, aligned(match, with_routed(model)), task))
    return found


def _tried_everywhere(model: Model, task: Task) -> tuple[Designs, Scores]:
    """All layouts with a few chunks, and the best with all, as one list."""
    served = jax.tree.map(np.asarray, with_routed(model))
    ways = ways_of(task.decode_alone)
    layouts = every_layout(trimmed(model), task.service)
    first = coarse(layouts, ways)
    scores = _scored(served, first, task)
    second = refined(first, scores.value, ways)
    every = distinct(joined([first, second]))
    known = length(first)
    fresh = take(every, slice(known, None)) if length(every) > known else None
    if fresh is None:
        return _designs(first, task), scores
    more = _scored(served, fresh, task)
    both = jax.tree.map(lambda one, other: np.concatenate([one, other]), scores, more)
    return _designs(every, task), both


def _designs(every: Candidates, task: Task) -> Designs:
    blank: Table = np.zeros((length(every), len(COLUMNS)))
    return rows_of(blank, every, task.limit)


def _scored(model: Model, every: Candidates, task: Task) -> Scores:
    return scored_model(model, _designs(every, task), task.service, task.decode_alone)


def _usual(designs: Designs, scores: Scores) -> Scores:
    """Only tensor parallel ranks in one pool, the fewest that keep the limits."""
    layout = designs.candidate.layout
    alone = np.ones(len(scores.value), bool)
    for size in (layout.data, layout.pipeline, layout.expert, layout.dcp):
        alone &= np.asarray(size) == 1
    kinds = np.asarray(designs.candidate.kind)
    if (kinds < WRITER).any():
        alone &= kinds < WRITER
    alone &= (scores.value > 0) & (np.log2(np.asarray(layout.tensor)) % 1 == 0)
    if alone.any():
        alone &= np.asarray(layout.tensor) == np.min(np.asarray(layout.tensor)[alone])
    return scores._replace(value=np.where(alone, scores.value, 0.0))


def _side(name: str, model: Model, task: Task, designs: Designs, scores: Scores) -> Companion:
    owner = np.zeros(len(scores.value), int)
    best = best_rows(owner, 1, designs, scores, task.service, task.decode_alone)
    place, reader = int(best.row[0]), int(best.reader[0])
    if place == NOBODY:
        return Companion(name, model, 0.0)
    return Companion(
        name,
        model,
        float(best.throughput[0]),
        float(scores.units[place]),
        float(scores.tpot[place]),
        take(designs.candidate, place),
        None if reader == NOBODY else take(designs.candidate, reader),
    )
