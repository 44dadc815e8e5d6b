"""Bytes that a sequence keeps in a layer, whole or as one device's share: keys and values, latents,
indexer keys, or a state.
"""

from qsopt import xp
from qsopt.arrays import EXACT, Scalar, Softness
from qsopt.physics import smooth
from qsopt.spec.layers import Attention, Gqa, LinearAttention, Mla
from qsopt.spec.model import Model


def device_kv_heads(kind: Gqa, tensor: Scalar | float = 1.0, softness: Softness = EXACT) -> Scalar:
    """KV heads on one of `tensor` devices: at least one, so they are replicated where tensor >
    kv_heads.
    """
    share = kind.kv_heads / tensor
    return smooth.maximum(share, xp.ones_like(share), softness)


def cached_tokens(
    kind: Gqa | Mla, context: Scalar, encoder_context: Scalar, softness: Softness = EXACT
) -> Scalar:
    """Tokens whose keys and values a layer holds for one sequence [tokens]."""
    if isinstance(kind, Mla):
        return context / kind.entry_tokens + recent_tokens(kind, context)
    return kind.cross * encoder_context + (1.0 - kind.cross) * smooth.minimum(
        context, kind.window, softness
    )


def recent_tokens(kind: Mla, context: Scalar) -> Scalar:
    """Latest tokens that are cached one by one beside compressed entries [tokens]."""
    return xp.minimum(context, kind.recent)


def entries(kind: Gqa | Mla, context: Scalar) -> Scalar:
    """Entries that stand for so many tokens, and of which an indexer has a key each [entries]."""
    return context / kind.entry_tokens if isinstance(kind, Mla) else context


def token_kv_elements(
    kind: Gqa | Mla, tensor: Scalar | float = 1.0, softness: Softness = EXACT
) -> Scalar:
    """Cache elements of one token in one layer on one of `tensor` devices; a latent is replicated.
    Without indexer keys.
    """
    if isinstance(kind, Mla):
        return kind.kv_rank + kind.rope_dim
    return 2.0 * device_kv_heads(kind, tensor, softness) * kind.head_dim


def sequence_cache_bytes(
    kind: Attention,
    context: Scalar,
    encoder_context: Scalar,
    element_bytes: Scalar,
    tensor: Scalar | float = 1.0,
    softness: Softness = EXACT,
    dcp: Scalar | float = 1.0,
) -> Scalar:
    """What one sequence keeps in one layer on one device: keys and values, latents, indexer keys,
    or a state [byte]. Ranks that share the cache (`dcp`) hold a part of its tokens each.
    """
    if isinstance(kind, LinearAttention):
        return kind.state_bytes / tensor
    elements = token_kv_elements(kind, tensor, softness)
    owned = 1.0 if isinstance(kind, Mla) else kind.cached
    held = cached_tokens(kind, context, encoder_context, softness) * elements * owned
    keys = entries(kind, context) * index_key_bytes(kind)
    return (held * element_bytes + keys) / dcp


INDEX_SCALE_BYTES = 4.0
"""The scale stored with each indexer key of 128 fp8 values [byte] (DeepSeek-V3.2)."""


def index_key_bytes(kind: Gqa | Mla) -> Scalar:
    """Bytes of one indexer key in one layer: fp8 with its scale, whatever the cache is stored in; 0
    without an indexer [byte].
    """
    return xp.where(kind.index_heads > 0.0, kind.index_dim + INDEX_SCALE_BYTES, 0.0)


def kv_bytes_per_token(model: Model) -> Scalar:
    """Cache growth per decoded token over all softmax layers, windowed ones and indexer keys
    included [byte/token].
    """
    element = model.precision.kv_cache.bytes
    growing = (
        layers.count * _token_growth(layers.kind, element)
        for layers in model.decoder.attention
        if not isinstance(layers.kind, LinearAttention)
    )
    return sum(growing)  # pyright: ignore[reportReturnType]


def _token_growth(kind: Gqa | Mla, element: Scalar) -> Scalar:
    """Bytes that a layer adds to the cache for each decoded token, on average [byte/token]."""
    token, key = token_kv_elements(kind) * element, index_key_bytes(kind)
    if isinstance(kind, Mla):
        return (token + key) / kind.entry_tokens
    return token * (1.0 - kind.cross) * kind.cached + key
