"""`qsopt report`: a comparison as a page for a browser."""

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_args, get_origin, get_type_hints

from qsopt.cli.options import Question
from qsopt.errors import InputError, check_seed
from qsopt.files import check_file
from qsopt.report.inquiry import ALL
from qsopt.report.page.html import check_library, write_page
from qsopt.report.page.record import page_record
from qsopt.report.records import answer_json


@dataclass(frozen=True)
class Report(Question):
    """A comparison as one HTML file, which a browser shows without a network: the verdict and its
    interval, the ratio along lengths, a map with sliders, what makes the ratio, limits with launch
    commands, errors and sources.
    """

    takes_requests: ClassVar[bool] = True
    seed: int = 0
    """Of the draws behind the probability that dense wins."""
    out: Path = Path("report.html")
    """HTML file to write."""

    def run(self) -> None:
        """Compare, write the page and say the verdict.

        Raises:
            InputError: if the file cannot be written, what draws it is not installed, or all laws
                are asked for.
        """
        check_file(self.out, "out", (".html", ".htm"))
        check_library()
        if self.law == ALL:
            raise InputError("law = all: a report rests on one law; give one, such as power")
        check_seed(self.seed)
        model, service = self.load()
        record = page_record(self.inquiry(model, service), command_of(self, "report"), self.seed)
        write_page(record, self.out)
        print(answer_json(record) if self.json else f"{record['verdict']}\nwritten: {self.out}")


_FORM = ("json", "out", "plot")
"""What says how a question is answered, and is no part of it."""


def command_of(question: Question, command: str) -> str:
    """The command line that asks a question: what differs from what is usual, wherever the answer
    goes.
    """
    hints = get_type_hints(type(question), include_extras=True)
    words = ["qsopt", command]
    for field in dataclasses.fields(question):
        value = getattr(question, field.name)
        if value != field.default and field.name not in _FORM:
            words += _flag(_flag_name(field.name, hints[field.name]), value)
    return shlex.join(words)


def _flag_name(name: str, hint: Any) -> str:
    """As the parser calls it."""
    if get_origin(hint) is Annotated:
        for note in get_args(hint)[1:]:
            found = getattr(note, "name", None)
            if isinstance(found, str):
                return f"--{found}"
    return f"--{name.replace('_', '-')}"


def _flag(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [name]
    if isinstance(value, tuple):
        return [word for one in value for word in (name, str(one))]
    return [name, f"{value:.12g}" if isinstance(value, float) else str(value)]
