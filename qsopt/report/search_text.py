"""Searched designs as text for people. Every number here is one of `search_records`."""

import math
from collections.abc import Mapping
from typing import Any

from qsopt.report.serving_text import layouts_text
from qsopt.report.text import (
    LAYOUT_LEGEND,
    console,
    layout_text,
    say_context,
    say_hardware,
    show_rows,
    si,
)


def show_solution(record: dict[str, Any], seconds: Mapping[str, float]) -> None:
    """The best design, how good it is, what would make it better and what the search took; or why
    there is none.
    """
    out = console()
    out.print(
        f"[bold]best design like {record['like']} on {record['cluster']}, "
        f"{record['context']:,.0f} tokens of context[/bold]"
    )
    say_context(record)
    if record["best"] is None:
        _show_conflicts(record["conflicts"])
        return
    best = record["best"]
    out.print(f"architecture: {sizes_text(best['architecture'])}")
    out.print(
        f"deployment: {layout_text(best['deployment'])}; efficiency set: {record['efficiency']}"
    )
    out.print(LAYOUT_LEGEND)
    relaxed = record["relaxed_value"]
    beside = f" (relaxed {relaxed:,.6g})" if math.isfinite(relaxed) else ""
    out.print(
        f"{record['objective']}: [bold]{record['value']:,.6g}[/bold] {record['unit']}{beside}"
    )
    out.print(
        f"{best['tokens_per_s_per_device']:,.1f} tokens/s per device, {best['tpot_s'] * 1e3:.2f} "
        f"ms per token, {best['parameters']['total'] / 1e9:,.1f} B parameters, "
        f"{best['parameters']['active'] / 1e9:,.1f} B active"
    )
    _show_beside(record)
    _show_certificate(record["certificate"])
    _show_budgets(record["budgets"])
    _show_slopes(record)
    spent = ", ".join(f"{name} {value:.2f}" for name, value in seconds.items())
    console().print(
        f"{record['starts']} starts, {record['evaluations']:,} evaluations; seconds: {spent}"
    )


def show_request_solution(record: dict[str, Any], seconds: Mapping[str, float]) -> None:
    """The same of whole requests."""
    out = console()
    out.print(
        f"[bold]best design like {record['like']} on {record['cluster']}, "
        f"{record['prompt']:,.0f} tokens of prompt and {record['answer']:,.0f} of answer[/bold]"
    )
    say_hardware(record["hardware_notes"])
    if record["best"] is None:
        _show_conflicts(record["conflicts"])
        _show_violations(record["violations"])
        return
    best = record["best"]
    out.print(f"architecture: {sizes_text(best['architecture'])}")
    out.print(f"served {best['way']}: {layouts_text(best)}; efficiency set: {record['efficiency']}")
    out.print(LAYOUT_LEGEND)
    out.print(f"{record['objective']}: [bold]{record['value']:,.6g}[/bold] {record['unit']}")
    out.print(
        f"{best['tokens_per_s_per_device']:,.1f} tokens/s per device, first token after "
        f"{best['ttft_s'] * 1e3:,.0f} ms, {best['tpot_s'] * 1e3:.2f} ms per token, "
        f"{best['parameters']['total'] / 1e9:,.1f} B parameters, "
        f"{best['parameters']['active'] / 1e9:,.1f} B active"
    )
    for name, value in record["beside"].items():
        reached = "infeasible" if value is None else f"{value:,.6g} {record['unit']}"
        out.print(f"beside it, each served its best way, {name.replace('_', ' ')}: {reached}")
    _show_marks(record)
    _show_certificate(record["certificate"])
    _show_budgets(record["budgets"])
    _show_limits(record["limits"])
    spent = ", ".join(f"{name} {value:.2f}" for name, value in seconds.items())
    out.print(f"{record['starts']} starts, {record['evaluations']:,} evaluations; seconds: {spent}")


def _show_violations(violations: list[dict[str, Any]]) -> None:
    """Limits that the smallest model breaks in the plan that comes closest."""
    for each in violations:
        value, limit = (si(each[key], each["unit"]) for key in ("value", "limit"))
        console().print(f"  {each['constraint']}: {value} against a limit of {limit}")


def sizes_text(architecture: Mapping[str, float]) -> str:
    """The free sizes of an architecture."""
    sizes = (f"{name} {value:g}" for name, value in architecture.items())
    return ", ".join(sizes) or "as the reference"


def _show_budgets(budgets: list[dict[str, Any]]) -> None:
    """What is taken of each budget, and what more of it is worth."""
    for budget in budgets:
        name = budget["constraint"].replace("_", " ")
        taken = f"budget of {name}: {budget['used']:,.4g} of {budget['limit']:,.4g} taken"
        console().print(f"{taken}; {_worth(budget)}")


def _show_limits(limits: list[dict[str, Any]]) -> None:
    """How near the answer comes to each limit on time, and what more of it is worth."""
    for limit in limits:
        taken = f"{limit['used']:,.4g} of {limit['limit']:,.4g} {limit['unit']}"
        console().print(f"{limit['constraint'].upper()}: {taken}; {_worth(limit)}")


def _worth(price: dict[str, Any]) -> str:
    if not price["active"]:
        return "it does not bind"
    step = f", {price['step']:,.3g} more at once" if price["step"] else ""
    worth = f"{price['multiplier']:,.3g} {price['multiplier_unit']}"
    return f"one more {price['unit']} is worth {worth}{step}"


def _show_slopes(record: dict[str, Any]) -> None:
    """Prices and slopes."""
    out = console()
    for price in record["shadow_prices"]:
        if price["active"]:
            out.print(f"one more {price['unit']} is worth {price['multiplier']:,.3g} tokens/s")
    rows = [{"input": name, "slope": slope} for name, slope in record["elasticities"].items()]
    show_rows(
        rows, {"input": "d log throughput / d log", "slope": f"at the {record['elasticities_at']}"}
    )


def _show_beside(record: dict[str, Any]) -> None:
    """What stands beside the answer, and what must be known of it."""
    out = console()
    for name, value in record["beside"].items():
        if value is not None:
            reached = f"{value:,.1f} tokens/s" if value else "infeasible"
            out.print(
                f"beside it, each in its best deployment, {name.replace('_', ' ')}: {reached}"
            )
    _show_marks(record)


def _show_marks(record: dict[str, Any]) -> None:
    """Bounds that the answer stands on, and laws that think less of it."""
    out = console()
    for bound in record["at_bounds"]:
        out.print(
            f"! {bound['variable']} {bound['value']:g} is the {bound['side']} bound of the search: "
            f"nothing beyond was looked at"
        )
    for told in record["laws"]:
        share = told["dense_size_over_reference"]
        if share is not None and share < 1.0 - _WORSE:
            out.print(f"! law {told['law']}: worse than the reference, {share:.2f} times its size")


_WORSE = 0.05
"""Shortfall of the size that stands for quality from which on a law is told of."""


def _show_certificate(certificate: dict[str, Any] | None) -> None:
    if certificate is None:
        return
    share = (
        "the whole grid"
        if certificate["complete"]
        else f"a part around the answer, of {certificate['grid']:,.3g}"
    )
    console().print(
        f"certificate: {certificate['enumerated']:,} designs enumerated ({share}); best of them "
        f"{certificate['exact_optimum']:,.6g}, gap of the search {certificate['gap']:.2%}"
    )


def _show_conflicts(conflicts: list[dict[str, Any]]) -> None:
    out = console()
    out.print("[bold]no design keeps every constraint[/bold]; the one that comes closest breaks:")
    for conflict in conflicts:
        alone = (
            "there are designs without it"
            if conflict["alone"]
            else "nor would dropping it alone help"
        )
        value, limit = (si(conflict[key], conflict["unit"]) for key in ("value", "limit"))
        out.print(f"  {conflict['constraint']}: {value} against a limit of {limit}; {alone}")
