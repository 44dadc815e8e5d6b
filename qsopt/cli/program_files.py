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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

from qsopt.errors import InputError
from qsopt.files import replacement

_DIGEST = 16
"""Length of a digest [byte]."""


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

    from qsopt.programs import keep_in  # noqa: PLC0415

    entries = WholeEntries(folder)
    keep_in(entries)
    try:
        internals: Any = import_module("jax._src.compilation_cache")
    except ImportError:
        return
    if not hasattr(internals, "get_file_cache"):
        return
    internals.get_file_cache = lambda path: (_OfJax(entries), path)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


class WholeEntries:
    """A cache as JAX asks for one: entries by key, each whole or not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock, self._compiling = Lock(), 0

    @contextmanager
    def apart(self) -> Iterator[None]:
        """See `programs.Store`."""
        with self._lock:
            self._compiling += 1
        try:
            yield
        finally:
            with self._lock:
                self._compiling -= 1

    @property
    def shared(self) -> bool:
        """Whether JAX may take and keep entries too: while no thread compiles what is kept here."""
        return self._compiling == 0

    def get(self, key: str) -> bytes | None:
        """The entry of a key; None where there is none, or it was damaged."""
        try:
            content = self._file(key).read_bytes()
        except OSError:
            return None
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
        return self.folder / f"{key}-whole"


class _OfJax:
    """The same entries for what JAX keeps itself."""

    def __init__(self, entries: WholeEntries) -> None:
        self._entries = entries
        self._path = entries.folder  # asked for by JAX

    def get(self, key: str) -> bytes | None:
        """The entry of a key, unless JAX has none now."""
        return self._entries.get(key) if self._entries.shared else None

    def put(self, key: str, value: bytes) -> None:
        """Keep an entry, unless JAX has none now."""
        if self._entries.shared:
            self._entries.put(key, value)


def _digest(key: str, value: bytes) -> bytes:
    return hashlib.blake2b(key.encode() + value, digest_size=_DIGEST).digest()
