"""The one exception of the public edge: what is wrong, where, and the remedy, in one line."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Input that qsopt cannot answer. The message names the field and the remedy."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not in a catalog, with its nearest matches."""
    options = sorted(known)
    near = difflib.get_close_matches(name.lower(), options, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(options)}"
    return InputError(f"unknown {kind} '{name}': {hint}")
