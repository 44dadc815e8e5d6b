"""Floating-point operations of training: of the products with weights, and of attention.

    forward of a token = 2 N + attention,    forward and backward = 3 times that

with N the parameters that a token is multiplied with. Without attention and with the backward pass
this is the well-known 6 N D for D tokens (Kaplan et al. 2020, arXiv 2001.08361). Attention is
counted by the same formulas as that of prompts (see `chunks`).
"""

from qsopt import xp
from qsopt.arrays import Scalar
from qsopt.physics import chunks
from qsopt.physics.chunks import Chunk
from qsopt.physics.parameters import parameter_count
from qsopt.spec.layers import Attention, LinearAttention, Mla, unshared
from qsopt.spec.model import Model, stacks

PASSES = 3.0
"""A backward pass takes twice the operations of the forward (arXiv 2001.08361, section 2.1)."""

_NO_BYTES = 0.0
"""Bytes do not count here."""


def forward_flops(model: Model, sequence: Scalar) -> Scalar:
    """Operations of one token's forward, logits included [FLOP/token].

    Args:
        model: dense, or an MoE, of which a token uses its own experts.
        sequence: tokens of the sequences that the token stands in, for attention.
    """
    one = xp.ones_like(xp.asarray(sequence, float))
    chunk = chunks.whole_prompts(one, one * sequence)
    attention = sum(
        layers.count * _attention_flops(layers.kind, chunk)
        for stack in stacks(model)
        for layers in stack.attention
    )
    weights = parameter_count(unshared(model)).active_without_input_table
    return 2.0 * weights + attention / sequence


def training_flops(model: Model, tokens: Scalar, sequence: Scalar) -> Scalar:
    """Operations of training on so many tokens, forward and backward [FLOP].

    Args:
        model: what is trained.
        tokens: that it is trained on.
        sequence: tokens of a training sequence.
    """
    return PASSES * forward_flops(model, sequence) * tokens


def _attention_flops(kind: Attention, chunk: Chunk) -> Scalar:
    """Of one layer's forward over whole sequences; latents are expanded, as in training [FLOP]."""
    one = xp.ones_like(chunk.tokens)
    if isinstance(kind, LinearAttention):
        return chunks.state_update(kind, chunk, one, one).flops
    selected = chunks.indexer(kind, chunk, one).flops
    if isinstance(kind, Mla):
        core = chunks.expanded_core(kind, chunk, _NO_BYTES, one, one, _NO_BYTES)
    else:
        core = chunks.softmax_core(kind, chunk, chunk.end, _NO_BYTES, one, one, _NO_BYTES)
    return core.flops + selected
