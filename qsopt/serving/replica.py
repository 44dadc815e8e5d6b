"""A replica at work: the time of its forwards, which carry decoding sequences, prompt tokens or
both, and what it holds.

Sequences, prompts and budgets are those of a replica; a forward is one of its p microbatches, timed
in the slowest stage.
"""

from collections.abc import Callable
from operator import itemgetter
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from qsopt import xp
from qsopt.arrays import EXACT, Scalar, Softness
from qsopt.physics import server
from qsopt.physics.chunks import Chunk, runs
from qsopt.physics.load import Load
from qsopt.physics.memory import Memory, Occupancy, memory
from qsopt.physics.prefill import chunk_of
from qsopt.physics.stage import Stage
from qsopt.physics.step import microbatch, whole
from qsopt.record import Record
from qsopt.serving.span import Span
from qsopt.serving.speculation import Draft, draft_bytes, draft_stage
from qsopt.spec.counterfactual import ACTUAL, Counterfactual
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service
from qsopt.xp import any_of_jax

R = TypeVar("R")


class Served(Record):
    """A model, what it is served on and for, and how it drafts."""

    model: Model
    service: Service
    """With a workload of requests, except for decode alone."""
    draft: Draft | None = None
    """What makes drafts; None where proposing `tokens_per_step` costs nothing."""
    world: Counterfactual = ACTUAL
    softness: Softness = EXACT
    """0 for the exact model, above 0 for the relaxed one."""


class Forward(Record):
    """What one forward carries."""

    sequences: Scalar
    """Decoding sequences of the microbatch."""
    chunk: Chunk
    """Prompt tokens."""


def carrying(
    served: Served,
    deployment: Deployment,
    sequences: Scalar,
    tokens: Scalar,
    sharing: Scalar | float = 1.0,
) -> Forward:
    """A forward of so many decoding sequences and prompt tokens."""
    workload, softness = served.service.workload, served.softness
    return Forward(sequences, chunk_of(workload, deployment, tokens, sharing, softness))


def times(
    served: Served, deployment: Deployment, loaded: Forward, bare: Forward
) -> tuple[Span, Span]:
    """What each of two forwards takes."""
    return _of_both(lambda forward: time(served, deployment, forward), loaded, bare)


def time(served: Served, deployment: Deployment, forward: Forward) -> Span:
    """What a forward takes of a server, with its drafts."""
    workload = served.service.workload
    new = workload.tokens_per_step
    load = _load(served, forward.sequences, new, forward.chunk)
    accelerator, efficiency = served.service.cluster.accelerator, served.service.efficiency
    world, softness = served.world, served.softness
    stage = Stage(served.model, accelerator, load, deployment, efficiency, world, softness)
    bare = _span(stage) if served.draft is None else _with_drafts(served, stage, forward)
    return Span(server.served(bare.seconds, stage), bare.compute, bare.memory)


def _with_drafts(served: Served, stage: Stage, forward: Forward) -> Span:
    """Operators of a forward and of the drafts before it, which its host starts along."""
    draft, new = served.draft, served.service.workload.tokens_per_step
    assert draft is not None
    sequences, chunk, one = forward.sequences, forward.chunk, xp.ones_like(new)
    writes, more = xp.where(sequences > 0, 1.0, 0.0), new - 1.0
    # where nothing decodes or nothing is read, a load of one that counts nothing
    some = xp.where(sequences > 0, sequences, 1.0)
    unread, read = (
        eqx.tree_at(lambda c: c.tokens, chunk, tokens)
        for tokens in (0.0 * chunk.tokens, xp.maximum(chunk.tokens, 1.0))
    )
    counts = more * writes, xp.clip(more, 0.0, 1.0) * runs(chunk.tokens)
    drafts = _of_both(
        lambda load: _span(draft_stage(draft, stage, load)),
        _load(served, some, one, unread),
        _load(served, 0.0 * some, one, read),
    )
    return _span(stage) + drafts[0].times(counts[0]) + drafts[1].times(counts[1])


def _of_both(function: Callable[[R], Span], one: R, other: R) -> tuple[Span, Span]:
    """A function of two records of one structure, in turn: it compiles in the time of one."""
    if not any_of_jax((one, other)):
        return function(one), function(other)
    both = jax.tree.map(lambda *leaves: jnp.stack(jnp.broadcast_arrays(*leaves)), one, other)
    found = lax.map(function, both)
    first, second = (jax.tree.map(itemgetter(place), found) for place in range(2))
    return first, second


def _load(served: Served, sequences: Scalar, new: Scalar, chunk: Chunk) -> Load:
    workload = served.service.workload
    return Load(sequences, new, workload.context, workload.encoder_tokens, new, chunk)


def _span(stage: Stage) -> Span:
    spent = whole(microbatch(stage))
    return Span(spent.seconds, spent.compute, spent.memory)


def held(served: Served, deployment: Deployment, occupancy: Occupancy) -> Memory:
    """Memory of the fullest device, with the draft's weights and cache."""
    service, world, softness = served.service, served.world, served.softness
    found = memory(served.model, service, deployment, world, softness, occupancy)
    if served.draft is None:
        return found
    extra = draft_bytes(served.draft, service, deployment, occupancy, world, softness)
    return eqx.tree_at(lambda m: m.weights, found, found.weights + extra)
