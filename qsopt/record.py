"""What records have in common: they print as plain numbers, and may keep beside them what is no
number.

A record is a pytree of numbers, and nothing else counts when JAX compiles: designs of one structure
share a compilation whatever they are called. So the name under which a record was loaded, and the
question that an answer answers, are kept beside the numbers, where JAX does not see them. They stay
with the very record that was loaded or answered; one whose numbers were changed, or that passed
`jit`, `grad` or `vmap`, has neither.
"""

import weakref
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import equinox as eqx
import jax
import numpy as np
import wadler_lindig as wl
from jax.core import Tracer

from qsopt.arrays import is_concrete
from qsopt.errors import InputError

T = TypeVar("T")

WIDTH = 100
"""Columns of a printed record."""

_WHOLE = 1e12
"""Whole numbers below it are printed with all their digits."""


class Readable:
    """Prints as plain numbers; fields that are as they are by default are left out."""

    _first: ClassVar[tuple[str, ...]] = ()
    """Properties that are printed before the fields, where nothing is traced."""

    def __pdoc__(self, **kwargs: Any) -> wl.AbstractDoc:
        name = name_of(self)
        shown = [] if name is None else [("name", name)]
        shown += [(each, getattr(self, each)) for each in self._first if is_concrete(self)]
        shown += [
            (field.name, getattr(self, field.name))
            for field in fields(self)  # pyright: ignore[reportArgumentType]
            if field.repr and not _is_default(getattr(self, field.name), field.default)
        ]
        return wl.bracketed(
            begin=wl.TextDoc(f"{type(self).__name__}("),
            docs=wl.named_objs(shown, **kwargs),
            sep=wl.comma,
            end=wl.TextDoc(")"),
            indent=kwargs["indent"],
        )

    def __repr__(self) -> str:
        return wl.pformat(self, width=WIDTH, custom=_document)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain numbers and texts, ready for JSON."""
        return plain({field.name: getattr(self, field.name) for field in fields(self)})  # pyright: ignore[reportArgumentType]


class Record(Readable, eqx.Module):
    """A pytree of numbers."""

    if not TYPE_CHECKING:
        __getattribute__ = object.__getattribute__
        """Equinox makes pytrees of methods too, at the price of every look at a field."""


class Result(Readable):
    """What a public function answers."""

    def to_dict(self) -> dict[str, Any]:
        """What the command line prints for the same question with `--json`.

        Raises:
            InputError: if this is not the very record that a public function returned.
        """
        answer = _ANSWERS.get(id(self))
        if answer is None:
            raise InputError(
                f"this {type(self).__name__} does not know its question: to_dict works on what a "
                "public function returned, outside of jit, grad and vmap"
            )
        return plain(answer(self))


_NAMES: dict[int, str] = {}
_ANSWERS: dict[int, Callable[[Any], dict[str, Any]]] = {}


def _keep(notes: dict[int, Any], record: object, note: object) -> None:
    """Keep a note as long as its record lives; not as an attribute, as equinox counts a module with
    a further attribute as one of another structure.
    """
    notes[id(record)] = note
    weakref.finalize(record, notes.pop, id(record), None).atexit = False


def named(record: T, name: str) -> T:
    """The record, with the name under which it was asked for beside its numbers."""
    _keep(_NAMES, record, name)
    return record


def name_of(record: object) -> str | None:
    """The name of a record that was loaded by one and is unchanged, else None."""
    return _NAMES.get(id(record))


def answering(result: T, answer: Callable[[T], dict[str, Any]]) -> T:
    """The result, with the function of it that `to_dict` is beside its numbers."""
    _keep(_ANSWERS, result, answer)
    return result


def plain(value: Any) -> Any:
    """Nested dictionaries, lists, texts and Python numbers; None for one that is not finite."""
    if isinstance(value, Readable) and not isinstance(value, Result):
        return value.to_dict()
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return plain(np.asarray(value).tolist())
    return None if isinstance(value, float) and not np.isfinite(value) else value


# ---- how numbers are printed ---------------------------------------------------------------------


def _is_default(value: Any, default: Any) -> bool:
    if default is MISSING or isinstance(value, Tracer):
        return False
    if value is default:
        return True
    return np.ndim(value) == 0 and isinstance(default, float | int) and bool(value == default)


def _document(value: Any) -> wl.AbstractDoc | None:
    """How a number or an array of numbers is printed; None for anything else."""
    if isinstance(value, Tracer):
        return wl.TextDoc(f"traced {value.aval.str_short()}")  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return wl.TextDoc(_numbers(np.asarray(value)))
    return wl.TextDoc(_number(value)) if isinstance(value, float) else None


def _numbers(values: np.ndarray) -> str:
    if values.ndim == 0:
        return _number(values.item())
    if values.size <= 4 and values.ndim == 1:
        return f"[{', '.join(_number(value) for value in values.tolist())}]"
    low, high = (_number(end(values).item()) for end in (np.nanmin, np.nanmax))
    count = " x ".join(map(str, values.shape))
    return f"[{count} of {low}]" if low == high else f"[{count} from {low} to {high}]"


def _number(value: float) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE:
        return str(int(value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
