"""Clusters in a phrase: `8xh100`, or `2x8xh200` for two scale-up domains of eight."""

import re
from collections.abc import Collection
from typing import NamedTuple

from qsopt.errors import InputError

MOST_DEVICES = 1e9
"""A phrase names fewer devices."""

MIXED = (
    "several kinds of accelerators in one cluster are not modelled; ask about each kind by itself, "
    "or about the slowest one"
)
"""Why a heterogeneous cluster is refused."""

_JOINED = re.compile(r"[+,;&]|\band\b")
"""What stands between the kinds of a heterogeneous cluster."""


class Phrase(NamedTuple):
    """What a phrase says."""

    domains: int | None
    """Scale-up domains; None where the phrase does not say, and they are the accelerator's own."""
    devices: int
    """Devices of each domain, or of the whole cluster where no domains are stated."""
    accelerator: str
    """Name, which need not be one of the catalog."""


def read_phrase(phrase: str, accelerators: Collection[str]) -> Phrase:
    """Domains, devices and accelerator of a phrase; a bare name is one device.

    Args:
        phrase: as it was written.
        accelerators: names that are known, some of which hold an `x` themselves.

    Raises:
        InputError: if a count is not a positive whole number, or several kinds are named.
    """
    text = one_line(phrase).lower()
    if _JOINED.search(text):
        raise InputError(f"cluster '{text[:60]}': {MIXED}")
    first, rest = _counted(text, text, accelerators)
    if first is None:
        return Phrase(None, 1, rest)
    second, name = _counted(rest, text, accelerators)
    if second is None:
        return Phrase(None, first, name)
    if first * second > MOST_DEVICES:
        raise _miscounted(text)
    return Phrase(first, second, name)


def one_line(text: str) -> str:
    """The text without line breaks, for an error."""
    return " ".join(text.split())


def _counted(text: str, whole: str, accelerators: Collection[str]) -> tuple[int | None, str]:
    """The count that a text begins with, or None, and the rest."""
    count, _, rest = (part.strip() for part in text.partition("x"))
    counted = rest in accelerators or count.isdecimal()
    if text in accelerators or not counted:
        return None, text
    if not rest or not re.fullmatch("0*[1-9][0-9]{0,8}", count):
        raise _miscounted(whole)
    return int(count), rest


def _miscounted(text: str) -> InputError:
    return InputError(
        f"cluster '{text[:60]}': write a positive whole number of devices and an accelerator, as "
        f"in 8xh100, or domains, devices of each and an accelerator, as in 2x8xh200"
    )
