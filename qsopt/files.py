"""Files written whole or not at all, and files that are read only where they are files of a sane
size.

Whatever is written goes through `replacement`: a run that is stopped half-way, by a signal too that
nothing can catch, leaves the old file, never a torn one.
"""

import os
import secrets
import stat
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from qsopt.errors import InputError

PLOTS = (".png", ".svg", ".pdf")
"""Endings of the files that every plot can be written to."""

LARGEST = 2**26
"""Configs, settings and records are smaller [byte]."""

_UNFINISHED: set[Path] = set()
"""Temporary files of this process."""


# ---- writing -------------------------------------------------------------------------------------


@contextmanager
def replacement(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends without an exception.

    The temporary file is in the same folder, which is made where it is missing, since only a rename
    within one file system is atomic. It ends like `path`, as some writers choose a format by the
    suffix. A link stays one: what it leads to is replaced.

    Raises:
        InputError: if the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.stem[:40]}-{secrets.token_hex(4)}{target.suffix}")
    _UNFINISHED.add(temporary)
    try:
        _refuse_devices(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(target)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        _UNFINISHED.discard(temporary)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8.

    Raises:
        InputError: if the file cannot be written.
    """
    with replacement(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_figure(figure: Any, path: Path, **options: Any) -> None:
    """Write a figure of matplotlib; options are those of its `savefig`.

    Raises:
        InputError: if the file cannot be written.
    """
    with replacement(path) as temporary:
        figure.savefig(temporary, **options)


def discard_unfinished() -> None:
    """Remove the temporary files of a process that is about to end without cleaning up."""
    for temporary in tuple(_UNFINISHED):
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Refuse a file that cannot be written, before anything is computed. Nothing is left behind.

    Raises:
        InputError: saying why.
    """
    target = Path(os.path.realpath(path))
    try:
        _refuse_devices(target)
        _try(next(folder for folder in target.parents if folder.exists()))
    except OSError as error:
        raise _unwritable(path, error) from None


def check_folder(path: Path) -> None:
    """Refuse a folder in which no file can be written, before anything is computed.

    Raises:
        InputError: saying why.
    """
    target = Path(os.path.realpath(path))
    try:
        _try(next(folder for folder in (target, *target.parents) if folder.exists()))
    except OSError as error:
        raise _unwritable(path, error) from None


def check_plot(path: Path | None, endings: tuple[str, ...] = PLOTS) -> None:
    """Refuse the file of a plot that cannot be written, before anything is computed.

    Args:
        path: of the file; None where no plot is wanted.
        endings: that it may have.

    Raises:
        InputError: if it has another ending, or cannot be written.
    """
    if path is not None:
        check_file(path, "plot", endings)


def check_file(path: Path, what: str, endings: tuple[str, ...]) -> None:
    """Refuse a file of another kind, or one that cannot be written, before anything is computed.

    Args:
        path: of the file.
        what: the name of the option that gives it.
        endings: that it may have.

    Raises:
        InputError: if it has another ending, or cannot be written.
    """
    if path.suffix not in endings:
        raise InputError(f"{what} = {path}: give a file that ends in {' or '.join(endings)}")
    check_writable(path)


def _try(folder: Path) -> None:
    """Write in a folder and leave nothing."""
    with tempfile.TemporaryFile(dir=folder):
        pass


def _refuse_devices(target: Path) -> None:
    """Only files are replaced: no folder, device or pipe."""
    if target.exists() and not target.is_file():
        raise OSError(0, "it is there and no regular file")


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: cannot be written ({error.strerror or error}); give a file in a folder that you "
        f"may write to, where there is room"
    )


# ---- reading -------------------------------------------------------------------------------------


def read_text(path: Path, remedy: str, largest: int = LARGEST) -> str:
    """The text of a regular file in UTF-8, with or without a byte order mark.

    Devices and pipes, which may have no end, are refused without being opened.

    Args:
        path: of the file.
        remedy: what to give instead, for the error.
        largest: bytes that it may have.

    Raises:
        InputError: if there is no such file, it is larger, or no text.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(0, "it is no regular file")
        with path.open("rb") as file:
            content = file.read(largest + 1)
        if len(content) > largest:
            raise OSError(0, f"it has more than {largest:,} bytes")
        return content.decode("utf-8-sig")
    except OSError as error:
        reason = error.strerror or error
    except ValueError as error:  # no text, or a path that can be none
        reason = error
    raise InputError(f"{path}: cannot be read ({reason}); {remedy}")


def read_toml(path: Path, remedy: str) -> dict[str, Any]:
    """The table of a TOML file.

    Args:
        path: of the file.
        remedy: what to give instead, for the error.

    Raises:
        InputError: if it cannot be read, or is no TOML.
    """
    text = read_text(path, remedy)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason = error
    raise InputError(f"{path}: not valid TOML ({reason}); {remedy}")


@contextmanager
def understood(path: Path, remedy: str) -> Iterator[None]:
    """What fails in the block, which takes the content of a file apart, becomes an `InputError`.

    Raises:
        InputError: if an entry is missing or of another type.
    """
    try:
        yield
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{path}: an entry is missing or wrong ({reason}); {remedy}") from None
