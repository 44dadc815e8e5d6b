"""What is asked of the service: a decode step at a context, or whole requests of a prompt and an
answer, and the limits that an answer must keep. Both sides of a comparison share it.

`Workload(context)` is decode alone: prompts come from elsewhere. `Workload(prompt=p, answer=a)` is
whole requests; a decoding sequence then holds prompt + answer/2 tokens on average.
"""

from qsopt import xp
from qsopt.arrays import Scalar, is_concrete, scalar
from qsopt.errors import InputError, exactly
from qsopt.record import Record
from qsopt.units import MILLISECOND

NO_LIMIT = 1e15
"""A limit that nothing reaches [s]: finite, so that derivatives stay so."""

_MOST = 1e12
"""No context is longer [tokens]."""


class Workload(Record):
    """A workload of decode steps, or of requests."""

    decode_context: Scalar | None
    """Tokens in the KV cache of a sequence, given for decode alone; None for requests [tokens]."""
    prompt: Scalar | None = None
    """Tokens of a prompt; None for decode alone [tokens]."""
    answer: Scalar | None = None
    """Tokens of an answer; None for decode alone [tokens]."""
    cached: Scalar = 0.0
    """Share of the prompt whose keys and values are in the cache already (prefix caching)."""
    tokens_per_step: Scalar = 1.0
    """Tokens that a sequence contributes to a step: 1, or more with speculative decoding."""
    acceptance: Scalar = 1.0
    """Probability that a drafted token is accepted, each given that those before it were."""
    ttft_limit: Scalar = NO_LIMIT
    """Longest time to the first token allowed [s]."""
    tpot_limit: Scalar = NO_LIMIT
    """Longest time per output token allowed [s]."""
    load: Scalar = 0.0
    """Share of the time that what reads prompts is busy; 0 leaves queueing out."""
    utilization: Scalar = 0.9
    """Share of the device memory that may be used; with the efficiencies of a software its own knob
    (see `server_memory`).
    """
    encoder_context: Scalar | None = None
    """Tokens that an encoder-decoder model's encoder has read; None for as many as the context, or
    the prompt.
    """

    def __init__(
        self,
        context: object = None,
        tokens_per_step: object = 1.0,
        tpot_limit: object = NO_LIMIT,
        utilization: object = 0.9,
        encoder_context: object = None,
        *,
        prompt: object = None,
        answer: object = None,
        cached: object = 0.0,
        acceptance: object = 1.0,
        ttft_limit: object = NO_LIMIT,
        load: object = 0.0,
    ) -> None:
        """A context for decode alone, or a prompt and an answer for requests.

        Raises:
            InputError: if neither or both are given, or a number is out of range.
        """
        self.decode_context, self.prompt, self.answer, self.encoder_context = (
            None if value is None else scalar(value)
            for value in (context, prompt, answer, encoder_context)
        )
        self.cached, self.acceptance, self.load = map(scalar, (cached, acceptance, load))
        self.tokens_per_step, self.utilization = scalar(tokens_per_step), scalar(utilization)
        self.ttft_limit, self.tpot_limit = scalar(ttft_limit), scalar(tpot_limit)

    @property
    def context(self) -> Scalar:
        """Tokens in the KV cache of a decoding sequence: as given, or on average over an answer."""
        if self.prompt is None or self.answer is None:
            return self.decode_context
        return self.prompt + self.answer / 2.0

    @property
    def decode_alone(self) -> "Workload":
        """The decode steps of these requests, with prompts from elsewhere."""
        return Workload(
            self.context,
            self.tokens_per_step,
            self.tpot_limit,
            self.utilization,
            self.encoder_context if self.prompt is None else self.encoder_tokens,
        )

    @property
    def encoder_tokens(self) -> Scalar:
        """Tokens that the encoder has read [tokens]."""
        if self.encoder_context is not None:
            return self.encoder_context
        return self.context if self.prompt is None else self.prompt

    @property
    def read(self) -> Scalar:
        """Tokens of a prompt that are not cached, at least the last, whose logits are the first
        token's [tokens].
        """
        prompt = self.context if self.prompt is None else self.prompt
        return xp.maximum(prompt * (1.0 - self.cached), 1.0)

    @property
    def accepted(self) -> Scalar:
        """Expected tokens of a sequence's step that stand, (1 - a^n)/(1 - a) of n with acceptance
        a: n if every draft is right, 1 if none is.
        """
        count, missed = self.tokens_per_step, 1.0 - self.acceptance
        some = missed > _NEVER_MISSED
        share = xp.where(some, missed, 1.0)
        kept = xp.where(some & (self.acceptance > 0), self.acceptance, 1.0)
        power = xp.where(self.acceptance > 0, xp.exp(count * xp.log(kept)), 0.0)
        series = count * (1.0 - (count - 1.0) / 2.0 * missed)
        return xp.where(some, (1.0 - power) / share, series)

    def __check_init__(self) -> None:
        if not is_concrete(self):
            return
        self._check_kind()
        for name in ("decode_context", "prompt", "answer", "encoder_context"):
            value = getattr(self, name)
            if value is not None and not 0 <= float(value) < _MOST:
                raise InputError(
                    f"{name.removeprefix('decode_')} = {exactly(float(value))}: give a number "
                    "of tokens, "
                    f"zero or more"
                )
        if self.answer is not None and not float(self.answer) > 0:
            raise InputError("answer = 0: a request has an answer; for prompts alone ask prefill")
        self._check_shares()
        for name in ("tokens_per_step", "tpot_limit", "ttft_limit"):
            if not 0 < float(getattr(self, name)) <= NO_LIMIT:
                raise InputError(
                    f"{name} = {exactly(float(getattr(self, name)))}: it must be a positive "
                    "finite number"
                )

    def _check_kind(self) -> None:
        whole = (self.prompt is None) == (self.answer is None)
        if (self.decode_context is None) == (self.prompt is None) or not whole:
            raise InputError(
                "a workload is either a context (decode alone: prompts come from elsewhere) or a "
                "prompt and an answer (whole requests); give one of the two"
            )

    def _check_shares(self) -> None:
        if not 0 < float(self.utilization) <= 1:
            raise InputError(
                f"utilization = {exactly(float(self.utilization))}: give a share of memory in "
                "(0, 1]"
            )
        for name in ("cached", "acceptance"):
            if not 0 <= float(getattr(self, name)) <= 1:
                raise InputError(
                    f"{name} = {exactly(float(getattr(self, name)))}: give a share in [0, 1]"
                )
        if not 0 <= float(self.load) < 1:
            raise InputError(
                f"load = {exactly(float(self.load))}: give a share of the time in [0, 1); at 1 "
                "the queue "
                f"has no end"
            )


_NEVER_MISSED = 1e-5
"""Below this chance of a wrong draft the series of `accepted` is exact to 1e-10."""


def time_limit(name: str, milliseconds: float | None) -> float:
    """A limit on time [s], none where it is left out.

    Raises:
        InputError: if it is no positive number of milliseconds.
    """
    if milliseconds is None:
        return NO_LIMIT
    if not 0 < milliseconds < float("inf"):
        raise InputError(
            f"{name} = {exactly(milliseconds)}: give a positive number of milliseconds"
        )
    return milliseconds * MILLISECOND
