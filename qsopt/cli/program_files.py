"""The cache of compiled programs on disk: ours alone, and of whole entries.

JAX runs what lies in its cache, so a folder that others may write to is not used. It also takes an
entry that was cut short for one that is there, and warns about it in every process from then on; so
here every entry is written whole and begins with a digest, and what does not fit its own is dropped
and made anew. `jax.config` knows no other form of cache, so the function of JAX that makes one is
replaced; where a version has none of that name there is no cache, and commands are slower.
"""

import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from qsopt.errors import InputError
from qsopt.files import replacement

_DIGEST = 16
"""Length of a digest [byte]."""

MOST = 500e6
"""Size of a cache beyond which the entries go that were used longest ago, when a command begins
[byte]: programs of other versions, of which each has about 40 MB.
"""


def own_folder() -> Path | None:
    """The folder of the cache, for this user alone; None where there is none to trust."""
    try:
        base = os.environ.get("XDG_CACHE_HOME", "")
        cache = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
        folder = cache / "qsopt" / "compiled"
        folder.mkdir(parents=True, exist_ok=True)
        owned = all(_is_own(each) for each in (folder.parent, folder))
    except (OSError, RuntimeError):  # RuntimeError: nobody knows the home
        return None
    return folder if owned and os.access(folder, os.W_OK) else None


def _is_own(folder: Path) -> bool:
    """Whether a folder is this user's, after it was closed to all others."""
    state = folder.lstat()
    if not stat.S_ISDIR(state.st_mode):
        return False
    if hasattr(os, "getuid"):
        if state.st_uid != os.getuid():
            return False
        folder.chmod(stat.S_IRWXU)
    return True


def use(folder: Path) -> None:
    """Keep what this process compiles in a folder, and take what is there."""
    import jax  # noqa: PLC0415  (slow, and reads the environment)

    from qsopt.program_store import keep_in  # noqa: PLC0415

    prune(folder, MOST)
    keep_in(WholeEntries(folder))
    try:
        internals: Any = import_module("jax._src.compilation_cache")
    except ImportError:
        return
    if not hasattr(internals, "get_file_cache"):
        return
    internals.get_file_cache = lambda path: (_OfJax(Path(path)), path)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


_compiling = threading.local()
"""Whether this thread compiles what JAX is to know nothing of."""


class WholeEntries:
    """A cache as JAX asks for one: entries by key, each whole or not there."""

    def __init__(self, folder: Path) -> None:
        self._path = folder

    @contextmanager
    def apart(self) -> Iterator[None]:
        """See `program_store.Store`; of this thread, which is the one that compiles."""
        _compiling.apart = True
        try:
            yield
        finally:
            _compiling.apart = False

    def get(self, key: str) -> bytes | None:
        """The entry of a key; None where there is none, or it was damaged."""
        try:
            content = self._file(key).read_bytes()
        except OSError:
            return None
        with suppress(OSError):
            os.utime(self._file(key))  # used now
        value = content[_DIGEST:]
        if content[:_DIGEST] == _digest(key, value):
            return value
        with suppress(OSError):
            self._file(key).unlink()
        return None

    def put(self, key: str, value: bytes) -> None:
        """Keep an entry, in place of one that JAX could not use; where it cannot be written, it is
        not kept.
        """
        with suppress(InputError), replacement(self._file(key)) as temporary:
            temporary.write_bytes(_digest(key, value) + value)

    def _file(self, key: str) -> Path:
        return self._path / f"{key}-whole"


def prune(folder: Path, most: float) -> None:
    """Remove the entries of a cache that were used longest ago, until it is no larger than `most`
    bytes; what another process removes or holds meanwhile is passed over.
    """
    entries: list[tuple[float, int, Path]] = []
    for path in folder.glob("*-whole"):
        with suppress(OSError):
            state = path.stat()
            entries.append((state.st_mtime, state.st_size, path))
    size = 0
    for _, own, path in sorted(entries, reverse=True):
        size += own
        if size > most:
            with suppress(OSError):
                path.unlink()


class _OfJax(WholeEntries):
    """The same entries as JAX sees them: none while a program is compiled apart."""

    def get(self, key: str) -> bytes | None:
        """The entry of a key."""
        return None if getattr(_compiling, "apart", False) else super().get(key)

    def put(self, key: str, value: bytes) -> None:
        """Keep an entry."""
        if not getattr(_compiling, "apart", False):
            super().put(key, value)


def _digest(key: str, value: bytes) -> bytes:
    return hashlib.blake2b(key.encode() + value, digest_size=_DIGEST).digest()
