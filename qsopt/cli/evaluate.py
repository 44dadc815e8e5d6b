"""`qsopt evaluate`: one design."""

from dataclasses import dataclass
from typing import Any

from qsopt.cli.options import Question, Way
from qsopt.comparison.opinions import opinions
from qsopt.comparison.twin import qs_numbers
from qsopt.deployments.request import Request, resolve
from qsopt.physics.evaluate import compiled_metrics
from qsopt.report.records import (
    belief_record,
    design_record,
    error_record,
    opinion_records,
    to_json,
)
from qsopt.report.text import show_design
from qsopt.spec.deployment import DISPATCHED, GATHERED
from qsopt.spec.model import Model, moe_layers


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
        record = {
            "model": self.model,
            "cluster": self.cluster,
            "context": self.context,
            **design_record(model, service, found.deployment, reached, self.efficiency),
            "chosen": found.chosen,
            "expected_error": error_record(self.expectation(model), reached, found.deployment),
            **self._quality(model),
        }
        if self.json:
            print(to_json(record))
        else:
            show_design(
                record, f"{self.model} on {self.cluster}, {self.context:,.0f} tokens of context"
            )

    def _quality(self, model: Model) -> dict[str, Any]:
        """q of an MoE by the law asked for; nothing for a dense model."""
        if moe_layers(model) is None:
            return {}
        held = self.believe(model)
        numbers = qs_numbers(model, held.q)
        found = opinions(model, self.training_tokens) if self.law == "all" else []
        return {
            "s": float(numbers.s),
            "q": held.q,
            "qs": float(numbers.qs),
            **belief_record(held, self.law_used),
            "laws": opinion_records(found),
        }

    def _request(self) -> Request:
        way = None if self.way is None else DISPATCHED if self.way == "dispatched" else GATHERED
        return Request(self.tp, self.dp, self.pp, self.ep, self.etp, self.batch, way)
