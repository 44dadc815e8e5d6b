"""The command line: `qsopt evaluate`, `compare`, `optimize`, `map` and others.

Stdout holds only the answer. Bad input ends with status 2 and one line on stderr; an infeasible
design is an answer.
"""

import contextlib
import io
import sys
from collections.abc import Sequence

from qsopt.version import __version__

SLOW = ("calibrate", "map")
"""Commands that compute long enough for the compiler to do its best."""


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
    from qsopt.cli.progress import progress  # noqa: PLC0415
    from qsopt.errors import InputError  # noqa: PLC0415

    try:
        if list(words) == ["--version"]:
            print(f"qsopt {__version__}")
        else:
            command = _parsed(words)
            with progress(words[0]):
                command.run()
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stdout = None
    return 0


def _parsed(words: Sequence[str]):
    """The command that the words name; complaints of the parser become one line."""
    from qsopt.cli.commands import COMMANDS, help_of, load, parsed  # noqa: PLC0415
    from qsopt.cli.complaints import check_command, complaint  # noqa: PLC0415

    if {"-h", "--help"} & set(words):
        print(help_of(words, __doc__ or ""))
        raise SystemExit(0)
    check_command(words, COMMANDS)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return parsed(words)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise complaint(said.getvalue(), words, load(words[0])) from None
