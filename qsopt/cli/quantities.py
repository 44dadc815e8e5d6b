"""Numeric flags: a number may carry its unit, as in `128k`, `40ms`, `80GB` or `3.35TB/s`.

A field of a command is declared as `Tokens`, `OptionalTokens` and so on. The ends of a range are
texts until the axis that says what they count is known.
"""

from typing import Annotated, Any

from tyro.constructors import PrimitiveConstructorSpec

from qsopt.units import (
    BYTE_RATE,
    BYTES,
    COUNT,
    DOLLARS,
    LARGE,
    MILLISECONDS,
    NUMBER,
    SECONDS,
    SHARE,
    TOKENS,
    Unit,
    quantity,
    written,
)


def _spec(unit: Unit, *, optional: bool = False) -> PrimitiveConstructorSpec[Any]:
    """How a flag with this unit is read and shown; one spec for the whole of `float | None`, as the
    parser's own complaint about a choice of two types would hide ours.
    """

    def read(words: list[str]) -> float | None:
        return None if optional and words[0] == "None" else quantity(words[0], unit)

    def fits(value: Any) -> bool:
        return isinstance(value, int | float) or (optional and value is None)

    def show(value: float | None) -> list[str]:
        return ["None" if value is None else written(value, unit)]

    return PrimitiveConstructorSpec(1, unit.name.upper(), read, fits, show)


Tokens = Annotated[float, _spec(TOKENS)]
OptionalTokens = Annotated[float | None, _spec(TOKENS, optional=True)]
OptionalCount = Annotated[float | None, _spec(COUNT, optional=True)]
Large = Annotated[float, _spec(LARGE)]
OptionalLarge = Annotated[float | None, _spec(LARGE, optional=True)]
OptionalMilliseconds = Annotated[float | None, _spec(MILLISECONDS, optional=True)]
Share = Annotated[float, _spec(SHARE)]
OptionalDollars = Annotated[float | None, _spec(DOLLARS, optional=True)]

AXIS_UNITS: dict[str, Unit] = {
    **dict.fromkeys(("context", "prompt", "answer"), TOKENS),
    **dict.fromkeys(("batch", "devices", "domain"), COUNT),
    **dict.fromkeys(("bandwidth", "scale_up", "scale_out"), BYTE_RATE),
    **dict.fromkeys(("tpot", "ttft"), SECONDS),
    **dict.fromkeys(("cached", "load", "acceptance", "sparsity"), SHARE),
    "capacity": BYTES,
    "q": NUMBER,
}
"""What moves along an axis of a map or a crossover, and so the units of its range."""


def range_end(text: str | None, axis: str, where: str) -> float | None:
    """An end of a range in the units of its axis; None where none is given.

    Raises:
        InputError: if it is no number, or of another unit.
    """
    return None if text is None else quantity(text, AXIS_UNITS.get(axis, NUMBER), where)
