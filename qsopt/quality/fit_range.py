"""Where a law was fitted, and the sentence that says an architecture lies outside it."""

import math
from dataclasses import dataclass

from qsopt.quality.architecture import MoeArchitecture

ROUNDING = 1e-6
"""Relative slack of a bound, for counts that went through single precision."""


@dataclass(frozen=True)
class FitRange:
    """The values of one quantity that the runs behind a law covered; a law leaves out what its
    source does not state.
    """

    quantity: str
    """A field or property of `MoeArchitecture`."""
    low: float
    high: float
    unit: str = ""

    def warning(self, architecture: MoeArchitecture) -> str | None:
        """`extrapolates: ...` where the architecture lies outside, else None."""
        value = float(getattr(architecture, self.quantity))
        if self.low * (1 - ROUNDING) <= value <= self.high * (1 + ROUNDING):
            return None
        label = LABELS.get(self.quantity, self.quantity.replace("_", " "))
        unit = "" if self.unit in label else f" {self.unit}"  # every label holds the empty unit
        return f"extrapolates: {label} {short(value)}{unit}, fitted {self._limit(value)}{unit}"

    def _limit(self, value: float) -> str:
        if self.low == self.high:
            return f"at {short(self.low)}"
        return f"up to {short(self.high)}" if value > self.high else f"from {short(self.low)}"


LABELS = {
    "total": "total parameters",
    "active": "active parameters",
    "total_nonembedding": "total non-embedding parameters",
    "active_nonembedding": "active non-embedding parameters",
    "tokens": "training tokens",
    "compute": "training compute",
    "top_k": "top-k",
}
"""How the message names a quantity; others read as their attribute."""


def short(value: float) -> str:
    """Four digits, with powers of a thousand above a million: 671e9, 9.846, 0.055."""
    if abs(value) < 1e6 or not math.isfinite(value):
        return f"{value:.4g}"
    power = 3 * math.floor(math.log10(abs(value)) / 3)
    return f"{value / 10**power:.4g}e{power}"
