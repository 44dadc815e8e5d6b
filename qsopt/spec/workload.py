"""What is asked of the service: the context, and the limits that an answer must keep. Both sides of
a comparison share it.
"""

import equinox as eqx

from qsopt.arrays import Scalar, is_concrete, number, scalar
from qsopt.errors import InputError
from qsopt.record import Record

NO_LIMIT = 1e15
"""A limit that nothing reaches [s]: finite, so that derivatives stay so."""

_MOST = 1e12
"""No context is longer [tokens]."""


class Workload(Record):
    """A decode workload."""

    context: Scalar = number()
    """Tokens in the KV cache of a sequence [tokens]."""
    tokens_per_step: Scalar = number(1.0)
    """Tokens that a sequence contributes to a step: 1, or more with speculative decoding."""
    tpot_limit: Scalar = number(NO_LIMIT)
    """Longest time per output token allowed [s]."""
    utilization: Scalar = number(0.9)
    """Share of the device memory that may be used."""
    encoder_context: Scalar | None = eqx.field(
        default=None, converter=lambda x: x if x is None else scalar(x)
    )
    """Tokens that an encoder-decoder model's encoder has read; None for as many as `context`."""

    @property
    def encoder_tokens(self) -> Scalar:
        """Tokens that the encoder has read [tokens]."""
        return self.context if self.encoder_context is None else self.encoder_context

    def __check_init__(self) -> None:
        if not is_concrete(self):
            return
        for name in ("context", "encoder_context"):
            value = getattr(self, name)
            if value is not None and not 0 <= float(value) < _MOST:
                raise InputError(
                    f"{name} = {float(value):g}: give a number of tokens, zero or more"
                )
        if not 0 < float(self.utilization) <= 1:
            raise InputError(
                f"utilization = {float(self.utilization):g}: give a share of memory in (0, 1]"
            )
        for name in ("tokens_per_step", "tpot_limit"):
            if not 0 < float(getattr(self, name)) <= NO_LIMIT:
                raise InputError(
                    f"{name} = {float(getattr(self, name)):g}: it must be a positive finite number"
                )
