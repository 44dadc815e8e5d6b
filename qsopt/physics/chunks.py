"""Attention of prompts that are read in chunks: pairs of tokens, cache bytes and the expansion of
latents, on one device for one layer.

A prompt's tokens from `begin` to `end` are read in chunks of `length`; a chunk that starts at s
sees the s tokens before it and, causally, its own. Every quantity is the mean over the chunks of a
prompt, so the chunks of a prompt add up to the whole prompt exactly: a token at position x sees
min(x, window) others (half a token of the diagonal is ignored), and the pairs are its integral.
Softmax attention costs 4 H d FLOP a pair, latents expanded to keys and values 2 H (nope + rope + v)
and as latents (absorbed) 2 H (2 c + rope). What earlier chunks cached is read once per chunk, and
expanded once more if it is latent: 2 c H (nope + v) FLOP a token. Where attention ranks share a
prompt (context parallel) each also sees what the others hold.
"""

from qsopt import xp
from qsopt.arrays import EXACT, Scalar, Softness, number
from qsopt.physics import kv_cache
from qsopt.physics.prompt_core import prompt_core
from qsopt.physics.roofline import Cost
from qsopt.record import Record
from qsopt.spec.layers import NO_WINDOW, Attention, Gqa, LinearAttention, Mla


class Chunk(Record):
    """Prompt tokens of one forward, averaged over the chunks of a prompt."""

    tokens: Scalar = number()
    """Prompt tokens of the forward over all attention ranks, c [tokens]."""
    length: Scalar = number()
    """Tokens of one prompt that one forward reads [tokens]."""
    begin: Scalar = number()
    """Tokens of a prompt that are cached before any is read [tokens]."""
    end: Scalar = number()
    """Tokens of a prompt [tokens]."""
    sharing: Scalar = number(1.0)
    """Attention ranks that read one prompt together: context parallel."""

    @property
    def pieces(self) -> Scalar:
        """Chunks of prompts in the forward, of `length` tokens each."""
        return self.tokens / self.length

    @property
    def finished(self) -> Scalar:
        """Prompts whose last token is in the forward."""
        return self.tokens / (self.end - self.begin)

    def seen(self, window: Scalar | float) -> Scalar:
        """Tokens that a token sees on average, at most `window` [tokens]."""
        return mean_of_least(self.begin, self.end, window)

    def before(self, window: Scalar | float) -> Scalar:
        """Cached tokens that a chunk sees on average, at most `window`: the mean over all starts
        between the first and the last chunk's, exact but for windows [tokens].
        """
        return mean_of_least(self.begin, xp.maximum(self.end - self.length, self.begin), window)

    def elsewhere(self, window: Scalar | float) -> Scalar:
        """Tokens that a rank sees for one chunk and has not just computed itself: cached ones, and
        those of the ranks that share the prompt [tokens].
        """
        own = 1.0 / self.sharing
        return self.before(window) + xp.minimum(self.length, window) * (1.0 - own)


def whole_prompts(
    prompts: Scalar, tokens: Scalar, cached: Scalar | float = 0.0, sharing: Scalar | float = 1.0
) -> Chunk:
    """So many prompts of `tokens` tokens in one forward, of which `cached` tokens need no
    reading.
    """
    read = tokens - cached
    return Chunk(prompts * read, read, cached, tokens, sharing)


def mean_of_least(low: Scalar, high: Scalar, limit: Scalar | float) -> Scalar:
    """Mean of min(x, limit) over x between `low` and `high`; min(low, limit) where they meet."""
    turn = xp.clip(limit, low, high)
    apart = high - low
    spread = xp.where(apart > 0, apart, 1.0)
    below = (turn - low) * (turn + low) / 2.0
    mean = (below + limit * (high - turn)) / spread
    inside = (low + high) / 2.0
    return xp.where(high <= limit, inside, xp.where(apart > 0, mean, xp.minimum(low, limit)))


def softmax_core(
    kind: Gqa,
    chunk: Chunk,
    encoder: Scalar,
    element: Scalar,
    data: Scalar,
    tensor: Scalar,
    activation_bytes: Scalar,
    softness: Softness = EXACT,
) -> Cost:
    """Scores, softmax and weighted sums of one layer over grouped heads, each token over those that
    an indexer selects where there is one.

    Args:
        kind: the attention.
        chunk: what is read.
        encoder: tokens that cross-attention sees [tokens].
        element: of the cache [byte].
        data: attention data ranks.
        tensor: attention tensor ranks.
        activation_bytes: of one element between operators [byte].
        softness: of the relaxed model.
    """
    tokens, own = chunk.tokens / data, 1.0 - kind.cross
    seen = kind.cross * encoder + own * chunk.seen(xp.minimum(kind.window, kind.index_top_k))
    cached = kind.cross * encoder + own * chunk.elsewhere(kind.window)
    entry = kv_cache.token_kv_elements(kind, tensor, softness) * element
    pieces = chunk.pieces * chunk.sharing / data
    heads, kv_heads = kind.heads / tensor, kv_cache.device_kv_heads(kind, tensor, softness)
    sizes = (heads, kv_heads, kind.head_dim, kind.head_dim)
    moved = entry * (pieces * cached + own * kind.cached * tokens)
    return _core(sizes, tokens, seen, activation_bytes) + Cost(bytes=moved)


def _core(
    sizes: tuple[Scalar, Scalar, Scalar, Scalar],
    tokens: Scalar,
    seen: Scalar,
    activation_bytes: Scalar,
) -> Cost:
    """The kernel of some heads; of less than a token, that share of the forwards has one."""
    some = xp.maximum(tokens, 1.0)
    return prompt_core(*sizes, some, some * seen, activation_bytes).times(runs(tokens))


def absorbed_core(kind: Mla, chunk: Chunk, element: Scalar, data: Scalar, tensor: Scalar) -> Cost:
    """Scores, softmax and weighted sums of one layer over latents as they are, each token over
    those that the indexer selects.
    """
    tokens, heads = chunk.tokens / data, kind.heads / tensor
    pieces = chunk.pieces * chunk.sharing / data
    pair = 2.0 * heads * (2.0 * kind.kv_rank + kind.rope_dim * (1.0 + kind.direct))
    entry = kv_cache.token_kv_elements(kind) * element
    moved = entry * (pieces * _entries_elsewhere(kind, chunk) + tokens)
    seen = _entries_seen(kind, chunk, kind.index_top_k)
    return Cost(tokens * seen * pair, moved, runs(tokens))


def expanded_core(
    kind: Mla,
    chunk: Chunk,
    element: Scalar,
    data: Scalar,
    tensor: Scalar,
    activation_bytes: Scalar,
) -> Cost:
    """The same over keys and values that latents were expanded to, masked where the indexer
    selects; the latents of new tokens are cached. Entries that are keys and values themselves are
    taken as they are.
    """
    tokens, heads = chunk.tokens / data, kind.heads / tensor
    pieces = chunk.pieces * chunk.sharing / data
    own, direct = 1.0 - kind.direct, kind.direct
    key = own * (kind.nope_dim + kind.rope_dim) + direct * (kind.kv_rank + kind.rope_dim)
    value = own * kind.v_dim + direct * (kind.kv_rank + kind.rope_dim)
    seen = _entries_seen(kind, chunk, NO_WINDOW)
    entry = kv_cache.token_kv_elements(kind) * element
    again = own * heads * (key + value) * activation_bytes + direct * entry
    moved = pieces * _entries_elsewhere(kind, chunk) * again + tokens * entry
    sizes = (heads, own * heads + direct, key, value)
    return _core(sizes, tokens, seen, activation_bytes) + Cost(bytes=moved)


def _entries_seen(kind: Gqa | Mla, chunk: Chunk, most: Scalar | float) -> Scalar:
    """Entries that a token sees on average, at most so many, and the latest tokens one by one."""
    if isinstance(kind, Gqa):
        return chunk.seen(most)
    step = kind.entry_tokens
    return mean_of_least(chunk.begin / step, chunk.end / step, most) + chunk.seen(kind.recent)


def _entries_elsewhere(kind: Gqa | Mla, chunk: Chunk) -> Scalar:
    """Entries that a rank sees for one chunk and has not just made itself."""
    if isinstance(kind, Gqa):
        return chunk.elsewhere(kind.window)
    return chunk.elsewhere(NO_WINDOW) / kind.entry_tokens + chunk.elsewhere(kind.recent)


def expansion(
    kind: Mla, chunk: Chunk, data: Scalar, tensor: Scalar, activation_bytes: Scalar
) -> Cost:
    """Keys and values of the latents that a rank has not just computed itself, as a product of its
    own: the weights are read with the chunk's.
    """
    heads, made = kind.heads / tensor, 1.0 - kind.direct
    rows = chunk.pieces * chunk.sharing / data * _entries_elsewhere(kind, chunk) * made
    columns = heads * (kind.nope_dim + kind.v_dim)
    moved = rows * (kind.kv_rank + columns) * activation_bytes
    return Cost(2.0 * rows * kind.kv_rank * columns, moved, runs(rows), moved / columns)


def indexer(kind: Gqa | Mla, chunk: Chunk, data: Scalar) -> Cost:
    """Scores of every earlier entry against the indexer's heads, replicated on all tensor ranks."""
    tokens, pieces = chunk.tokens / data, chunk.pieces * chunk.sharing / data
    step = kind.entry_tokens if isinstance(kind, Mla) else 1.0
    pair = 2.0 * kind.index_heads * kind.index_dim
    keys = kv_cache.index_key_bytes(kind)
    moved = keys * (pieces * chunk.elsewhere(NO_WINDOW) / step + tokens)
    exists = xp.where(kind.index_heads > 0, 1.0, 0.0)
    seen = mean_of_least(chunk.begin / step, chunk.end / step, NO_WINDOW)
    return Cost(tokens * seen * pair, moved, exists * runs(tokens))


def state_update(kind: LinearAttention, chunk: Chunk, data: Scalar, tensor: Scalar) -> Cost:
    """The state's arithmetic for every token, and one read and write of it for each chunk."""
    tokens, pieces = chunk.tokens / data, chunk.pieces * chunk.sharing / data
    flops = tokens * kind.state_flops / tensor
    return Cost(flops, 2.0 * pieces * kind.state_bytes / tensor, runs(tokens))


def entry_bytes(
    kind: Attention,
    chunk: Chunk,
    element: Scalar,
    data: Scalar,
    tensor: Scalar,
    new: Scalar | float,
    softness: Softness = EXACT,
) -> Scalar:
    """Cache entries of one layer that all ranks which hold parts of them must see: the cached ones
    and `new` tokens of each chunk, or a state that is handed on [byte].
    """
    pieces = chunk.pieces * chunk.sharing / data
    if isinstance(kind, LinearAttention):
        return pieces * kind.state_bytes / tensor
    window = NO_WINDOW if isinstance(kind, Mla) else kind.window
    visible = chunk.before(window) + xp.minimum(new, window)
    elements = kv_cache.token_kv_elements(kind, tensor, softness) * element
    if isinstance(kind, Gqa):
        held = elements * (1.0 - kind.cross) * kind.cached
    else:
        held = elements / kind.entry_tokens
    return pieces * visible * (held + kv_cache.index_key_bytes(kind))


def runs(tokens: Scalar) -> Scalar:
    """Launches of a kernel that runs if there is anything to do; less than a token a forward is
    that share of the forwards.
    """
    return xp.clip(tokens, 0.0, 1.0)
