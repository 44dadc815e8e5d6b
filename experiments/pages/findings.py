"""What do the experiments find, in one page whose every number and figure comes from their results?

`python -m experiments.pages.findings` writes docs/findings.md from `results/`. Words such as
"holds" are chosen by the numbers, so the page stays true when results move.
"""

from dataclasses import dataclass
from pathlib import Path

from experiments.framework import study
from experiments.pages.advice import advice
from experiments.pages.evidence import Book
from experiments.pages.findings_claims import contexts, headline, predictor, reuse, switch
from experiments.pages.findings_maps import bound, hardware, maps, sparsity, stacks
from experiments.pages.template import render
from qsopt.files import write_text

SECTIONS = (
    headline,
    contexts,
    switch,
    reuse,
    predictor,
    maps,
    bound,
    sparsity,
    hardware,
    stacks,
    advice,
)
"""What computes the numbers of a section; the template knows them by its name."""


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Where the results are and where the page goes."""

    results: str
    page: str


def page(book: Book) -> str:
    """The whole page."""
    numbers = {section.__name__: section(book) for section in SECTIONS}
    return render("findings.md", book=book, **numbers)


def main(settings: Settings) -> None:
    book = Book(Path(settings.results))
    write_text(Path(settings.page), page(book))
    print(f"{settings.page}: written from {book.results}")


if __name__ == "__main__":
    study.start(main, Settings, "findings")
