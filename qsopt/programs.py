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
import os
import pickle
import platform
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from functools import cache, update_wrapper
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import equinox
import jax
import jaxlib.version
import numpy as np
from jax.core import Tracer
from jax.experimental import serialize_executable

R = TypeVar("R")


class Store(Protocol):
    """Where programs are kept: entries by key, each whole or not there."""

    def get(self, key: str) -> bytes | None:
        """The entry of a key; None where there is none."""
        ...

    def put(self, key: str, value: bytes) -> None:
        """Keep an entry."""
        ...

    def apart(self) -> AbstractContextManager[None]:
        """A context in which JAX has no cache of its own: a program that it took from there cannot
        be written again.
        """
        ...


_stores: list[Store] = []
"""The store in use, if any."""


def keep_in(store: Store) -> None:
    """Take programs from a store from now on, and leave there what is compiled."""
    _stores[:] = [store]


def compiled(
    function: Callable[..., R],
    static: tuple[str, ...] = (),
    options: dict[str, bool | int | str] | None = None,
) -> "Program[R]":
    """The function, compiled once for each structure of its arguments.

    Args:
        function: pure, of pytrees of numbers.
        static: names of arguments that are no numbers: hashable, and told apart by their `repr`.
        options: of the compiler.

    Raises:
        ValueError: if the function is none of a module, to be known by its name alone.
    """
    if "<" in function.__qualname__:
        raise ValueError(f"{function.__qualname__}: a compiled function must be one of a module")
    return Program(function, static, options)


traced_once = jax.jit
"""For a small function that many formulas call: JAX traces it once for all of them, and the
compiler still sees all of it where it is called. A search of layouts traces in half of the time.
"""


class Program(Generic[R]):
    """A function as `compiled` makes it."""

    def __init__(
        self,
        function: Callable[..., R],
        static: tuple[str, ...],
        options: dict[str, bool | int | str] | None,
    ) -> None:
        update_wrapper(self, function)
        self.jitted: Any = jax.jit(function, static_argnames=static, compiler_options=options)
        """What `jax.jit` makes of it."""
        self._static = frozenset(static)
        names = inspect.signature(function).parameters
        self._places = frozenset(place for place, name in enumerate(names) if name in static)
        self._identity = (function.__module__, function.__qualname__, repr(options))
        self._loaded: dict[Hashable, Callable[..., Any]] = {}
        _programs.append(self)

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        """The function's value; by a kept program where there is one."""
        if not _stores or jax.device_count() > 1:
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
            return program(*given[0], **given[1])
        key = self._key(known)
        program, result = (None, None) if key is None else _from_store(key, structure, given)
        if program is None:
            program = self._made(key, args, kwargs)
            result = program(*given[0], **given[1])
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
        return hashlib.blake2b((text + _surroundings()).encode(), digest_size=20).hexdigest()

    def _made(
        self, key: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> jax.stages.Compiled:
        """The program compiled here, and left in the store."""
        with _stores[0].apart():
            program = self.jitted.lower(*args, **kwargs).compile()
        written = None if key is None else _written(program)
        if key is not None and written is not None:
            _stores[0].put(key, written)
        return program


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


_UNREADABLE = (
    *(AttributeError, EOFError, ImportError, RuntimeError, TypeError, ValueError),
    pickle.UnpicklingError,
)
"""What an entry raises that was made elsewhere, or damaged."""


def _written(program: jax.stages.Compiled) -> bytes | None:
    """A program as bytes, with the structure of its result; None where it has no such form."""
    try:
        content, _, structure = serialize_executable.serialize(program)
        result = jax.tree.unflatten(structure, range(structure.num_leaves))
        return pickle.dumps((content, result))
    except (AttributeError, NotImplementedError, TypeError, ValueError, pickle.PicklingError):
        return None


def _from_store(
    key: str, structure: Any, given: tuple[tuple[Any, ...], dict[str, Any]]
) -> tuple[jax.stages.Compiled | None, Any]:
    """The program of a key for arguments of this structure, and its value for these; None where
    there is none, or it does not load or run here.
    """
    entry = _stores[0].get(key)
    if entry is None:
        return None, None
    try:
        content, like = pickle.loads(entry)
        program = serialize_executable.deserialize_and_load(
            content, structure, jax.tree.structure(like)
        )
        return program, jax.block_until_ready(program(*given[0], **given[1]))
    except _UNREADABLE:
        return None, None


@cache
def _surroundings() -> str:
    """All that programs of this process depend on beside function and arguments."""
    return repr(
        (
            _package(),
            jax.__version__,
            jaxlib.version.__version__,
            equinox.__version__,
            np.__version__,
            platform.python_version(),
            jax.default_backend(),
            os.environ.get("XLA_FLAGS"),
            platform.machine(),
            _processor(),
        )
    )


def _package() -> str:
    """Digest of sizes and times of the package's files: a formula or a number that changed changes
    programs.
    """
    digest, root = hashlib.blake2b(digest_size=20), Path(__file__).parent
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            state = os.stat(os.path.join(folder, name))
            digest.update(f"{folder}/{name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _processor() -> str:
    """The instructions that the processor knows, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
