"""`qsopt sensitivity`: how the throughput of one design answers to every input."""

from dataclasses import dataclass
from typing import ClassVar

import tyro

from qsopt.cli.evaluate import Evaluate
from qsopt.deployments.request import resolve
from qsopt.report.records import to_json
from qsopt.report.records.slopes import sensitivity_record
from qsopt.report.sensitivity_text import show_sensitivity
from qsopt.slopes.inputs import Design
from qsopt.slopes.sensitivity import sensitivity


@dataclass(frozen=True)
class SensitivityCommand(Evaluate):
    """Gradients and elasticities of throughput in architecture, workload and hardware, and what
    more memory or time is worth.

    Sizes left out are those of `evaluate`. At the largest batch the batch follows the limit that
    binds.
    """

    takes_requests: ClassVar[bool] = False
    way_of_serving: tyro.conf.Suppress[None] = None
    """Of requests; slopes are those of a decode step."""

    def run(self) -> None:
        """Differentiate and print."""
        self.check_flags()
        model, service = self.load()
        found = resolve(model, service, self._request())
        slopes = sensitivity(Design(model, service, found.deployment))
        inquiry = self.inquiry(model, service)
        record = sensitivity_record(slopes, inquiry, found.deployment, found.chosen)
        if self.json:
            print(to_json(record))
        else:
            show_sensitivity(record)
