"""The best way of serving requests, exactly: every candidate with its largest batch that keeps the
limits.

With a chunk given, throughput does not fall with the batch while prompts keep up, and time per
token, time to first token and memory do not fall either. For a marginal decode token costs in a
step with prompts no more than the mean one in a step without: of a roofline with any soft knee,
(x^(p-1) x' + y^(p-1) y')/norm^(p-1) <= norm(x', y') <= norm(x, y)/b by Hoelder's inequality. So a
candidate's best batch is its largest, found by bisection, and what it serves at any batch bounds
what it serves below. Best first: candidates are tried by their bound, some at once, and one whose
bound does not beat the best so far is dropped. What is left is proved, not guessed. What is known
under one limit on time per token bounds what is possible under a tighter one, so searches go on
from each other.

The pools of the disaggregated way meet in `pairs`.
"""

from dataclasses import replace

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from qsopt.arrays import Scalar
from qsopt.deployments.batches import Tree, length, like, put, take
from qsopt.deployments.best import EQUAL
from qsopt.record import Record
from qsopt.serving import narrowing
from qsopt.serving.candidates import ALTERNATING, READER, WRITER, Candidates
from qsopt.serving.metrics import within
from qsopt.serving.narrowing import Known, next_units, step, unknown
from qsopt.serving.plan import Plan
from qsopt.serving.replica import Served
from qsopt.serving.trial import Trial, layout_at
from qsopt.serving.trials import AT_ONCE, Rows, asked_once, asking
from qsopt.spec.deployment import Deployment

ROUND = 16 * AT_ONCE
"""Candidates that are tried before the best so far is looked at again."""

FIRST = 2 * AT_ONCE
"""Candidates that are tried before there is anything to beat."""


class Found(Record):
    """What is known of each candidate."""

    known: Known
    seen: Trial
    """Of each with its most allowed units; where none are, with the fewest that were tried."""

    @property
    def value(self) -> Float[np.ndarray, " candidates"]:
        """What it serves: tokens/s of the cluster, or requests/s of a pool's replica."""
        return self.known.value

    @property
    def units(self) -> Float[np.ndarray, " candidates"]:
        """The largest allowed batch units, 0 if none are."""
        return self.known.units


def search(
    served: Served,
    every: Candidates,
    keep: float = 1.0,
    found: Found | None = None,
) -> Found:
    """The largest allowed batch of every candidate that is not beaten.

    Args:
        served: model, service and draft, concrete; the relaxed model is not searched.
        every: candidates.
        keep: one-pool candidates are dropped that cannot reach this share of the best of their
            way; all candidates of pools are kept.
        found: what is known already, from `search` or `tightened`.
    """
    ask, kinds = asking(served, asked_once(served), every), _class(every.kind)
    known = unknown(length(every)) if found is None else _copy(found.known)
    seen = None if found is None else _copy(found.seen)
    while True:
        best = _best(known.value, kinds) * keep
        rows = _urgent(known, known.unsettled & (known.bound > best[kinds] * (1.0 - EQUAL)))
        if seen is not None and not len(rows):
            return Found(known, seen)
        before = known.take(rows)
        beats = beating(served, take(every.layout, rows), best[kinds[rows]])
        units = next_units(before, beats, served.service.workload.tpot_limit)
        done = step(ask, before, Rows(0 * rows, rows), units)
        put(known, rows, done.known)
        seen = like(done.came.trial, len(known.low)) if seen is None else seen
        put(seen, rows[done.shown], done.came.trial)


def tightened(served: Served, every: Candidates, found: Found) -> Found:
    """What is known under a limit on time per token that is tighter than the one searched under.

    Args:
        served: with the tighter limit.
        every: candidates.
        found: under the looser one, all else being equal.
    """
    kept = within(found.known.fast, served.service.workload.tpot_limit) | (every.kind == READER)
    return replace(found, known=narrowing.tightened(found.known, (found.units > 0.0) & ~kept))


def _class(kind: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
    """Candidates that compete: mixed, alternating, and none for pools."""
    return np.where(kind >= WRITER, 2, np.where(kind == ALTERNATING, 1, 0))


def _best(value: np.ndarray, kinds: np.ndarray) -> Float[np.ndarray, "3"]:
    """The best so far of mixed and of alternating candidates; 0 for pools, which all stay."""
    both = [np.max(value, where=kinds == place, initial=0.0) for place in (0, 1)]
    return np.array([*both, 0.0])


def _urgent(known: Known, active: Bool[np.ndarray, " candidates"]) -> Int[np.ndarray, " rows"]:
    """What is tried next: some evenly over the list where nothing is known, then what may serve
    most.
    """
    rows = np.flatnonzero(active)
    if len(rows) > FIRST and not known.trials.any():
        return rows[:: -(-len(rows) // FIRST)]
    return rows[np.argsort(-known.bound[rows], kind="stable")[:ROUND]]


def beating(
    served: Served, layout: Deployment, best: Float[np.ndarray, " rows"]
) -> Float[np.ndarray, " rows"]:
    """Units with which each layout serves no more than the best so far, at the limit on time per
    token.
    """
    devices, limit = served.service.cluster.devices, served.service.workload.tpot_limit
    unit = layout.data * layout.pipeline
    replicas = np.maximum(np.floor(devices / (layout.tensor * unit)), 1.0)
    return np.floor(best * limit / (replicas * unit))


def _copy(tree: Tree) -> Tree:
    return jax.tree.map(np.copy, tree)


# ---- the best of each way ------------------------------------------------------------------------


class Best(Record):
    """The best plan of one way."""

    plan: Plan
    throughput: Scalar
    """Output tokens of the cluster, 0 where nothing is feasible [tokens/s]."""
    feasible: Bool[np.ndarray, ""]


def best_one_pool(every: Candidates, found: Found, place: int) -> Best:
    """The best of the mixed (0) or of the alternating (1) candidates."""
    mine = np.where(_class(every.kind) == place, found.value, 0.0)
    index = int(np.argmax(mine >= np.max(mine) * (1.0 - EQUAL)))
    return Best(one_pool_plan(every, found, index), np.max(mine), np.max(mine) > 0.0)


def one_pool_plan(every: Candidates, found: Found, index: int) -> Plan:
    """The plan of a mixed or alternating candidate with its most units, one at least."""
    layout = layout_at(take(every, index), np.maximum(found.units[index], 1.0))
    return Plan(layout, layout, found.seen.tokens[index])
