"""The largest buffers of a forward on one device: its layers' activations, or what sampling needs.

Both are never held at once, so the larger counts. Ignored: what a compiled graph saves or wastes
between the two.
"""

from typing import Any

from qsopt import xp
from qsopt.arrays import EXACT, Scalar, Softness
from qsopt.physics import layer_weights, smooth
from qsopt.spec.deployment import Deployment
from qsopt.spec.efficiency import Efficiency
from qsopt.spec.hardware import Accelerator
from qsopt.spec.layers import DenseFfn, Gqa, Layers, LinearAttention, Mla, MoeFfn
from qsopt.spec.model import Model


def peak(
    model: Model,
    deployment: Deployment,
    efficiency: Efficiency,
    tokens: Scalar,
    rows: Scalar,
    softness: Softness = EXACT,
) -> Scalar:
    """Largest buffers of a forward of a stage's microbatch [byte].

    Args:
        model: what is served.
        deployment: parallel sizes.
        efficiency: its `workspace` and `memory.logit_bytes`.
        tokens: of the microbatch, over all attention data ranks [tokens].
        rows: those of them whose next token is sampled [tokens].
        softness: of the relaxed model.
    """
    width = _layer_elements(model, deployment, tokens, rows, softness)
    layers = efficiency.workspace * model.precision.activation_bytes * width
    logits = efficiency.memory.logit_bytes * model.vocabulary * rows / deployment.data
    return smooth.maximum(layers, logits, softness)


def at_start(
    model: Model,
    accelerator: Accelerator,
    deployment: Deployment,
    efficiency: Efficiency,
    softness: Softness = EXACT,
) -> Scalar:
    """The same of the forward that a server runs at its start [byte]; 0 where it runs none."""
    server = efficiency.memory
    small = accelerator.memory_bytes < server.large_memory
    share = deployment.data * xp.where(small, server.small_share, 1.0)
    tokens, rows = server.prompt_tokens * share, server.sequences * share
    return peak(model, deployment, efficiency, tokens, rows, softness)


def _layer_elements(
    model: Model,
    deployment: Deployment,
    tokens: Scalar,
    rows: Scalar,
    softness: Softness,
) -> Scalar:
    """Largest activation: residual, heads, feed-forward, experts or logits [elements]."""
    local, devices = tokens / deployment.data, deployment.stage_devices
    largest = smooth.maximum(model.hidden * local, model.vocabulary / devices * rows, softness)
    for layers in model.decoder.attention:
        wide = _present(layers) * _heads_width(layers.kind) / deployment.tensor
        largest = smooth.maximum(largest, wide * local, softness)
    for layers in model.decoder.ffn:
        kind = layers.kind
        wide = _present(layers) * kind.matrices * layer_weights.shared_width(kind) / devices
        largest = smooth.maximum(largest, wide * tokens, softness)
        if not isinstance(kind, DenseFfn):
            routed = _present(layers) * _routed(kind, deployment, tokens)
            largest = smooth.maximum(largest, routed, softness)
    return largest


def _present(layers: Layers[Any]) -> Scalar:
    """1, or 0 for a group without layers, as models have that take another's structure."""
    return xp.where(layers.count > 0.0, 1.0, 0.0)


def _routed(kind: MoeFfn, deployment: Deployment, tokens: Scalar) -> Scalar:
    rows = tokens * kind.top_k / deployment.expert
    return kind.matrices * kind.width / deployment.expert_tensor * rows


def _heads_width(kind: Gqa | Mla | LinearAttention) -> Scalar:
    if isinstance(kind, Gqa):
        return kind.heads * kind.head_dim
    return kind.heads * kind.v_dim if isinstance(kind, Mla) else kind.output_width
