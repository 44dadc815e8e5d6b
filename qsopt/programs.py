"""Compiled functions whose programs outlive the process.

Before JAX can take a program from its own cache it must trace the function and lower it, which
takes longer than loading what comes out of that. A function decorated with `compiled` is
`jax.jit` of it; but where a store is in use (`keep_in`, which commands call) and the arguments are
numbers, the finished program is kept there under all that it depends on: the function, the
structure, shapes and types of its arguments, its static arguments, the precision, this package's
files, the versions of JAX and of its compiler, the compiler's flags and the processor. A process
that finds it traces nothing.

Where anything differs from a plain process of one device, or a program cannot be written or read
back, it is `jax.jit` all the same.
"""

import hashlib
import inspect
from collections.abc import Callable, Hashable
from functools import update_wrapper, wraps
from typing import Any, Generic, ParamSpec, TypeVar

import jax
import numpy as np
from jax.core import Tracer

from qsopt.arrays import is_concrete
from qsopt.program_store import OfNumbers, keep, kept, stores, surroundings
from qsopt.xp import any_of_jax

P = ParamSpec("P")
R = TypeVar("R")


def compiled(
    function: Callable[..., R],
    static: tuple[str, ...] = (),
    options: dict[str, bool | int | str] | None = None,
    by_numpy: bool = False,
) -> "Program[R]":
    """The function, compiled once for each structure of its arguments.

    Args:
        function: pure, of pytrees of numbers.
        static: names of arguments that are no numbers: hashable, and told apart by their `repr`.
        options: of the compiler.
        by_numpy: whether of NumPy's numbers alone it is not compiled but left to NumPy, which its
            formulas know (see `xp`): for what a process asks for once or a few times.

    Raises:
        ValueError: if the function is none of a module, to be known by its name alone.
    """
    if "<" in function.__qualname__:
        raise ValueError(f"{function.__qualname__}: a compiled function must be one of a module")
    return Program(function, static, options, by_numpy)


def evaluated(function: Callable[..., R]) -> "Program[R]":
    """The function, compiled where it is traced, and by NumPy of NumPy's numbers."""
    return compiled(function, by_numpy=True)


def traced_once(function: Callable[P, R]) -> Callable[P, R]:
    """For a small function that many formulas call: JAX traces it once for all of them, and the
    compiler still sees all of it where it is called. A search of layouts traces in half of the
    time. NumPy's numbers are NumPy's.
    """
    jitted = jax.jit(function)

    @wraps(function)
    def either(*args: P.args, **kwargs: P.kwargs) -> R:
        return (jitted if any_of_jax((args, kwargs)) else function)(*args, **kwargs)

    return either


class Program(Generic[R]):
    """A function as `compiled` makes it."""

    def __init__(
        self,
        function: Callable[..., R],
        static: tuple[str, ...],
        options: dict[str, bool | int | str] | None,
        by_numpy: bool = False,
    ) -> None:
        update_wrapper(self, function)
        self._by_numpy = function if by_numpy else None
        self.jitted: Any = jax.jit(function, static_argnames=static, compiler_options=options)
        """What `jax.jit` makes of it."""
        self._static = frozenset(static)
        names = inspect.signature(function).parameters
        self._places = frozenset(place for place, name in enumerate(names) if name in static)
        self._identity = (function.__module__, function.__qualname__, repr(options))
        self._loaded: dict[Hashable, OfNumbers] = {}
        _programs.append(self)

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        """The function's value; by a kept program where there is one."""
        if self._by_numpy and is_concrete((args, kwargs)):
            args, kwargs = jax.tree.map(_of_numpy, (args, kwargs))
            with np.errstate(all="ignore"):
                return self._by_numpy(*args, **kwargs)
        if not stores or jax.device_count() > 1:
            return self.jitted(*args, **kwargs)
        given = (
            tuple(value for place, value in enumerate(args) if place not in self._places),
            {name: value for name, value in kwargs.items() if name not in self._static},
        )
        leaves, structure = jax.tree.flatten(given)
        kinds = _kinds(leaves)
        if kinds is None:
            return self.jitted(*args, **kwargs)
        fixed = (
            tuple(value for place, value in enumerate(args) if place in self._places),
            tuple(sorted((name, kwargs[name]) for name in self._static & kwargs.keys())),
        )
        wide = jax.config.read("jax_enable_x64")
        known = (structure, fixed, wide, kinds)
        program = self._loaded.get(known)
        if program is not None:
            return program(leaves)
        key = self._key(known)
        program, result = (None, None) if key is None else kept(key, leaves)
        if program is None:
            program = self._made(key, structure, args, kwargs)
            result = program(leaves)
        self._loaded[known] = program
        return result  # pyright: ignore[reportReturnType]

    @property
    def count(self) -> int:
        """Programs of it in this process, for as many structures of arguments."""
        return len(self._loaded) + self.jitted._cache_size()

    def forget(self) -> None:
        """Give back what was loaded or compiled."""
        self._loaded.clear()
        self.jitted.clear_cache()

    def _key(self, known: Hashable) -> str | None:
        """Of the program in a store; None where it depends on what no other process can name."""
        text = repr((self._identity, known))
        if " at 0x" in text:
            return None
        return hashlib.blake2b((text + surroundings()).encode(), digest_size=20).hexdigest()

    def _made(
        self, key: str | None, structure: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> OfNumbers:
        """The program compiled here, and left in the store."""
        with stores[0].apart():
            program = self.jitted.lower(*args, **kwargs).compile()
        if key is not None:
            keep(key, program)

        def called(leaves: list[Any]) -> Any:
            positional, named = jax.tree.unflatten(structure, leaves)
            return program(*positional, **named)

        return called


def _of_numpy(leaf: Any) -> Any:
    """A number or an array of JAX in NumPy."""
    return np.asarray(leaf)[()] if isinstance(leaf, jax.Array) else leaf


_programs: list[Program[Any]] = []


def forget_programs() -> None:
    """Give back all programs that this process has loaded."""
    for program in _programs:
        program.forget()


_SCALARS = {
    kind: ((), np.dtype(kind), False) for kind in (np.float64, np.float32, np.int32, np.bool_)
}
"""Of NumPy's numbers, which are most arguments."""


def _kinds(leaves: list[Any]) -> tuple[tuple[Hashable, ...], ...] | None:
    """What of arguments a program depends on, the same for arrays of JAX and of NumPy; None where
    one is being traced.
    """
    kinds: list[tuple[Hashable, ...]] = []
    for leaf in leaves:
        kind = _SCALARS.get(type(leaf))
        if kind is not None:
            kinds.append(kind)
        elif isinstance(leaf, np.ndarray | np.generic):
            kinds.append((leaf.shape, leaf.dtype, False))
        elif isinstance(leaf, Tracer):
            return None
        elif isinstance(leaf, jax.Array):
            kinds.append((leaf.shape, leaf.dtype, leaf.weak_type))
        else:
            kinds.append((type(leaf),))
    return tuple(kinds)
