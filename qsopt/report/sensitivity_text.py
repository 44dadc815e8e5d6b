"""Sensitivities as text for people. Every number here is one of `sensitivity_records`."""

from typing import Any

from qsopt.report.serving_text import question_text
from qsopt.report.text import LAYOUT_LEGEND, console, layout_text, say_context, show_rows


def show_sensitivity(record: dict[str, Any]) -> None:
    """Elasticities as the design is and at its largest batch, and what more of a limit is worth."""
    out = console()
    requests = record.get("question") == "request"
    out.print(f"[bold]{record['model']} on {record['cluster']}, {_asked(record, requests)}[/bold]")
    deployment = f"deployment: {layout_text(record['deployment'])} ({record['chosen']})"
    if requests:
        out.print(f"{question_text(record)}; {deployment}")
    else:
        out.print(f"efficiency set: {record['efficiency']}; {deployment}")
    out.print(LAYOUT_LEGEND)
    say_context(record)
    largest = record["at_largest_batch"]
    _show_slopes(record, {} if largest is None else largest["elasticity"])
    if largest is None:
        out.print("no batch keeps the limits: there is no largest batch")
        return
    out.print(
        f"at the largest batch, {largest['batch']:,.1f} sequences, {largest['binding']} binds:"
    )
    for price in record["shadow_prices"]:
        out.print(f"  one more {price['unit']} is worth {price['multiplier']:,.3g} tokens/s")


def _asked(record: dict[str, Any], requests: bool) -> str:
    if requests:
        return f"{record['prompt']:,.0f} tokens of prompt and {record['answer']:,.0f} of answer"
    return f"{record['context']:,.0f} tokens of context"


def _show_slopes(record: dict[str, Any], following: dict[str, float]) -> None:
    """One row an input: as it is, and with the batch following the limit that binds."""
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
