"""The checker of types and shapes that the tests lay over the package's own functions.

Formulas are written for one design, so the arrays that they pass are checked as annotated. Records
are not, when they are made: a record may stand for many designs, each field with an axis for
`jax.vmap`, and is unpacked before a formula sees it.
"""

from collections.abc import Callable
from typing import TypeVar

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintPep673Exception

T = TypeVar("T", bound=Callable)

_MAKING_A_RECORD = ("__init__", "check_single_arg")
"""Functions that jaxtyping checks where a dataclass is made."""

_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""Whole numbers are welcome where `float` is written, as type checkers read it."""


def checked(function: T) -> T:
    """The function, refusing arguments and results that are not what its annotations say."""
    if function.__name__ in _MAKING_A_RECORD:
        return function
    try:
        return _checked(function)
    except BeartypeDecorHintPep673Exception:  # `Self` cannot be read outside of its class
        return function
