"""From the operators of a forward to the time that a server takes for it: the one place where what
a server adds is counted, for a decode step and for requests alike.

    seconds = scale (operators) + host,     host = fixed + layers * (time for each layer)

A forward that decodes is a p-th of a step, and takes a p-th of the step's host time; its scale
differs with the format of the weights. One that only reads prompts has a scale and a host time of
its own. A first token comes later than its prompt is read, by a time for each layer. The default
`Server` adds nothing.

Of host times that were fitted to end-to-end results, one for each layer carries over best to models
and accelerators that were left out; none that grows with the batch or the devices was found beside
it.
"""

import equinox as eqx

from qsopt.arrays import Scalar, entry
from qsopt.physics import chunks
from qsopt.physics.roofline import Spent
from qsopt.physics.stage import Stage
from qsopt.physics.step import Parts
from qsopt.spec.efficiency import Server
from qsopt.spec.formats import Format
from qsopt.spec.model import Model, moe_layers


def served(seconds: Scalar, stage: Stage) -> Scalar:
    """What a server takes for a forward whose operators take so long [s].

    Args:
        seconds: of `step.microbatch`.
        stage: the same that it was asked of.
    """
    scale, host = _scale_and_host(stage)
    return seconds * scale + host


def served_parts(parts: Parts, stage: Stage) -> Parts:
    """A forward as a server takes it: its operators by the server's scale, and the host's part as
    one of its own. They add up to `served`.
    """
    scale, host = _scale_and_host(stage)
    scaled = [
        (name, eqx.tree_at(lambda s: s.seconds, spent, spent.seconds * scale))
        for name, spent in parts
    ]
    return [*scaled, ("host", Spent(seconds=host, latency=host))]


def host_of_step(server: Server, model: Model) -> Scalar:
    """What a server adds to a decode step through all stages [s]."""
    return server.host + server.host_layer * model.layers


def step_format(model: Model) -> Format:
    """The format that a step's scale goes by: of the routed experts, or of the feed-forward layers
    of a model without any.
    """
    precision = model.precision
    return precision.ffn if moe_layers(model) is None else precision.experts


def step_scale(server: Server, model: Model) -> Scalar:
    """What a server multiplies the operators' time of a decode step by."""
    return server.scale * entry(server.by_format, step_format(model).index)


def first_token(server: Server, model: Model) -> Scalar:
    """What a first token takes beyond the reading of its prompt, while other requests go on [s]."""
    return server.first_layer * model.layers


def _scale_and_host(stage: Stage) -> tuple[Scalar, Scalar]:
    """What a server multiplies the operators' time of a forward by, and what it adds [s]."""
    server, load = stage.efficiency.server, stage.load
    step = host_of_step(server, stage.model) / stage.deployment.pipeline
    scale = step_scale(server, stage.model)
    if load.chunk is None:
        return scale, step
    decodes = chunks.runs(load.sequences)
    return (
        decodes * scale + (1.0 - decodes) * server.prefill_scale,
        decodes * step + (1.0 - decodes) * server.prefill_host,
    )
