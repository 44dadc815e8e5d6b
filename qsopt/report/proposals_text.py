"""Proposals as text for people, and the one-page report of a proposal. Every number here is one of
the records.
"""

import math
from typing import Any

from qsopt.report.text import console, say_hardware, show_rows


def show_proposals(record: dict[str, Any], title: str) -> None:
    """What stands beside, the proposals, and what laws say."""
    out = console()
    out.print(f"[bold]{title}[/bold]")
    say_hardware(record.get("hardware_notes", []))
    if not record["complete"]:
        out.print("interrupted: what was found until then")
    rows = [_row(each, words) for each, words in _sides(record)]
    rows += [_row(each, ", ".join(each["roles"])) for each in record["proposals"]]
    show_rows(rows, _HEAD)
    for name, words in (("worst_case", "best worst case"), ("median", "best median")):
        if record["robust"][name]:
            out.print(f"{words} over the laws that have an answer: {record['robust'][name]}")
    families = {front["family"] for front in record["pareto"].get("speed", ())}
    if len(families) > 1 and record.get("winner_along_front"):
        out.print(f"most tokens/s per device along the front: {leaders_text(record)}")
    for proposal in record["proposals"]:
        out.print(f"[bold]{proposal['name']}[/bold]: {sizes_text(proposal)}")
        for mark in proposal["marks"]:
            out.print(f"  ! {mark}")
        if proposal["folder"]:
            out.print(f"  {proposal['folder']}/config.json")


def leaders_text(record: dict[str, Any]) -> str:
    """Which family leads along the front over speed, in one line."""
    return ", ".join(
        f"{each['family']} from {each['from_tokens_per_s_per_user']:,.3g} to "
        f"{each['to_tokens_per_s_per_user']:,.3g} tokens/s per user"
        for each in record["winner_along_front"]
    )


_HEAD = {
    "name": "design",
    "sizes": "parameters",
    "rate": "tokens/s per device",
    "user": "per user",
    "beats": "P(beats reference)",
    "why": "why",
}


def _sides(record: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    reference, usual = record["reference"], record["usual_deployment"]
    found = []
    if usual:
        found.append((usual, "the reference with tensor parallel ranks alone"))
    if reference:
        found.append((reference, "the reference, best change of deployment alone"))
    return found + [(each, "dense match of the reference") for each in record["dense_matches"]]


def _row(each: dict[str, Any], why: str) -> dict[str, str]:
    count, metrics = each["parameters"], each["metrics"]
    served = metrics is not None
    share = each.get("probability_beats_reference")
    return {
        "name": each["name"],
        "sizes": f"{count['total'] / 1e9:,.4g} B, {count['active'] / 1e9:,.3g} B active",
        "rate": f"{metrics['tokens_per_s_per_device']:,.1f}" if served else "infeasible",
        "user": f"{metrics['tokens_per_s_per_user']:,.1f}" if served else "-",
        "beats": "-" if share is None else f"{share:.0%}",
        "why": why,
    }


def sizes_text(proposal: dict[str, Any]) -> str:
    """An architecture in one line."""
    sizes = proposal["architecture"]
    body = f"{sizes['class']}, {sizes['layers']} layers, hidden {sizes['hidden']:,}"
    if proposal["family"] == "dense":
        return f"{body}, width {sizes['width']:,}"
    shared, leading = sizes["shared_experts"], sizes["leading_dense"]
    more = f", {shared} shared" if shared else ""
    first = f", {leading} leading dense layers" if leading else ""
    return (
        f"{body}, {sizes['top_k']} of {sizes['experts']} experts of {sizes['width']:,}{more}{first}"
    )


def show_changes(record: dict[str, Any], title: str) -> None:
    """Changes of a model, best first."""
    out = console()
    out.print(f"[bold]{title}[/bold]")
    say_hardware(record["hardware_notes"])
    rate = record["reference"]["metrics"]["tokens_per_s_per_device"]
    out.print(f"as it is: {rate:,.1f} tokens/s per device in its best deployment")
    rows = [
        {
            "change": ", ".join(each["changes"]),
            "width": f"{each['architecture']['width']:,}",
            "predicted": _number(each["predicted_gain"], "+.1%"),
            "gain": f"{each['gain']:+.1%}",
            "rate": f"{each['tokens_per_s_per_device']:,.1f}",
            "marks": "; ".join(each["marks"]).replace("outside released shapes: ", ""),
        }
        for each in record["changes"][:SHOWN]
    ]
    head = {
        "change": "change at equal quality",
        "width": "width",
        "predicted": "by the gradient",
        "gain": "exactly",
        "rate": "tokens/s per device",
        "marks": "outside released shapes",
    }
    show_rows(rows, head)


SHOWN = 20
"""Changes that are shown; the JSON has all."""


# ---- one page ------------------------------------------------------------------------------------


def report_page(proposal: dict[str, Any], record: dict[str, Any]) -> str:
    """The report of one proposal in Markdown."""
    parts = [
        f"# {proposal['name']}",
        f"{', '.join(proposal['roles']).capitalize()}. {sizes_text(proposal)}.",
        _answer_text(proposal, record),
        "## What limits it",
        _limits_text(proposal),
        _elasticity_table(proposal),
        "## How sure it is",
        _odds_text(proposal, record),
        _law_table(proposal),
        "## Marks",
        "\n".join(f"* {mark}" for mark in proposal["marks"]) or "None.",
        "## Deployment",
        _deployment_text(proposal),
        "![Fronts](../pareto.png)",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _answer_text(proposal: dict[str, Any], record: dict[str, Any]) -> str:
    metrics, count = proposal["metrics"], proposal["parameters"]
    interval = ((proposal["intervals"] or {}).get("tokens_per_s_per_device") or {}).get("80")
    band = f" (80 %: {interval[0]:,.0f} to {interval[1]:,.0f})" if interval else ""
    return (
        f"{count['total'] / 1e9:,.4g} B parameters, {count['active'] / 1e9:,.3g} B of them active; "
        f"on {record['cluster']} {metrics['tokens_per_s_per_device']:,.1f} output tokens/s per "
        f"device{band}, {metrics['tokens_per_s_per_user']:,.1f} per user"
        f"{_cost_text(metrics)}. By the law {record['law']} it is as good as a dense model of "
        f"{proposal['quality']['dense_equivalent_parameters'] / 1e9:,.4g} B; training takes "
        f"{proposal['quality']['training_flops']:.3g} FLOP (6 N D on "
        f"{proposal['quality']['training_tokens']:.3g} tokens)."
    )


def _cost_text(metrics: dict[str, Any]) -> str:
    cost = metrics.get("cost_per_million_output_tokens")
    return "" if cost is None else f", {cost:.3g} US dollars per million output tokens"


def _limits_text(proposal: dict[str, Any]) -> str:
    known = {name: value for name, value in proposal["elasticities"].items() if value is not None}
    if not known:
        return "Not known."
    gains = sorted(known, key=lambda name: -abs(known[name]))
    first = ", ".join(f"{name.replace('_', ' ')} ({known[name]:+.2f})" for name in gains[:3])
    return f"It answers most to {first}."


def _elasticity_table(proposal: dict[str, Any]) -> str:
    prices = {each["input"]: each for each in proposal["shadow_prices"]}
    lines = ["| 10 % more | d log throughput / d log | one more unit brings |", "|---|---|---|"]
    for name, value in proposal["elasticities"].items():
        price = prices.get(name)
        words = "-"
        if price is not None and price["tokens_per_s"] is not None:
            words = f"{price['tokens_per_s']:,.3g} tokens/s for each {price['unit']}"
        shown = "-" if value is None else f"{value:+.3f}"
        lines.append(f"| {name.replace('_', ' ')} | {shown} | {words} |")
    return "\n".join(lines)


def _odds_text(proposal: dict[str, Any], record: dict[str, Any]) -> str:
    reference, dense = proposal["probability_beats_reference"], proposal["probability_beats_dense"]
    parts = []
    if reference is not None:
        ratio = _ratio(proposal, record["reference"])
        parts.append(
            f"It serves {ratio} what {record['reference']['name']} does in its best deployment, "
            f"and more than it in {reference:.0%} of draws of the law's error and of the errors "
            "of predicted speeds."
        )
    served = [each for each in record["dense_matches"] if each["feasible"]]
    if dense is not None and served:
        best = max(served, key=lambda each: each["metrics"]["tokens_per_s_per_device"])
        parts.append(
            f"It beats the best dense match ({best['name']}, "
            f"{best['parameters']['total'] / 1e9:,.4g} B, "
            f"{best['metrics']['tokens_per_s_per_device']:,.1f} tokens/s per device) in "
            f"{dense:.0%} of draws."
        )
    return " ".join(parts) or "There is no reference to compare it with."


def _ratio(proposal: dict[str, Any], reference: dict[str, Any]) -> str:
    if not reference["feasible"]:
        return "where nothing else does"
    own = proposal["metrics"]["tokens_per_s_per_device"]
    return f"{own / reference['metrics']['tokens_per_s_per_device']:.2f} times"


def _law_table(proposal: dict[str, Any]) -> str:
    if not proposal["per_law"]:
        return ""
    lines = [
        "| law | dense size over that asked for | width at equal quality | tokens/s there "
        "| over the reference |",
        "|---|---|---|---|---|",
    ]
    for name, each in proposal["per_law"].items():
        margin = each["log_size_margin"]
        size = "-" if margin is None else f"{math.exp(margin):.2f}"
        values = [
            _number(each["width_at_equal_quality"], ",.0f"),
            _number(each["throughput_at_equal_quality"], ",.0f"),
            _number(each["ratio_to_reference"], ".2f"),
        ]
        lines.append(f"| {name} | {size} | {' | '.join(values)} |")
    return "\n".join(lines)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _deployment_text(proposal: dict[str, Any]) -> str:
    deployment = proposal["deployment"]
    parts = [f"Way of serving: {deployment['way']}."]
    for phase in ("prefill", "decode"):
        if phase in deployment:
            parts.append(f"{phase.capitalize()}: {deployment[phase]['in_words']}.")
    text = " ".join(parts)
    if deployment.get("command"):
        text += f"\n\n```\n{deployment['command']}\n```"
    return text
