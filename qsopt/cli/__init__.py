"""The command line: `qsopt evaluate`, `compare`, `optimize`, `map` and others.

Stdout holds only the answer. Bad input ends with status 2 and one line on stderr; an infeasible
design is an answer. Ctrl-C ends with status 130, and SIGTERM with 143.
"""

import contextlib
import gc
import io
import sys
from collections.abc import Sequence

from qsopt.cli.flags import refuse_idle, refuse_repeats
from qsopt.cli.progress import progress
from qsopt.errors import InputError
from qsopt.interrupts import answering_signals, interrupted
from qsopt.version import __version__

SLOW = ("calibrate", "map")
"""Commands that compute long enough for the compiler to do its best."""

GARBAGE = 50_000
"""Objects between two looks for garbage, of which a command makes little beside all that modules
are. At its end nothing is looked at once more, which would take longer than many an answer.
"""

BAD_INPUT, INTERRUPTED = 2, 130
"""Exit statuses."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: of the command line; if left out, those of the process, which Ctrl-C and SIGTERM
            then end at once.

    Returns:
        The exit status: 0 for an answer, 2 for bad input or no room for the answer, 130 for what
        was found before an interrupt.
    """
    if arguments is not None:
        return _status(arguments)
    gc.set_threshold(GARBAGE)
    with answering_signals():
        status = _status(sys.argv[1:])
    gc.freeze()
    return status


def _status(words: Sequence[str]) -> int:
    """Run a command; what may go wrong becomes one line."""
    try:
        _run(words)
        sys.stdout.flush()
    except InputError as error:
        return _refused(str(error))
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stdout = None
    except OSError as error:
        sys.stdout = None  # Python would try once more to write what does not fit
        return _refused(f"the answer cannot be written ({error.strerror or error}); make room")
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return _refused("there is not enough memory; ask for fewer points, starts or draws")
    return INTERRUPTED if interrupted() else 0


def _run(words: Sequence[str]) -> None:
    if list(words) == ["--version"]:
        print(f"qsopt {__version__}")
        return
    from qsopt.cli import runtime  # noqa: PLC0415  (settings must precede JAX)

    runtime.configure(quick=next(iter(words), "") not in SLOW)
    with runtime.reading_ahead(words):
        command = _parsed(words)
        refuse_repeats(words)
        refuse_idle(command)
        with progress(words[0]):
            command.run()


def _refused(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return BAD_INPUT


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
