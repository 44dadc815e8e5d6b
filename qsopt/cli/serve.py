"""`qsopt serve`: whole requests of one model."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import jax
import numpy as np

from qsopt.catalog.models import load_model
from qsopt.cli.options import Question
from qsopt.errors import InputError, exactly
from qsopt.files import check_plot
from qsopt.report.records import answer_json
from qsopt.report.records.serving import serve_record
from qsopt.report.serving_plot import ENDINGS, write_front
from qsopt.report.serving_text import show_serving
from qsopt.serving.answer import serving
from qsopt.serving.devices import fewest_devices
from qsopt.serving.speculation import Draft, next_token_layer
from qsopt.serving.ways import SEARCHED, asked, layouts_of, lists
from qsopt.spec.model import Model

WayOfServing = Literal["mixed", "alternating", "disaggregated"]


@dataclass(frozen=True)
class Serve(Question):
    """The best ways to serve requests of a prompt and an answer: layouts, batches and chunks of
    both phases, ranked.

    Times are those of a server: what it adds to the operators was fitted to end-to-end results.
    With tokens-per-step above 1 drafts are made by the layers for multi-token prediction that the
    model's config states, or by one more layer where it states none, or by --draft.
    """

    takes_requests: ClassVar[bool] = True
    way_of_serving: WayOfServing | None = None
    """Only this way: prompts and answers in the same steps (mixed), prompts between steps
    (alternating), or in pools of their own (disaggregated).
    """
    top: int = 10
    """Ways and layouts that are ranked."""
    draft: str | None = None
    """Model that makes drafts with tokens-per-step above 1, by catalog name or config.json."""
    requests_per_s: float | None = None
    """Find the fewest devices that serve so many requests per second, in replicas of at most this
    cluster.
    """
    plot: Path | None = None
    """Write the front of tokens/s per device against tokens/s per user to this PNG, SVG or PDF
    file with its numbers in a CSV file beside it, or to a CSV file alone.
    """

    def run(self) -> None:
        """Search and print."""
        self._check()
        model, service = self.load()
        ways = SEARCHED if self.way_of_serving is None else (self.way_of_serving,)
        served = jax.tree.map(np.asarray, asked(model, service, self._draft(model)))
        every, groups = lists(layouts_of(model, service), ways)
        answer = serving(served, every, groups, self.top)
        load = self.requests_per_s
        fewest = None if load is None else fewest_devices(served, every, groups, load)
        record = serve_record(answer, self.inquiry(model, service), fewest, self.draft)
        title = f"{self.model} on {self.cluster}: {self.asked_in_words()}"
        if self.plot is not None:
            write_front(record["pareto"], title, self.plot)
        if self.json:
            print(answer_json(record))
        else:
            show_serving(record, title)

    def _draft(self, model: Model) -> Draft | None:
        if self.tokens_per_step <= 1.0:
            return None
        return next_token_layer(model) if self.draft is None else Draft(load_model(self.draft))

    def _check(self) -> None:
        """Refuse what would fail only after all the computing.

        Raises:
            InputError: if a number is out of range, or no plot can be written to the path.
        """
        if self.draft is not None and self.tokens_per_step <= 1.0:
            raise InputError(
                f"draft = {self.draft}: nothing is drafted; give --tokens-per-step above 1"
            )
        if self.top < 1:
            raise InputError(f"top = {self.top}: give a whole number, one or more")
        if self.requests_per_s is not None and not 0 < self.requests_per_s < float("inf"):
            raise InputError(
                f"requests_per_s = {exactly(self.requests_per_s)}: give a positive number of "
                "requests"
            )
        check_plot(self.plot, ENDINGS)
