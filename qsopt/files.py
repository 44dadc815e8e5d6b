"""Files written whole or not at all: a run that is stopped half-way leaves the old file, never a
torn one.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qsopt.errors import InputError

PLOTS = (".png", ".svg", ".pdf")
"""Endings of the files that every plot can be written to."""


@contextmanager
def replacement(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends without an exception.

    The temporary file is in the same folder, which is made where it is missing, since only a rename
    within one file system is atomic. It ends like `path`, as some writers choose a format by the
    suffix.

    Raises:
        InputError: if the file cannot be written.
    """
    temporary = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); give a file in a folder that you may "
            f"write to"
        ) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8.

    Raises:
        InputError: if the file cannot be written.
    """
    with replacement(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_plot(path: Path | None, endings: tuple[str, ...] = PLOTS) -> None:
    """Refuse the file of a plot that cannot be written, before anything is computed.

    Args:
        path: of the file; None where no plot is wanted.
        endings: that it may have.

    Raises:
        InputError: if it has another ending, or its folder cannot be there.
    """
    if path is not None:
        check_file(path, "plot", endings)


def check_file(path: Path, what: str, endings: tuple[str, ...]) -> None:
    """Refuse a file that cannot be written, before anything is computed.

    Args:
        path: of the file.
        what: the name of the option that gives it.
        endings: that it may have.

    Raises:
        InputError: if it has another ending, or its folder cannot be there.
    """
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if path.suffix not in endings or path.is_dir() or not parent.is_dir():
        raise InputError(
            f"{what} = {path}: give a file that ends in {' or '.join(endings)}, in a folder that "
            f"can be written"
        )
