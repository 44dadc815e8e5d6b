"""`qsopt evaluate`: one design."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from qsopt.cli.options import Question, Way
from qsopt.cli.quantities import OptionalCount
from qsopt.deployments.request import Request, resolve
from qsopt.errors import InputError
from qsopt.physics.evaluate import compiled_metrics
from qsopt.report.records import answer_json
from qsopt.report.records.design import evaluate_record
from qsopt.spec.deployment import DISPATCHED, GATHERED
from qsopt.spec.model import Model
from qsopt.spec.service import Service


@dataclass(frozen=True)
class Evaluate(Question):
    """Throughput, latency, memory and breakdown of one model in one deployment.

    Parallel sizes left out are 1, except --ep: as many of the tp * dp devices as divide the
    experts. With no size given the best legal deployment is used.
    """

    takes_requests: ClassVar[bool] = True
    batch: OptionalCount = None
    """Sequences decoding at once in one replica; replicas fill the cluster. The largest that fits
    if left out.
    """
    tp: OptionalCount = None
    """Tensor parallel size of attention."""
    dp: OptionalCount = None
    """Attention data parallel size inside a replica."""
    pp: OptionalCount = None
    """Pipeline stages."""
    ep: OptionalCount = None
    """Expert parallel size."""
    etp: OptionalCount = None
    """Tensor parallel size of an expert; ep * etp = tp * dp."""
    way: Way | None = None
    """How tokens meet experts; the faster way if left out."""

    way_of_serving: Literal["mixed", "alternating"] | None = None
    """Of requests: prompts and answers in the same steps, or prompts between steps; the one that
    serves more if left out.
    """

    def run(self) -> None:
        """Evaluate and print."""
        model, service = self.load()
        record = (self._of_requests if self.on_requests else self._of_steps)(model, service)
        if self.json:
            print(answer_json(record))
        else:
            from qsopt.report.text import show_design  # noqa: PLC0415  (JSON needs no tables)

            show_design(record, f"{self.model} on {self.cluster}, {self.asked_in_words()}")

    def _of_steps(self, model: Model, service: Service) -> dict[str, Any]:
        """Decode alone."""
        self.check_way()
        found = resolve(model, service, self.request())
        reached = compiled_metrics(model, service, found.deployment)
        inquiry = self.inquiry(model, service)
        return evaluate_record(reached, inquiry, found.deployment, found.chosen)

    def _of_requests(self, model: Model, service: Service) -> dict[str, Any]:
        """Whole requests, by one pool with the sizes that are given."""
        from qsopt.cli.plans import best_plan  # noqa: PLC0415  (a decode step needs none of it)
        from qsopt.report.records.serving import evaluate_request_record  # noqa: PLC0415

        _, option, chosen = best_plan(model, service, self.request(), self.way_of_serving)
        return evaluate_request_record(option, self.inquiry(model, service), chosen)

    def check_way(self) -> None:
        """Refuse a way of serving for a decode step.

        Raises:
            InputError: if one is given.
        """
        if self.way_of_serving is not None:
            raise InputError(
                "way_of_serving is about whole requests: give --prompt and --answer instead of "
                "--context"
            )

    def request(self) -> Request:
        """What is asked of the layout."""
        way = None if self.way is None else DISPATCHED if self.way == "dispatched" else GATHERED
        return Request(self.tp, self.dp, self.pp, self.ep, self.etp, self.batch, way)
