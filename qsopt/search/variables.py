"""What a search may move: each variable with its bounds, its kind of whole numbers, and whether it
is free.

All are positive and move in log space, scaled so that the bounds are 0 and 1. Architecture
variables make the model, deployment variables say how it is split and served. An architecture is a
row of values of the free architecture variables, and several are the rows of an array.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float

from qsopt.errors import InputError, exactly
from qsopt.spec.deployment import PARALLEL_SIZES

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

SEARCHED_SIZES = ("tp", "dp", "pp", "ep")
"""Parallel sizes that are variables; `etp` follows from them, as ep * etp = tp * dp."""

DEPLOYMENT = {**{name: PARALLEL_SIZES[name] for name in SEARCHED_SIZES}, "batch": "batch"}
"""Variables of the deployment by their short names, and the field of a `Deployment` each is."""

VariableKind = Literal["integer", "power_of_two", "divisor"]

Rows: TypeAlias = Float[np.ndarray, "n variables"]
"""Architectures, one a row."""


@dataclass(frozen=True)
class Variable:
    """A number that a search may move, with the values that it may take."""

    name: str
    low: float
    high: float
    kind: VariableKind = "integer"
    step: float = 1.0
    """Integers are multiples of this; a divisor divides it."""
    free: bool = True
    """Whether the search moves it; if not, it stays at `low`."""

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high < math.inf:
            raise InputError(
                f"{self.name}: bounds {exactly(self.low)} to {exactly(self.high)}; give "
                "positive numbers, the "
                f"smaller first"
            )
        if self.kind not in ("integer", "power_of_two", "divisor"):
            raise InputError(
                f"{self.name}: kind '{self.kind}'; take integer, power_of_two or divisor"
            )
        if not self.legal().size:
            raise InputError(
                f"{self.name}: no legal value between {exactly(self.low)} and "
                f"{exactly(self.high)}; widen the "
                f"bounds"
            )

    def legal(self) -> Float[np.ndarray, " values"]:
        """Legal values between the bounds, ascending."""
        if not self.free:
            return np.array([self.low])
        if self.kind == "power_of_two":
            return 2.0 ** np.arange(
                math.ceil(math.log2(self.low) - 1e-9), math.floor(math.log2(self.high) + 1e-9) + 1
            )
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


def neighbours(
    legal: Float[np.ndarray, " values"], value: float, places: int
) -> Float[np.ndarray, " near"]:
    """The legal values within so many places of the nearest below and above a value."""
    place = int(np.searchsorted(legal, value * (1.0 + 1e-9)))
    return legal[max(0, place - places) : place + places]


# ---- rows ----------------------------------------------------------------------------------------


def grid(choices: Sequence[Float[np.ndarray, " values"]]) -> Rows:
    """All rows that take each variable's value from its own list; one empty row without lists."""
    if not choices:
        return np.zeros((1, 0))
    axes = np.meshgrid(*choices, indexing="ij")
    return np.stack([axis.ravel() for axis in axes], axis=1)


def rows_of(variables: Sequence[Variable], designs: Sequence[Mapping[str, float]]) -> Rows:
    """The rows of designs that are given by name."""
    rows = [[design[variable.name] for variable in variables] for design in designs]
    return np.array(rows, dtype=float).reshape(len(designs), len(variables))


def row_values(
    variables: Sequence[Variable], row: Float[np.ndarray, " variables"]
) -> dict[str, float]:
    """The values of one row by name."""
    return {variable.name: float(value) for variable, value in zip(variables, row, strict=True)}


def columns(variables: Sequence[Variable], rows: Rows) -> dict[str, Float[np.ndarray, " n"]]:
    """The values of all rows by name.

    Without variables a row is still a case, so a column without meaning tells how many there are.
    """
    names = [variable.name for variable in variables]
    return dict(zip(names, rows.T, strict=True)) or {"": np.zeros(len(rows))}
