"""What enters a stage of devices at once: tokens of sequences that decode, and of prompts."""

from collections.abc import Callable

from qsopt import xp
from qsopt.arrays import Scalar, number
from qsopt.physics.chunks import Chunk
from qsopt.record import Record


class Load(Record):
    """Tokens that enter a stage at once: those of sequences that decode, and those of prompts."""

    sequences: Scalar = number()
    """Sequences of the microbatch that decode, b."""
    new_tokens: Scalar = number()
    """Tokens that each contributes, n_t."""
    context: Scalar = number()
    """Tokens that each attends to in its cache."""
    encoder_context: Scalar = number()
    """Tokens that each attends to in the encoder's output."""
    logits: Scalar = number()
    """Tokens of each that pass the head."""
    chunk: Chunk | None = None
    """What is read of prompts; None if nothing is. With it, no sequence need decode."""

    @property
    def decoding(self) -> Scalar:
        """Tokens of decoding sequences."""
        return self.sequences * self.new_tokens

    @property
    def tokens(self) -> Scalar:
        """Tokens of the microbatch, T."""
        return self._with_prompts(self.decoding, lambda chunk: chunk.tokens)

    @property
    def rows(self) -> Scalar:
        """Tokens that pass the head: of prompts only the last."""
        return self._with_prompts(self.sequences * self.logits, lambda chunk: chunk.finished)

    def independent(self, correlation: Scalar) -> Scalar:
        """Tokens that hit as many experts if each picks by itself: the n tokens that a sequence
        contributes pick as n^(1 - correlation) would.
        """
        decoding = self.sequences * self.new_tokens ** (1.0 - correlation)
        return self._with_prompts(decoding, lambda chunk: chunk.tokens)

    def _with_prompts(self, decoding: Scalar, of: Callable[[Chunk], Scalar]) -> Scalar:
        return decoding if self.chunk is None else decoding + of(self.chunk)


def reading(chunk: Chunk, encoder_context: Scalar) -> Load:
    """A forward that reads prompts and decodes nothing."""
    none, one = xp.zeros_like(chunk.tokens), xp.ones_like(chunk.tokens)
    return Load(none, one, none, encoder_context, one, chunk)
