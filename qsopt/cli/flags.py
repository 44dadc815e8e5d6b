"""Flags that would be passed over in silence are refused: one that stands there twice, of which a
parser takes the last, and one that could change nothing beside the others.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from qsopt.errors import InputError

REPEATABLE = ("ignore",)
"""Flags of which each use counts."""

_NEGATION = "no-"


class Idle(NamedTuple):
    """When some flags could change nothing."""

    names: tuple[str, ...]
    """Of the fields of a command."""
    holds: Callable[[Any], object]
    """Whether they could not, by the command."""
    because: str
    """Why, and what to do instead."""


def refuse_repeats(words: Sequence[str]) -> None:
    """Refuse a flag that stands there twice.

    Raises:
        InputError: naming the first.
    """
    seen: set[str] = set()
    for word in words:
        if not word.startswith("--") or len(word) == len("--"):
            continue
        name = word[2:].partition("=")[0].replace("_", "-").removeprefix(_NEGATION)
        if name in seen and name not in REPEATABLE:
            raise InputError(f"--{name[:60]} stands there twice: give it once")
        seen.add(name)


def refuse_idle(command: Any) -> None:
    """Refuse a flag that could change nothing in a command.

    Raises:
        InputError: naming the first, and why.
    """
    usual = {field.name: field.default for field in dataclasses.fields(command)}
    for rule in (each for each in RULES if each.holds(command)):
        for name in rule.names:
            if name in usual and getattr(command, name) != usual[name]:
                raise InputError(f"{name} = {getattr(command, name)}: {rule.because}")


# ---- rules ---------------------------------------------------------------------------------------


def _is(*names: str) -> Callable[[Any], bool]:
    """Whether a command is one of these, by the names of their classes, as none is imported that
    does not run.
    """
    return lambda command: type(command).__name__ in names


def _compares(command: Any) -> bool:
    return _is("Compare", "Crossover", "Map", "Report")(command)


def _stated(command: Any) -> bool:
    """Whether q is stated, or that of a named model, and no law is asked."""
    return (
        _compares(command) and (command.q, command.dense) != (None, None) and command.law != "all"
    )


def _on_requests(command: Any) -> bool:
    return getattr(command, "on_requests", False)


def _moves(name: str) -> Callable[[Any], bool]:
    """Whether an input moves along an axis or a range."""

    def moves(command: Any) -> bool:
        return name in (getattr(command, "over", None), *_axes(command))

    return moves


def _axes(command: Any) -> tuple[Any, Any]:
    return getattr(command, "x", None), getattr(command, "y", None)


_MOVED = "it moves in this answer; leave it out, and give the range"

RULES = (
    Idle(
        ("q", "dense", "twin", "twin_attention"),
        _is("Evaluate", "SensitivityCommand", "Serve"),
        "one model is asked about, and there is no dense match; leave it out, or use compare",
    ),
    Idle(
        ("law", "law_raw", "tokens"),
        _stated,
        "q is given, or that of the model given as --dense, so no law is asked; leave one out",
    ),
    Idle(
        ("twin", "twin_attention"),
        lambda command: _compares(command) and command.dense is not None,
        "the dense model is the one given; leave it out",
    ),
    Idle(
        ("acceptance",),
        lambda command: getattr(command, "tokens_per_step", 2.0) <= 1.0,
        "nothing is drafted; give --tokens-per-step above 1",
    ),
    Idle(("q",), _moves("q"), _MOVED),
    Idle(("tpot_ms",), _moves("tpot"), _MOVED),
    Idle(("ttft_ms",), _moves("ttft"), _MOVED),
    Idle(("busy",), _moves("load"), _MOVED),
    Idle(("acceptance",), _moves("acceptance"), _MOVED),
    Idle(
        ("context", "cached"),
        lambda command: _is("Crossover")(command) and command.over in ("context", "cached"),
        _MOVED,
    ),
    Idle(
        ("seed",),
        lambda command: _is("Compare", "Report")(command) and _on_requests(command),
        "nothing is drawn for whole requests; leave it out",
    ),
)
"""What is known to change nothing."""
