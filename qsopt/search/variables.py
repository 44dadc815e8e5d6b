"""What a search may move: each variable with its bounds, its kind of whole numbers, and whether it
is free.

All are positive and move in log space, scaled so that the bounds are 0 and 1. `architecture`
variables make the model, `deployment` variables say how it is split and served.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from qsopt.errors import InputError

ARCHITECTURE = (
    "experts",
    "top_k",
    "expert_width",
    "shared_experts",
    "hidden",
    "layers",
    "kv_heads",
)
"""Variables of the model."""

DEPLOYMENT = {"tp": "tensor", "dp": "data", "pp": "pipeline", "ep": "expert", "batch": "batch"}
"""Variables of the deployment, by their name on the command line, and the field that each is."""

Kind = Literal["integer", "power_of_two", "divisor"]


@dataclass(frozen=True)
class Variable:
    """One variable."""

    name: str
    low: float
    high: float
    kind: Kind = "integer"
    step: float = 1.0
    """Integers are multiples of this; a divisor divides it."""
    free: bool = True
    """Whether the search moves it; if not, it stays at `low`."""

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high < math.inf:
            raise InputError(
                f"{self.name}: bounds {self.low:g} to {self.high:g}; give positive numbers, the "
                f"smaller first"
            )
        if self.kind not in ("integer", "power_of_two", "divisor"):
            raise InputError(
                f"{self.name}: kind '{self.kind}'; take integer, power_of_two or divisor"
            )
        if not self.legal().size:
            raise InputError(
                f"{self.name}: no legal value between {self.low:g} and {self.high:g}; widen the "
                f"bounds"
            )

    def legal(self) -> Float[np.ndarray, " values"]:
        """Legal values between the bounds, ascending."""
        if not self.free:
            return np.array([self.low])
        if self.kind == "power_of_two":
            powers = 2.0 ** np.arange(
                math.ceil(math.log2(self.low) - 1e-9), math.floor(math.log2(self.high) + 1e-9) + 1
            )
            return powers
        if self.kind == "divisor":
            whole = np.arange(math.ceil(self.low), math.floor(min(self.high, self.step)) + 1.0)
            return whole[self.step % whole == 0]
        return self.step * np.arange(
            math.ceil(self.low / self.step - 1e-9), math.floor(self.high / self.step + 1e-9) + 1.0
        )

    @property
    def range(self) -> tuple[float, float]:
        """Bounds in log space."""
        return math.log(self.low), math.log(self.high)


def around(
    legal: Float[np.ndarray, " values"], value: float, reach: int
) -> Float[np.ndarray, " near"]:
    """The legal values within `reach` places of the nearest below and above a value."""
    place = int(np.searchsorted(legal, value * (1.0 + 1e-9)))
    return legal[max(0, place - reach) : place + reach]
