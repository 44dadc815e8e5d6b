"""`qsopt lifetime`: train and serve an MoE, its dense match, or a distilled match."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from qsopt.catalog.accelerators import load_accelerator
from qsopt.cli.options import Question
from qsopt.cli.quantities import Share, Tokens
from qsopt.files import check_plot
from qsopt.lifetimes.training import MFU, SEQUENCE, trainer
from qsopt.report.lifetime_question import answer_of, question
from qsopt.report.lifetime_text import show_lifetime
from qsopt.report.records import answer_json
from qsopt.report.records.lifetime import lifetime_record


@dataclass(frozen=True)
class LifetimeCommand(Question):
    """Train an MoE and serve it, train its dense match and serve that, or distil the MoE to the
    match: what each costs, and the served tokens at which the order changes.

    Every device is rented all the time and serves as fast as the limits allow.
    """

    takes_requests: ClassVar[bool] = True
    training: str | None = None
    """Accelerator that trains, such as h800; the one that serves if left out."""
    mfu: Share = MFU
    """Share of its bf16 peak that the operations of the model reach over the whole run."""
    sequence: Tokens = SEQUENCE
    """Tokens of a training sequence."""
    student_share: float | None = None
    """Tokens of distillation over those of training; a fortieth to all if left out, as no law says
    more.
    """
    seed: int = 0
    """Of the draws behind the intervals."""
    plot: Path | None = None
    """Write the costs over served tokens to this PNG, SVG or PDF file, and its numbers to a CSV
    file beside it.
    """

    def run(self) -> None:
        """Search and print."""
        check_plot(self.plot)
        model, service = self.load()
        inquiry = self.inquiry(model, service)
        serving = service.cluster.accelerator
        chip = serving if self.training is None else load_accelerator(self.training)
        asked = question(
            inquiry, trainer(chip, self.mfu, self.sequence), self.student_share, self.seed
        )
        record = lifetime_record(answer_of(inquiry, asked), inquiry, asked)
        title = f"{self.model} on {self.cluster}: {self.asked_in_words()}"
        if self.plot is not None:
            from qsopt.report.lifetime_plot import plot_lifetime  # noqa: PLC0415  (matplotlib is slow to import)

            plot_lifetime(record, title, self.plot)
        if self.json:
            print(answer_json(record))
        else:
            show_lifetime(record, title)
