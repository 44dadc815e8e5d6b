"""One candidate at one batch: what it serves, and whether it keeps the limits, by the same formulas
as `metrics`, without the record.
"""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Bool

from qsopt import xp
from qsopt.arrays import Scalar, number
from qsopt.physics import placement
from qsopt.physics.evaluate import whole_units
from qsopt.physics.memory import Memory, decoding
from qsopt.record import Record
from qsopt.serving.candidates import MIXED, READER, UNIFORM, WRITER, Candidates, chunk_length
from qsopt.serving.disaggregated import reading_pool, taken, writing_pool
from qsopt.serving.metrics import fits, within
from qsopt.serving.one_pool import blended, decoding_only, loads, needed, reading_only
from qsopt.serving.pace import Pace
from qsopt.serving.queue import busiest
from qsopt.serving.replica import Served, held, times
from qsopt.spec.deployment import Deployment


class Trial(Record):
    """What came of a candidate at a batch."""

    allowed: Bool[Array, ""]
    """Whether it keeps the limits that it knows; a reader's time to first token also depends on
    the writers.
    """
    too_small: Bool[Array, ""]
    """Whether a larger batch may be allowed where this one is not: chunks of uniform steps grow
    with it, so that prompts take fewer of them.
    """
    pace: Pace
    memory: Memory
    value: Scalar = number()
    """Output tokens of the cluster [tokens/s], or of a pool's replica its requests [1/s]."""
    tokens: Scalar = number()
    """Prompt tokens of a forward that carries any [tokens]."""
    ttft: Scalar = number()
    """Time to first token, without the cache's way between pools [s]."""
    devices: Scalar = number()
    """Devices that a replica takes."""
    replicas: Scalar = number()
    """Replicas that the whole cluster holds."""


def layout_at(candidate: Candidates, units: Scalar) -> Deployment:
    """The candidate's layout with so many batch units of pipeline * data sequences."""
    layout = candidate.layout
    return eqx.tree_at(lambda d: d.batch, layout, units * layout.pipeline * layout.data)


def tokens_of(served: Served, candidate: Candidates, layout: Deployment) -> Scalar:
    """Prompt tokens of a forward that carries any."""
    workload = served.service.workload
    budget = chunk_length(workload.read, candidate.chunk) * layout.data
    least = needed(workload, layout) / busiest(workload.load)
    return xp.where(candidate.kind == UNIFORM, least, budget)


def trial(served: Served, candidate: Candidates, units: Scalar) -> Trial:
    """What a candidate reaches with so many batch units."""
    kind, layout = candidate.kind, layout_at(candidate, units)
    workload, service = served.service.workload, served.service
    beside = xp.where((kind == MIXED) | (kind == UNIFORM), 1.0, 0.0)
    tokens = tokens_of(served, candidate, layout)
    both = loads(served, layout, tokens, beside, candidate.sharing)
    loaded, bare = times(served, layout, both.loaded, both.bare)
    pace, occupancy = _chosen(
        kind,
        blended(served, layout, both, (loaded, bare), beside),
        decoding_only(served, layout, bare),
        reading_only(served, layout, both.loaded, loaded),
    )
    replicas = placement.replicas(service.cluster, layout, service.rules.whole_domains)
    one_pool = (kind != WRITER) & (kind != READER)
    memory, tpot = held(served, layout, occupancy), pace.unit.seconds
    rest = fits(memory) & (replicas >= 1.0)
    rest &= within(tpot, workload.tpot_limit) | (kind == READER)
    rest &= pace.keeps_up(workload) | ~one_pool
    first = pace.ttft(workload)
    ttft = within(first, workload.ttft_limit) | ~one_pool
    chunked = both.loaded.chunk.length < workload.read
    value = _chosen(
        kind,
        replicas * layout.batch / tpot,
        writing_pool(served, layout, pace).rate,
        reading_pool(served, layout, candidate.sharing, pace).rate,
    )
    return Trial(
        allowed=rest & ttft,
        too_small=rest & ~ttft & chunked & (kind == UNIFORM),
        pace=pace,
        memory=memory,
        value=value,
        tokens=tokens,
        ttft=first,
        devices=taken(served, layout),
        replicas=replicas,
    )


def _chosen(kind: Any, one_pool: Any, writer: Any, reader: Any) -> Any:
    """The value for a candidate's kind, of records too."""
    return jax.tree.map(
        lambda a, b, c: xp.where(kind == WRITER, b, xp.where(kind == READER, c, a)),
        one_pool,
        writer,
        reader,
    )


def most_units(served: Served, candidate: Candidates) -> Scalar:
    """A bound on the batch units of a candidate: what fits beside weights, and of mixed steps what
    chunks can keep up with. A reader needs one.
    """
    workload, one = served.service.workload, layout_at(candidate, xp.ones(()))
    by_memory = whole_units(held(served, one, decoding(one, workload)), xp.ones(()))
    tokens = tokens_of(served, candidate, one)
    keeping = xp.floor(tokens * busiest(workload.load) / needed(workload, one) * (1.0 + 1e-9))
    mixed = xp.where(candidate.kind == MIXED, xp.minimum(by_memory, keeping), by_memory)
    return xp.where(candidate.kind == READER, 1.0, mixed)
