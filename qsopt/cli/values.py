"""What the values of flags mean: sizes that may be words, formats of parts."""

from collections.abc import Callable

from qsopt.errors import InputError
from qsopt.spec.formats import Format
from qsopt.spec.model import Model

MOST_RANKS = 10**6
"""No size is larger."""


def size(name: str, text: str, words: dict[str, int | None]) -> int | None:
    """A size, or the word that stands for one."""
    if text.lower() in words:
        return words[text.lower()]
    if not text.isdecimal() or not 0 < int(text) < MOST_RANKS:
        raise InputError(f"{name} = {text[:40]}: give a whole number, or {' or '.join(words)}")
    return int(text)


PARTS = ("attention", "ffn", "experts", "tables")
"""Parts of a model that may have a weight format of their own."""


def part_formats(text: str) -> dict[str, str]:
    """Names of formats by part, from one name for all of them or `part=name` with commas.

    Raises:
        InputError: if there is no such part, or one stands twice.
    """
    if "=" not in text:
        return dict.fromkeys(PARTS, text)
    formats: dict[str, str] = {}
    for each in text.split(","):
        part, _, name = (word.strip() for word in each.partition("="))
        if part not in PARTS or part in formats:
            raise InputError(
                f"weight_dtype = {text[:60]}: give a format, or part=format once for some of "
                f"{', '.join(PARTS)}"
            )
        formats[part] = name
    return formats


def format_of(part: str) -> Callable[[Model], Format]:
    """Where a model keeps the weight format of a part, for `eqx.tree_at`."""
    return lambda model: getattr(model.precision, part)
