"""What the parser complains about, said in one clear line: which option, what is wrong with it, and
what to give.
"""

import difflib
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

from qsopt.cli.help import Option, options
from qsopt.errors import InputError

_ORNAMENT = re.compile(r"[─│╭╮╰╯━┃┏┓┗┛]|-{4,}|\x1b\[[0-9;]*m")
"""Boxes, rules and colours of the parser."""

_OWN = re.compile(r"Error parsing (--.*?; write .*?) Argument helptext:")
"""What the parser wraps around our own complaint about a value."""

_CHOICE = re.compile(r"invalid choice '(.*?)' for argument '(.*?)'\. Expected one of \((.*?)\)")
_ABSENT = re.compile(r"Missing value for argument '(.*?)'")
_STRANGE = re.compile(r"Unrecognized options: (.*?)(?: Perhaps you meant| For full helptext|$)")
_NUMBER = re.compile(
    r"Error parsing (--[\w-]+): (?:invalid literal for (int)|could not convert).*?: '(.*?)'(?: |$)"
)


def check_command(words: Sequence[str], commands: Collection[str]) -> None:
    """Refuse words that do not begin with a command.

    Raises:
        InputError: with the commands that there are.
    """
    if not words:
        raise InputError(f"give a command: {', '.join(commands)}; see qsopt --help")
    if words[0] not in commands:
        near = difflib.get_close_matches(words[0], commands, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(
            f"unknown command '{words[0][:40]}': {hint}give one of {', '.join(commands)}; see "
            f"qsopt --help"
        )


def complaint(said: str, words: Sequence[str], kind: Any) -> InputError:
    """The error of a command line that the parser refused.

    Args:
        said: what it printed.
        words: of the command line.
        kind: class of the command.
    """
    text = " ".join(_ORNAMENT.sub(" ", said).split())
    clear = _clear(text, words, options(kind))
    return InputError(f"{clear}; see qsopt {words[0]} --help" if clear else text)


def _clear(text: str, words: Sequence[str], every: Sequence[Option]) -> str | None:
    """The complaint in a few words; None for one of a kind that is not known."""
    if text.startswith("Required options"):
        return _missing(words, every)
    for pattern, told in _TOLD:
        if found := pattern.search(text):
            return told(found)
    strange = _STRANGE.search(text)
    return None if strange is None else _unknown(strange[1].split(", ")[0], every)


def _choices(found: re.Match[str]) -> str:
    known = sorted(each for each in re.findall(r"'(.*?)'", found[3]) if each != "None")
    return f"{found[2]} = {found[1]}: give one of {', '.join(known)}"


def _number(found: re.Match[str]) -> str:
    what = "a whole number" if found[2] else "a number"
    return f"{found[1]} = {found[3]}: give {what}"


_TOLD: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (_OWN, lambda found: found[1]),
    (_CHOICE, _choices),
    (_ABSENT, lambda found: f"{found[1]} needs a value"),
    (_NUMBER, _number),
)
"""Patterns of complaints, with what is said instead."""


def _unknown(word: str, every: Sequence[Option]) -> str:
    if not word.startswith("-"):
        return f"unexpected '{word}': expected an option that begins with --"
    names = [name for each in every for name in each.names]
    near = difflib.get_close_matches(word, names, n=2, cutoff=0.6)
    return f"unknown option {word}" + (f": did you mean {' or '.join(near)}?" if near else "")


def _missing(words: Sequence[str], every: Sequence[Option]) -> str:
    given = {word.partition("=")[0] for word in words}
    needed = [each for each in every if "(required)" in each.text and not given & {*each.names}]
    names = [
        " or ".join(each.choices) if each.written[0] == "{" else each.names[0] for each in needed
    ]
    return f"give {' and '.join(names)}"
