"""Many trials at once, each of a candidate under a question of its own: the one compiled function
of the search over ways of serving.

Everything else of the search is bookkeeping of arrays in NumPy, so that questions of one model's
structure, few or many, under any limits and on any cluster, share a compilation.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from qsopt.arrays import Scalar, number
from qsopt.deployments.batches import pad_to, take
from qsopt.programs import compiled
from qsopt.record import Record
from qsopt.serving.candidates import Candidates
from qsopt.serving.metrics import fits
from qsopt.serving.replica import Served
from qsopt.serving.trial import Trial, most_units, trial
from qsopt.spec.hardware import Cluster
from qsopt.spec.workload import Workload

AT_ONCE = 512
"""Trials that one call of the compiled function makes: few enough that the last rounds of a search,
with few candidates left, are quick.
"""

MANY_AT_ONCE = 4096
"""The same where there are many."""

FEW_AT_ONCE = 64
"""The same where a search has few candidates in all, as on small clusters."""

AHEAD = 4
"""Calls that are under way while the next is prepared."""


class Asked(Record):
    """What may differ between questions of one search; with arrays for numbers, many of them."""

    cluster: Cluster
    workload: Workload


class Rows(NamedTuple):
    """Which candidate is tried under which question."""

    question: Int[np.ndarray, " rows"]
    candidate: Int[np.ndarray, " rows"]
    chunk: Int[np.ndarray, " rows"] | None = None
    """Indices of `chunk_length` instead of the candidates' own."""

    def take(self, kept: np.ndarray) -> "Rows":
        """Some of them."""
        chunk = None if self.chunk is None else self.chunk[kept]
        return Rows(self.question[kept], self.candidate[kept], chunk)


class Outcome(Record):
    """What came of a row, as far as a search needs it."""

    allowed: Bool[Array, ""]
    too_small: Bool[Array, ""]
    value: Scalar = number()
    tpot: Scalar = number()
    """Time per token; where prompts are only read, for each of them [s]."""
    ttft: Scalar = number()
    """Time to first token, without the cache's way between pools [s]."""
    devices: Scalar = number()
    """Devices that a replica takes."""
    units: Scalar = number()
    """Batch units that it was tried at: no more than memory and chunks allow."""
    fits: Bool[Array, ""] = True  # pyright: ignore[reportAssignmentType]
    """Whether a device holds what it must with them."""


class Tried(Record):
    """What came of a row."""

    outcome: Outcome
    trial: Trial


Units = Float[np.ndarray, " rows"]


@dataclass(frozen=True)
class Ask:
    """What tries rows with so many batch units each, and says what came of them, in NumPy."""

    size: int
    """Rows that one call of the compiled function takes."""
    call: Callable[[Rows, Units], Any]
    """That call."""

    def __call__(self, rows: Rows, units: Units) -> Any:
        """What came of each row."""
        parts, waiting = [], deque()
        for start in range(0, len(units), self.size):
            here = slice(start, start + self.size)
            waiting.append(self.call(rows.take(here), units[here]))  # pyright: ignore[reportArgumentType]
            if len(waiting) > AHEAD:
                parts.append(jax.tree.map(np.asarray, waiting.popleft()))
        parts += [jax.tree.map(np.asarray, each) for each in waiting]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(units)], *parts)


def asked_once(served: Served) -> Asked:
    """The one question of a service, as a batch."""
    one = Asked(served.service.cluster, served.service.workload)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[None], one)


def asking(
    served: Served,
    questions: Asked,
    every: Candidates,
    capped: bool = True,
    briefly: bool = False,
    often: bool = False,
) -> Ask:
    """What tries rows, and answers with `Tried`.

    Args:
        served: what no question changes.
        questions: a batch of them.
        every: candidates.
        capped: whether units are cut to the most that memory and chunks allow.
        briefly: whether many rows are to be tried of which the `Outcome` is enough.
        often: whether searches among many candidates follow each other, so that a program that is
            quicker is worth the time that it takes to compile.
    """
    count = len(every.kind) * (len(jax.tree.leaves(questions)[0]) if briefly else 1)
    size = _at_once(count, briefly)
    quick = _tried_often if often and size > FEW_AT_ONCE else _tried
    function = _outcomes if briefly else quick
    several = len(jax.tree.leaves(questions)[0]) > 1
    always = None if several else take(questions, np.zeros(size, dtype=int))

    def call(rows: Rows, units: Units) -> Any:
        some = take(every, pad_to(rows.candidate, size))
        if rows.chunk is not None:
            some = some._replace(chunk=pad_to(rows.chunk, size))
        asked = take(questions, pad_to(rows.question, size)) if several else always
        return function(served, asked, some, pad_to(units, size), np.asarray(capped))

    return Ask(size, call)


def _at_once(count: int, briefly: bool) -> int:
    """Trials of a call, for so many candidates, or candidates at points."""
    if briefly:
        return MANY_AT_ONCE if count > 16 * MANY_AT_ONCE else AT_ONCE
    return AT_ONCE if count > AT_ONCE // 2 else FEW_AT_ONCE


def _one(
    served: Served, question: Asked, candidate: Candidates, units: Scalar, capped: Scalar
) -> Tried:
    """A row at its units; capped, at the most that memory and chunks allow where those are fewer,
    and at one where not even one is, which is then not allowed.
    """
    here = eqx.tree_at(
        lambda s: (s.service.cluster, s.service.workload),
        served,
        (question.cluster, question.workload),
    )
    most = most_units(here, candidate)
    at = jnp.where(capped, jnp.clip(units, 1.0, jnp.maximum(most, 1.0)), units)
    came = trial(here, candidate, at)
    came = eqx.tree_at(lambda t: t.allowed, came, came.allowed & ((most >= 1.0) | ~capped))
    tpot = came.pace.unit.seconds
    brief = (
        came.allowed,
        came.too_small,
        came.value,
        tpot,
        came.ttft,
        came.devices,
        at,
        fits(came.memory),
    )
    return Tried(Outcome(*brief), came)


_each = jax.vmap(_one, in_axes=(None, 0, 0, 0, None))


def _trials(served: Served, questions: Asked, some: Candidates, units, capped) -> Tried:
    return _each(served, questions, some, units, capped)


Options = dict[str, bool | int | str]
OFTEN: Options = {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": True}
"""What the compiler is asked for where the process compiles in haste (see `cli.runtime`): a program
that takes 1.8 times as long to compile and 0.4 of the time to run.
"""
MANY: Options = {"xla_backend_optimization_level": 2}
"""The same for many rows: 1.1 times as long to compile, and 0.35 of the time to run."""

_tried, _tried_often = compiled(_trials), compiled(_trials, options=OFTEN)


@partial(compiled, options=MANY)
def _outcomes(served: Served, questions: Asked, some: Candidates, units, capped) -> Outcome:
    return _each(served, questions, some, units, capped).outcome
