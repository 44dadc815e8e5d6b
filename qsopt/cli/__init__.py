"""The command line: `qsopt evaluate`, `compare`, `optimize`, `map` and others.

Stdout holds only the answer. Bad input ends with status 2 and one line on stderr; an infeasible
design is an answer.
"""

import contextlib
import io
import re
import sys
from collections.abc import Sequence

from qsopt.version import __version__

SLOW = ("calibrate", "map")
"""Commands that compute long enough for the compiler to do its best."""

_ORNAMENT = re.compile(r"[─│╭╮╰╯━┃┏┓┗┛]|-{4,}|\x1b\[[0-9;]*m")
"""Boxes, rules and colours of the parser."""

_VALUE_ERROR = re.compile(r"^Value error Error parsing (--.*?; write .*?) Argument helptext:.*$")
"""What the parser wraps around our own complaint about a value."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: of the command line; those of the process if left out.

    Returns:
        The exit status: 0 for an answer, 2 for bad input.
    """
    from qsopt.cli import runtime  # noqa: PLC0415  (settings must precede JAX)

    words = sys.argv[1:] if arguments is None else arguments
    runtime.configure(quick=next(iter(words), "") not in SLOW)
    from qsopt.errors import InputError  # noqa: PLC0415

    try:
        if list(words) == ["--version"]:
            print(f"qsopt {__version__}")
        else:
            _parsed(words).run()
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stdout = None
    return 0


def _parsed(words: Sequence[str]):
    """The command that the words name; complaints of the parser become one line."""
    from qsopt.cli.commands import parsed  # noqa: PLC0415
    from qsopt.errors import InputError  # noqa: PLC0415

    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return parsed(words, __doc__)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        said = _ORNAMENT.sub(" ", complaint.getvalue()).split()
        raise InputError(_VALUE_ERROR.sub(r"\1", " ".join(said))) from None
