"""`qsopt sensitivity`: how the throughput of one design answers to every input."""

from dataclasses import dataclass
from typing import Any

from qsopt.cli.evaluate import Evaluate
from qsopt.cli.plans import best_plan
from qsopt.deployments.request import resolve
from qsopt.report.records import answer_json
from qsopt.report.records.slopes import request_sensitivity_record, sensitivity_record
from qsopt.report.sensitivity_text import show_sensitivity
from qsopt.slopes.inputs import Design
from qsopt.slopes.requests import request_design, request_sensitivity
from qsopt.slopes.sensitivity import sensitivity
from qsopt.spec.model import Model
from qsopt.spec.service import Service


@dataclass(frozen=True)
class SensitivityCommand(Evaluate):
    """Gradients and elasticities of throughput in architecture, workload and hardware, and what
    more memory or time is worth.

    Sizes left out are those of `evaluate`. At the largest batch the batch follows the limit that
    binds. With prompt and answer: of whole requests, in prompt, answer, cached share, load,
    acceptance and limits too.
    """

    def run(self) -> None:
        """Differentiate and print."""
        model, service = self.load()
        record = (self._of_plan if self.on_requests else self._of_design)(model, service)
        if self.json:
            print(answer_json(record))
        else:
            show_sensitivity(record)

    def _of_design(self, model: Model, service: Service) -> dict[str, Any]:
        """Of a decode step."""
        self.check_way()
        found = resolve(model, service, self.request())
        slopes = sensitivity(Design(model, service, found.deployment))
        inquiry = self.inquiry(model, service)
        return sensitivity_record(slopes, inquiry, found.deployment, found.chosen)

    def _of_plan(self, model: Model, service: Service) -> dict[str, Any]:
        """Of whole requests."""
        served, option, chosen = best_plan(model, service, self.request(), self.way_of_serving)
        slopes = request_sensitivity(request_design(served, option.plan, option.way))
        return request_sensitivity_record(slopes, self.inquiry(model, service), option, chosen)
