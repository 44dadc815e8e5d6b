"""`qsopt crossover`: where along one input the verdict of a comparison flips."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import equinox as eqx
import tyro

from qsopt.catalog.accelerators import resized
from qsopt.cli.options import Question
from qsopt.cli.quantities import range_end
from qsopt.errors import InputError
from qsopt.files import check_plot
from qsopt.maps.crossover import SweptInput, crossovers
from qsopt.maps.pair import MatchedPair
from qsopt.report.map_text import show_crossovers
from qsopt.report.records import answer_json
from qsopt.report.records.maps import crossover_record

Low = Annotated[str | None, tyro.conf.arg(name="from")]
High = Annotated[str | None, tyro.conf.arg(name="to")]


@dataclass(frozen=True)
class Crossover(Question):
    """Context length, batch, cluster size, q, bandwidth or limit at which an MoE starts to beat or
    lose to its dense twin; with prompt and answer, a number of the requests.

    Both sides are in their own best legal deployment, or way of serving, everywhere. All flips in
    the range are found, and where a side stops to fit.
    """

    takes_requests: ClassVar[bool] = True
    usual_context: ClassVar[float | None] = 8192.0
    over: SweptInput = "context"
    """What moves. batch: sequences that decode at once in the whole cluster, at most; bandwidth in
    byte/s; ttft and tpot in seconds. With a prompt and an answer: prompt, answer, cached, ttft,
    tpot, load, acceptance, q or bandwidth.
    """
    low: Low = None
    """Lower end of the range in units of what moves, such as 1k or 3.35TB/s."""
    high: High = None
    """Upper end of the range."""
    plot: Path | None = None
    """Write the ratio along the range to this PNG, SVG or PDF file, and its numbers to a CSV file
    beside it.
    """

    def run(self) -> None:
        """Find the flips and print."""
        check_plot(self.plot)
        low, high = range_end(self.low, self.over, "from"), range_end(self.high, self.over, "to")
        if low is None or high is None:
            raise InputError(f"crossover over {self.over} needs a range: give --from and --to")
        model, service = self.load()
        if self.over == "devices":
            service = eqx.tree_at(lambda s: s.cluster, service, resized(service.cluster, high))
        inquiry = self.inquiry(model, service)
        inquiry.check_one_law()
        q = inquiry.believe().q
        pair = MatchedPair(model, service, q, inquiry.kind, inquiry.named)
        found = crossovers(pair, self.over, low, high)
        record = crossover_record(found, inquiry, self.over, pair)
        if self.plot is not None:
            from qsopt.report.crossover_plot import plot_crossovers  # noqa: PLC0415  (matplotlib is slow to import)

            title = f"{self.model} on {self.cluster}, {self.efficiency} efficiencies"
            plot_crossovers(found, self.over, title, self.plot)
        if self.json:
            print(answer_json(record))
        else:
            show_crossovers(record)
