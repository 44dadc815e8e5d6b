"""`--help` of a command: its own options first, then those that it shares with others.

The parser's own help is read once without boxes and written anew: it keeps the order of fields, in
which those of `Question` come first, and names types as Python does.
"""

import contextlib
import io
import os
import re
import shutil
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import tyro

WIDE = "10000"
"""Columns in which every description stands in the line of its option."""

FIRST = ("--help", "--model", "--like", "--cluster")
"""What a question begins with."""

INDENT = 22
"""Where descriptions begin [columns]."""

_ROW = re.compile(r"^  (?P<option>-\S.*?|\{\S+\})(?:\s{2,}(?P<text>\S.*?))?\s*$")
_MORE = re.compile(r"^\s{6,}(\S.*?)\s*$")
_NONE = re.compile(r"\{None\}\||(?<=\{)None,")
_DEFAULT = re.compile(r"\s*\(default: (None|False|''|)\)")


@dataclass(frozen=True)
class Option:
    """One option: how it is written, and what it does."""

    written: str
    text: str

    @property
    def names(self) -> tuple[str, ...]:
        """Its names, `--` and all; the name of a positional argument is its choices."""
        return tuple(re.findall(r"--?[\w-]+", self.written)) or (self.written,)

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that it takes where they are few."""
        found = re.search(r"\{([\w,.-]+)\}", self.written)
        return tuple(found[1].split(",")) if found else ()


@cache
def options(kind: Any) -> tuple[Option, ...]:
    """The options of a command, in the order of its fields."""
    rows: list[list[str]] = []
    for line in _unboxed(kind).splitlines():
        if row := _ROW.match(line):
            rows.append([row["option"], row["text"] or ""])
        elif rows and (more := _MORE.match(line)):
            rows[-1][1] += f" {more[1]}"
    return tuple(Option(_NONE.sub("", name), _DEFAULT.sub("", text).strip()) for name, text in rows)


def help_text(kind: Any, name: str, shared: Collection[str]) -> str:
    """The help of a command in the width of the terminal.

    Args:
        kind: class of the command.
        name: of the command.
        shared: names of fields that other commands have too.
    """
    width = shutil.get_terminal_size().columns
    every = options(kind)
    common = {f"--{field.replace('_', '-')}" for field in _flags(kind, shared)}
    own = [each for each in every if not common & set(each.names)]
    own.sort(key=lambda each: min((FIRST.index(n) for n in each.names if n in FIRST), default=9))
    rest = [each for each in every if common & set(each.names)]
    required = " ".join(each.written for each in own if "(required)" in each.text)
    paragraphs = (" ".join(part.split()) for part in (kind.__doc__ or "").split("\n\n"))
    lines = [f"usage: qsopt {name} {required} [options]".replace("  ", " "), ""]
    for paragraph in paragraphs:
        lines += [*textwrap.wrap(paragraph, width, break_on_hyphens=False), ""]
    lines += ["options:", *_rows(own, width)]
    if rest:
        lines += ["", "common options:", *_rows(rest, width)]
    return "\n".join(lines)


def overview(about: str, kinds: Mapping[str, Any]) -> str:
    """The help of the whole: every command with the first sentence about it."""
    width = shutil.get_terminal_size().columns
    rows = [Option(name, _first_sentence(kind.__doc__ or "")) for name, kind in kinds.items()]
    paragraphs = (" ".join(part.split()) for part in about.split("\n\n"))
    lines = ["usage: qsopt COMMAND [options]", ""]
    for paragraph in paragraphs:
        lines += [*textwrap.wrap(paragraph, width, break_on_hyphens=False), ""]
    lines += ["commands:", *_rows(rows, width), ""]
    return "\n".join(
        [*lines, "qsopt COMMAND --help tells its options, qsopt --version the version"]
    )


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.;])\s", " ".join(text.split()), maxsplit=1)[0].rstrip(".;")


def _flags(kind: Any, shared: Collection[str]) -> list[str]:
    """Names on the command line of shared fields, but for those that every question begins with."""
    renamed = {"busy": "load", "family": "as"}
    names = {field.name for field in fields(kind)} & set(shared)
    return [renamed.get(name, name) for name in names if name not in ("model", "cluster")]


def _rows(rows: Sequence[Option], width: int) -> list[str]:
    """Options with their descriptions, indented; long options have a line of their own."""
    lines = []
    for each in rows:
        head, told = f"  {each.written}", each.text
        if len(head) > width:  # more choices than a line holds
            head = f"  {each.names[0]} NAME"
            told = f"{told} One of {', '.join(each.choices)}."
        text = textwrap.wrap(told, width - INDENT, break_on_hyphens=False) or [""]
        if len(head) <= INDENT - 2:
            lines.append(f"{head:<{INDENT}}{text.pop(0)}".rstrip())
        else:
            lines.append(head)
        lines += [" " * INDENT + line for line in text]
    return lines


def _unboxed(kind: Any) -> str:
    """The parser's help in the widest terminal."""
    printed, before = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDE
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            tyro.cli(kind, prog="qsopt", args=["--help"])
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before
    plain = re.sub(r"\x1b\[[0-9;]*m", "", printed.getvalue())
    return plain.replace("│ ", "  ").replace("│", "")
