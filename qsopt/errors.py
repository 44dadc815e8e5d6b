"""The one exception of the public edge: what is wrong, where, and the remedy, in one line."""

import difflib
import math
from collections.abc import Iterable

LONGEST = 3000
"""Characters of a message; the middle of a longer one is left out, as where it is wrong stands at
the beginning and the remedy at the end.
"""

_SHOWN = 80
"""Characters of a name that nobody knows."""


class InputError(ValueError):
    """Input that qsopt cannot answer. The message names the field and the remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(_cut(message, LONGEST))


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not in a catalog, with its nearest matches."""
    options, shown = sorted(known), _cut(name, _SHOWN)
    near = difflib.get_close_matches(name[:_SHOWN].lower(), options, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(options)}"
    return InputError(f"unknown {kind} '{shown}': {hint}")


MOST_SEED = 2**32 - 1


def check_seed(seed: int) -> None:
    """Refuse a seed that generators do not take.

    Raises:
        InputError: if it is none.
    """
    check_count("seed", seed, 0, MOST_SEED)


def check_count(name: str, count: int, least: int, most: int, why: str = "") -> None:
    """Refuse a number of something that is out of bounds.

    Args:
        name: of the input.
        count: of what it counts.
        least: it may be.
        most: it may be.
        why: no more is allowed, for the error.

    Raises:
        InputError: if it is fewer or more.
    """
    if not least <= count <= most:
        raise InputError(f"{name} = {count}: give a whole number, {least} to {most:,}{why}")


def exactly(value: float) -> str:
    """A number as an error shows it: short where that is the number, else with all its digits."""
    short = f"{value:g}"
    return short if math.isnan(value) or float(short) == value else repr(float(value))


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    tail = longest // 4
    head = longest - tail
    return f"{text[:head]} [{len(text) - longest:,} characters] {text[-tail:]}"
