"""Many trials at once, each of a candidate under a question of its own: the one compiled function
of the search over ways of serving.

Everything else of the search is bookkeeping of arrays in NumPy, so that questions of one model's
structure, few or many, under any limits and on any cluster, share a compilation.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from qsopt.arrays import Scalar
from qsopt.deployments.batches import pad_to, take
from qsopt.record import Record
from qsopt.serving.candidates import Candidates
from qsopt.serving.replica import Served
from qsopt.serving.trial import Trial, most_units, trial
from qsopt.spec.hardware import Cluster
from qsopt.spec.workload import Workload

AT_ONCE = 512
"""Trials that one call of the compiled function makes: few enough that the last rounds of a search,
with few candidates left, are quick.
"""


class Asked(Record):
    """What may differ between questions of one search; with arrays for numbers, many of them."""

    cluster: Cluster
    workload: Workload


class Rows(NamedTuple):
    """Which candidate is tried under which question."""

    question: Int[np.ndarray, " rows"]
    candidate: Int[np.ndarray, " rows"]

    def take(self, kept: np.ndarray) -> "Rows":
        """Some of them."""
        return Rows(self.question[kept], self.candidate[kept])


class Tried(Record):
    """What came of a row."""

    trial: Trial
    units: Scalar
    """Batch units that it was tried at: no more than memory and chunks allow."""


Ask = Callable[[Rows, Float[np.ndarray, " rows"]], Tried]
"""From rows and the batch units of each to what came of them, in NumPy."""


def asked_once(served: Served) -> Asked:
    """The one question of a service, as a batch."""
    one = Asked(served.service.cluster, served.service.workload)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[None], one)


def asking(served: Served, questions: Asked, every: Candidates, capped: bool = True) -> Ask:
    """The function that tries rows.

    Args:
        served: what no question changes.
        questions: a batch of them.
        every: candidates.
        capped: whether units are cut to the most that memory and chunks allow.
    """

    def ask(rows: Rows, units: Float[np.ndarray, " rows"]) -> Tried:
        count = len(units)
        parts = [
            _tried(
                served,
                take(questions, _filled(rows.question[start : start + AT_ONCE])),
                take(every, _filled(rows.candidate[start : start + AT_ONCE])),
                pad_to(units[start : start + AT_ONCE], AT_ONCE),
                np.asarray(capped),
            )
            for start in range(0, count, AT_ONCE)
        ]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *parts)

    return ask


def _filled(places: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
    return pad_to(places, AT_ONCE)


@jax.jit
def _tried(
    served: Served, questions: Asked, some: Candidates, units: Scalar, capped: Scalar
) -> Tried:
    """Each row at its units; capped, at the most that memory and chunks allow where those are
    fewer, and at one where not even one is, which is then not allowed.
    """

    def one(question: Asked, candidate: Candidates, units: Scalar) -> Tried:
        here = eqx.tree_at(
            lambda s: (s.service.cluster, s.service.workload),
            served,
            (question.cluster, question.workload),
        )
        most = most_units(here, candidate)
        at = jnp.where(capped, jnp.clip(units, 1.0, jnp.maximum(most, 1.0)), units)
        came = trial(here, candidate, at)
        allowed = came.allowed & ((most >= 1.0) | ~capped)
        return Tried(eqx.tree_at(lambda t: t.allowed, came, allowed), at)

    return jax.vmap(one)(questions, some, units)
