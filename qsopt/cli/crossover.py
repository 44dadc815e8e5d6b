"""`qsopt crossover`: where along one input the verdict of a comparison flips."""

from dataclasses import dataclass
from typing import Annotated, Any

import equinox as eqx
import tyro

from qsopt.catalog.accelerators import resized
from qsopt.cli.options import Question
from qsopt.errors import InputError
from qsopt.maps.crossover import Crossovers, Duellists, Input, crossovers
from qsopt.report.records import to_json
from qsopt.report.records.maps import crossover_record
from qsopt.report.text import console

Low = Annotated[float | None, tyro.conf.arg(name="from")]
High = Annotated[float | None, tyro.conf.arg(name="to")]

UNITS = {
    "context": "tokens",
    "batch": "sequences in the cluster",
    "devices": "devices",
    "q": "",
    "bandwidth": "byte/s",
}


@dataclass(frozen=True)
class Crossover(Question):
    """Context length, batch, cluster size, q or bandwidth at which an MoE starts to beat or lose to
    its dense twin.

    Both sides are in their own best legal deployment everywhere. All flips in the range are found,
    and where a side stops to fit.
    """

    context: float = 8192.0
    """Tokens in the KV cache of a sequence, unless it is what moves."""
    over: Input = "context"
    """What moves. batch: sequences that decode at once in the whole cluster, at most; bandwidth in
    byte/s.
    """
    low: Low = None
    """Lower end of the range."""
    high: High = None
    """Upper end of the range."""

    def run(self) -> None:
        """Find the flips and print."""
        if self.low is None or self.high is None:
            raise InputError(f"crossover over {self.over} needs a range: give --from and --to")
        self.check_one_law()
        model, service = self.load()
        if self.over == "devices":
            service = eqx.tree_at(lambda s: s.cluster, service, resized(service.cluster, self.high))
        inquiry = self.inquiry(model, service)
        q = inquiry.believe().q
        found = crossovers(Duellists(model, service, q), self.over, self.low, self.high)
        record = crossover_record(found, inquiry, self.over, q)
        if self.json:
            print(to_json(record))
        else:
            _show(record, found)


def _show(record: dict[str, Any], found: Crossovers) -> None:
    out, unit = console(), UNITS[record["over"]]
    out.print(
        f"[bold]{record['model']} against its dense twin on {record['cluster']}, over "
        f"{record['over']}[/bold]"
    )
    for end in (found.at_low, found.at_high):
        ratio = (
            ""
            if end.ratio is None
            else f", dense reaches {end.ratio:.3g} times the throughput of the MoE"
        )
        out.print(f"at {end.value:,.6g} {unit}: {end.verdict}{ratio}")
    for crossing in found.crossings:
        out.print(
            f"[bold]{crossing.value:,.6g} {unit}[/bold]: the verdict flips {crossing.direction}"
        )
    if not found.crossings:
        out.print("the verdict never flips in between")
    for edge in found.edges:
        out.print(f"{edge.value:,.6g} {unit}: {edge.below} below, {edge.above} above")
