"""Prefill: the time to read prompts, in forwards of so many tokens, from the operators of a decode
step.

A forward reads c tokens, c/D on each attention rank (or c x/D on x ranks that share a prompt):
chunks of long prompts, or several whole short ones. Weights are read once for all of them,
attention is causal, and only the last token of a prompt passes the head. Chunks fill the stages of
a pipeline, so n chunks take n + p - 1 times the slowest stage. Of a prompt only what is not cached
is read. Times are those of a server (see `server`). Ignored: the encoder's own forward
(encoder-decoder models), chunks of unequal length.
"""

import equinox as eqx
import jax

from qsopt import xp
from qsopt.arrays import EXACT, Scalar, Softness, number
from qsopt.physics import smooth
from qsopt.physics.chunks import Chunk
from qsopt.physics.load import reading
from qsopt.physics.roofline import Spent
from qsopt.physics.server import first_token, served_parts
from qsopt.physics.stage import Stage
from qsopt.physics.step import by_operator, microbatch
from qsopt.programs import evaluated
from qsopt.record import Record
from qsopt.spec.counterfactual import ACTUAL, Counterfactual
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

LEAST = 1e-6
"""What a share of no tokens is taken for, so that there is a length to divide by [tokens]."""

ALMOST = 1.0 - 1e-9
"""A quotient this close above a whole number is that number."""


class Prefill(Record):
    """How one replica reads prompts."""

    spent: Spent
    """Time of one forward in the slowest stage by operator (see `step.OPERATORS`)."""
    chunk: Chunk
    """What one forward reads."""
    forwards: Scalar = number()
    """Forwards that one prompt takes, one after the other, n."""
    pipeline: Scalar = number()
    """Stages, p."""

    @property
    def seconds(self) -> Scalar:
        """Time of one forward in the slowest stage [s]."""
        return xp.sum(self.spent.seconds)

    @property
    def latency(self) -> Scalar:
        """Time from the first chunk of a prompt to its first token, (n + p - 1) forwards [s]."""
        return (self.forwards + self.pipeline - 1.0) * self.seconds

    @property
    def per_prompt(self) -> Scalar:
        """Time that a prompt takes of a full pipeline [s]."""
        return self.seconds / self.chunk.finished

    @property
    def in_progress(self) -> Scalar:
        """Prompts that a full pipeline holds at once."""
        return self.chunk.finished * (self.forwards + self.pipeline - 1.0)


def chunk_of(
    workload: Workload,
    deployment: Deployment,
    tokens: Scalar,
    sharing: Scalar | float = 1.0,
    softness: Softness = EXACT,
) -> Chunk:
    """What a forward of `tokens` prompt tokens reads: equal shares on all attention ranks, of one
    prompt where prompts are longer than a share, of several whole ones where they are shorter.
    """
    prompt = workload.context if workload.prompt is None else workload.prompt
    share = xp.maximum(tokens * sharing / deployment.data, LEAST)
    length = smooth.minimum(share, workload.read, softness)
    begin = xp.maximum(prompt - workload.read, 0.0)
    return Chunk(tokens, length, begin, begin + workload.read, sharing)


def forwards(chunk: Chunk, softness: Softness = EXACT) -> Scalar:
    """Forwards that one prompt takes, n."""
    return smooth.ceil((chunk.end - chunk.begin) / chunk.length * ALMOST, softness)


def prefill_phase(
    model: Model,
    service: Service,
    deployment: Deployment,
    tokens: Scalar,
    sharing: Scalar | float = 1.0,
    world: Counterfactual = ACTUAL,
    softness: Softness = EXACT,
) -> Prefill:
    """How a replica that does nothing else reads prompts, `tokens` of them in a forward."""
    chunk = chunk_of(service.workload, deployment, tokens, sharing, softness)
    load = reading(chunk, service.workload.encoder_tokens)
    accelerator = service.cluster.accelerator
    stage = Stage(model, accelerator, load, deployment, service.efficiency, world, softness)
    spent = by_operator(served_parts(microbatch(stage), stage))
    return Prefill(spent, chunk, forwards(chunk, softness), deployment.pipeline)


@evaluated
def compiled_prefill(model: Model, service: Service, deployment: Deployment) -> Spent:
    """Time to read one prompt on each attention data rank, whole, in one forward.

    The prompt is that of the workload but for its cached share, or, with a context alone, one of
    that length; the deployment's batch does not count.

    Returns:
        `Spent`: its `seconds` are the time to first token without any waiting [s].
    """
    tokens = deployment.data * service.workload.read
    found = prefill_phase(model, service, deployment, tokens)
    whole = jax.tree.map(xp.sum, found.spent).times(deployment.pipeline)
    late = first_token(service.efficiency.server, model)
    return eqx.tree_at(
        lambda s: (s.seconds, s.latency), whole, (whole.seconds + late, whole.latency + late)
    )
