"""Programs in a store, where they outlive the process: written, read, and read ahead of need.

A program is kept as a function of the numbers that its arguments hold, so that reading one needs no
module of what it computes.
"""

import hashlib
import os
import pickle
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import equinox
import jax
import jaxlib.version
import numpy as np
from jax.experimental import serialize_executable

OfNumbers = Callable[[list[Any]], Any]
"""A program as a function of the numbers that its arguments hold, in order."""


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


stores: list[Store] = []
"""The store in use, if any."""


def keep_in(store: Store) -> None:
    """Take programs from a store from now on, and leave there what is compiled."""
    stores[:] = [store]


_UNREADABLE = (
    *(AttributeError, EOFError, ImportError, RuntimeError, TypeError, ValueError),
    pickle.UnpicklingError,
)
"""What an entry raises that was made elsewhere, or damaged."""


def _written(program: jax.stages.Compiled) -> bytes | None:
    """A program as bytes, with how many numbers enter and leave it and the structure of its result;
    None where it has no such form.
    """
    try:
        content, given, structure = serialize_executable.serialize(program)
        like = pickle.dumps(jax.tree.unflatten(structure, range(structure.num_leaves)))
        return pickle.dumps((content, given.num_leaves, structure.num_leaves, like))
    except (AttributeError, NotImplementedError, TypeError, ValueError, pickle.PicklingError):
        return None


def keep(key: str, program: jax.stages.Compiled) -> None:
    """Leave a program in the store, where it has a form to be kept in."""
    written = _written(program)
    if written is not None:
        stores[0].put(key, written)
        _asked_for[key] = None


def kept(key: str, leaves: list[Any]) -> tuple[OfNumbers | None, Any]:
    """The program of a key, and its value for these numbers; None where there is none, or it does
    not load or run here.
    """
    try:
        read = _ahead.pop(key, None)
        # what no thread has begun with is read at once
        found = _read(key) if read is None or read.cancel() else read.result()
        if found is None:
            return None, None
        program, like = found
        structure = jax.tree.structure(pickle.loads(like))

        def called(numbers: list[Any]) -> Any:
            return jax.tree.unflatten(structure, program(*numbers))

        result = jax.block_until_ready(called(leaves))
    except _UNREADABLE:
        return None, None
    _asked_for[key] = None
    return called, result


def _read(key: str) -> tuple[jax.stages.Compiled, bytes] | None:
    """The program of a key as a function of its numbers, and what its result is like."""
    entry = stores[0].get(key)
    if entry is None:
        return None
    content, entering, leaving, like = pickle.loads(entry)
    given = jax.tree.structure((tuple(range(entering)), {}))
    structure = jax.tree.structure(list(range(leaving)))
    return serialize_executable.deserialize_and_load(content, given, structure), like


# ---- programs that are likely to be asked for ----------------------------------------------------

_asked_for: dict[str, None] = {}
"""Keys of what this process took from the store or left there, in order."""

_ahead: dict[str, Future[tuple[jax.stages.Compiled, bytes] | None]] = {}
"""Programs that are being read, by their keys."""


@contextmanager
def reading_ahead(name: str, less_exactly: str) -> Iterator[None]:
    """While what is done here goes on, read the programs that were asked for when it was last done,
    beside it where there is more than one core: reading takes longer than most of them run.

    Args:
        name: of what is done here.
        less_exactly: name of all that is like it, whose programs are taken where this is new.
    """
    names = [_named(each) for each in (name, less_exactly)]
    known = next((each for each in map(_listed, names) if each), [])
    with ThreadPoolExecutor(max(1, CORES - 1)) as pool:
        _ahead.update((key, pool.submit(_read, key)) for key in (known if CORES > 1 else ()))
        try:
            yield
        finally:
            for waiting in _ahead.values():
                waiting.cancel()
            _ahead.clear()
    if stores and _asked_for and list(_asked_for) != known:
        for each in names:
            stores[0].put(each, "\n".join(_asked_for).encode())


CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""Cores that this process may use."""


def _named(name: str) -> str:
    """Key of the list of programs of a name."""
    text = f"programs of {name} {surroundings()}"
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


def _listed(key: str) -> list[str]:
    """The programs of a list, in the order in which they were asked for."""
    return (stores[0].get(key) or b"").decode("ascii", "replace").split() if stores else []


@cache
def surroundings() -> str:
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
