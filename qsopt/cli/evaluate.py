"""`qsopt evaluate`: one design."""

from dataclasses import dataclass

from qsopt.cli.options import Question, Way
from qsopt.deployments.request import Request, resolve
from qsopt.physics.evaluate import compiled_metrics
from qsopt.report.records import to_json
from qsopt.report.records.design import evaluate_record
from qsopt.report.text import show_design
from qsopt.spec.deployment import DISPATCHED, GATHERED


@dataclass(frozen=True)
class Evaluate(Question):
    """Throughput, latency, memory and breakdown of one model in one deployment.

    Parallel sizes left out are 1, except --ep: as many of the tp * dp devices as divide the
    experts. With no size given the best legal deployment is used.
    """

    batch: float | None = None
    """Sequences decoding at once in one replica; replicas fill the cluster. The largest that fits
    if left out.
    """
    tp: float | None = None
    """Tensor parallel size of attention."""
    dp: float | None = None
    """Attention data parallel size inside a replica."""
    pp: float | None = None
    """Pipeline stages."""
    ep: float | None = None
    """Expert parallel size."""
    etp: float | None = None
    """Tensor parallel size of an expert; ep * etp = tp * dp."""
    way: Way | None = None
    """How tokens meet experts; the faster way if left out."""

    def run(self) -> None:
        """Evaluate and print."""
        model, service = self.load()
        found = resolve(model, service, self._request())
        reached = compiled_metrics(model, service, found.deployment)
        inquiry = self.inquiry(model, service)
        record = evaluate_record(reached, inquiry, found.deployment, found.chosen)
        if self.json:
            print(to_json(record))
        else:
            show_design(
                record, f"{self.model} on {self.cluster}, {self.context:,.0f} tokens of context"
            )

    def _request(self) -> Request:
        way = None if self.way is None else DISPATCHED if self.way == "dispatched" else GATHERED
        return Request(self.tp, self.dp, self.pp, self.ep, self.etp, self.batch, way)
