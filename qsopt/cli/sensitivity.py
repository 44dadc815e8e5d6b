"""`qsopt sensitivity`: how the throughput of one design answers to every input."""

from dataclasses import dataclass
from typing import Any

from qsopt.cli.evaluate import Evaluate
from qsopt.deployments.request import resolve
from qsopt.report.records import to_json
from qsopt.report.records.slopes import sensitivity_record
from qsopt.report.text import console, layout_text, show_rows
from qsopt.sensitivity.inputs import Design
from qsopt.sensitivity.slopes import sensitivity


@dataclass(frozen=True)
class SensitivityCommand(Evaluate):
    """Gradients and elasticities of throughput in architecture, workload and hardware, and what
    more memory or time is worth.

    Sizes left out are those of `evaluate`. At the largest batch the batch follows the limit that
    binds.
    """

    def run(self) -> None:
        """Differentiate and print."""
        model, service = self.load()
        found = resolve(model, service, self._request())
        slopes = sensitivity(Design(model, service, found.deployment))
        inquiry = self.inquiry(model, service)
        record = sensitivity_record(slopes, inquiry, found.deployment, found.chosen)
        if self.json:
            print(to_json(record))
        else:
            _show(record)


def _show(record: dict[str, Any]) -> None:
    out = console()
    out.print(
        f"[bold]{record['model']} on {record['cluster']}, {record['context']:,.0f} tokens of "
        f"context[/bold]"
    )
    out.print(
        f"efficiency set: {record['efficiency']}; deployment: {layout_text(record['deployment'])} "
        f"({record['chosen']})"
    )
    largest = record["at_largest_batch"]
    following = {} if largest is None else largest["elasticity"]
    rows = [
        {
            "input": name,
            "fixed": slope,
            "largest": following.get(name),
            "gradient": record["gradient"][name],
        }
        for name, slope in record["elasticity"].items()
    ]
    columns = {
        "input": "d log throughput / d log",
        "fixed": "as it is",
        "largest": "at the largest batch",
        "gradient": "tokens/s per unit, as it is",
    }
    show_rows(rows, columns)
    if largest is None:
        out.print("no batch keeps the limits: there is no largest batch")
        return
    out.print(
        f"at the largest batch, {largest['batch']:,.1f} sequences, {largest['binding']} binds:"
    )
    for price in record["shadow_prices"]:
        out.print(f"  one more {price['unit']} is worth {price['multiplier']:,.3g} tokens/s")
