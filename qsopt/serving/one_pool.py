"""One pool that reads prompts and writes answers: in mixed steps, or alternating.

While B sequences write A tokens a step, c = (B/p) A i/osl prompt tokens must be read for each
microbatch, i of a prompt not being cached. A share phi = c/C of the steps comes with C prompt
tokens, the rest with none.

* Mixed (continuous batching with chunked prefill): decode and prompt tokens in one forward, so
  weights are read once for both:
      TPOT = (phi step(B, C) + (1 - phi) step(B, 0)) / A
  These are bursts; with C = c every step is the same: uniform. Neither is always better: small
  chunks read and expand the cache again and again, large ones stall decoding.
* Alternating: prompts in forwards of their own, while decoding waits:
      TPOT = (step(B, 0) + share phi step(0, C)) / A
  which is step/A + share B prefill/osl. `share` is 1 where decoding stands still; that of a server
  which hides some of it is fitted (`Server.interference`). It is bursts without decode tokens
  beside the prompts.

Both are one formula with a number that says whether sequences decode beside prompts. A prompt is
read in ceil(i D/C) forwards that follow each other. Ignored: last chunks of prompts are as full as
others.
"""

from qsopt import xp
from qsopt.arrays import Scalar
from qsopt.physics import smooth
from qsopt.physics.memory import Occupancy, decoding
from qsopt.physics.prefill import forwards
from qsopt.physics.server import first_token
from qsopt.record import Record
from qsopt.serving.pace import AtWork, Pace
from qsopt.serving.replica import Forward, Served, carrying, time, times
from qsopt.serving.span import Span
from qsopt.spec.deployment import Deployment
from qsopt.spec.workload import Workload

MIXED, ALTERNATING = 1.0, 0.0
"""Whether sequences decode beside prompts."""

BESIDE = {"mixed": MIXED, "alternating": ALTERNATING}
"""The same by the name of the way."""


class Loads(Record):
    """The two forwards of a replica."""

    loaded: Forward
    """With prompts."""
    bare: Forward
    """Without."""


def needed(workload: Workload, deployment: Deployment) -> Scalar:
    """Prompt tokens that a microbatch must read in a mean step, c [tokens]."""
    sequences = deployment.batch / deployment.pipeline
    return sequences * workload.accepted * workload.read / workload.answer


def loads(
    served: Served,
    deployment: Deployment,
    tokens: Scalar,
    beside: Scalar | float,
    sharing: Scalar | float = 1.0,
) -> Loads:
    """Forwards with `tokens` prompt tokens, beside which sequences decode or not, and without."""
    sequences = deployment.batch / deployment.pipeline
    return Loads(
        carrying(served, deployment, beside * sequences, tokens, sharing),
        carrying(served, deployment, sequences, 0.0 * tokens),
    )


def one_pool(
    served: Served, deployment: Deployment, tokens: Scalar, beside: Scalar | float
) -> AtWork:
    """A replica that reads and writes.

    Args:
        served: model, service and draft.
        deployment: layout and batch of a replica.
        tokens: C, prompt tokens of a microbatch in a step that comes with any.
        beside: `MIXED` or `ALTERNATING`.
    """
    both = loads(served, deployment, tokens, beside)
    spans = times(served, deployment, both.loaded, both.bare)
    return blended(served, deployment, both, spans, beside)


def blended(
    served: Served,
    deployment: Deployment,
    both: Loads,
    spans: tuple[Span, Span],
    beside: Scalar | float,
) -> AtWork:
    """The replica that follows from the times of both forwards."""
    workload, server = served.service.workload, served.service.efficiency.server
    pipeline, chunk = deployment.pipeline, both.loaded.chunk
    share = needed(workload, deployment) / chunk.tokens
    forward, step = spans[0], spans[1].times(pipeline)
    waits = share * (beside + (1.0 - beside) * server.interference)
    prompts = forward.times(pipeline * waits)
    several = step.times(1.0 - beside * share) + prompts
    count = forwards(chunk, served.softness)
    pace = Pace(
        unit=several.times(1.0 / workload.accepted),
        first=(count + pipeline - 1.0) * forward.seconds + first_token(server, served.model),
        service=count * forward.seconds,
        reading=beside * share + (1.0 - beside) * prompts.seconds / several.seconds,
        finished=chunk.finished,
    )
    return AtWork(pace, _occupancy(served, deployment, both, count, beside))


def _occupancy(
    served: Served, deployment: Deployment, both: Loads, count: Scalar, beside: Scalar | float
) -> Occupancy:
    """Prompts in progress come on top of what decodes in mixed steps, and take the places of
    sequences that have ended where both alternate; the largest forward counts.
    """
    new, softness = served.service.workload.tokens_per_step, served.softness
    chunk, without = both.loaded.chunk, both.bare.sequences * new
    together = both.loaded.sequences * new
    return Occupancy(
        deployment.batch,
        beside * chunk.finished * (count + deployment.pipeline - 1.0),
        chunk.end,
        smooth.maximum(together + chunk.tokens, without, softness),
        smooth.maximum(together + chunk.finished, without, softness),
    )


def alone(served: Served, deployment: Deployment) -> AtWork:
    """A replica that decodes alone: prompts come from elsewhere."""
    sequences = deployment.batch / deployment.pipeline
    bare = carrying(served, deployment, sequences, 0.0 * sequences)
    return decoding_only(served, deployment, time(served, deployment, bare))


def decoding_only(served: Served, deployment: Deployment, without: Span) -> AtWork:
    """The replica that follows from the time of a forward without prompts."""
    workload, none = served.service.workload, 0.0 * deployment.batch
    step = without.times(deployment.pipeline)
    pace = Pace(step.times(1.0 / workload.accepted), none, none, none, none)
    return AtWork(pace, decoding(deployment, workload))


def reading_only(served: Served, deployment: Deployment, reading: Forward, spent: Span) -> AtWork:
    """A replica that only reads prompts, from the time of its forward."""
    pipeline, chunk = deployment.pipeline, reading.chunk
    count = forwards(chunk, served.softness)
    turns, server = count + pipeline - 1.0, served.service.efficiency.server
    pace = Pace(
        unit=spent.times(1.0 / chunk.finished),
        first=turns * spent.seconds + first_token(server, served.model),
        service=count * spent.seconds,
        reading=xp.ones_like(turns),
        finished=chunk.finished,
    )
    in_progress = chunk.finished * turns
    occupancy = Occupancy(0.0 * turns, in_progress, chunk.end, chunk.tokens, chunk.finished)
    return AtWork(pace, occupancy)
