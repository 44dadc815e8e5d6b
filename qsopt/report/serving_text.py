"""Answers about requests as tables for people. Every number here is one of `records.serving`."""

from typing import Any

from rich.markup import escape
from rich.table import Table

from qsopt.report.text import LAYOUT_LEGEND, beside, console, say_hardware, si


def show_serving(record: dict[str, Any], title: str) -> None:
    """The ranked plans, the best one in full, and the front."""
    out = console()
    out.print(f"[bold]{escape(title)}[/bold]")
    out.print(question_text(record))
    say_hardware(record["hardware_notes"])
    for broken in record["violations"]:
        over = broken["value"] / broken["limit"]
        out.print(
            f"[bold]infeasible[/bold]: {broken['constraint']} of the closest plan is {over:.3g} "
            f"times its limit ({si(broken['value'], broken['unit'])} of "
            f"{si(broken['limit'], broken['unit'])})"
        )
    if record["best"] is not None:
        out.print(_best_table(record["best"]))
        out.print(_ranked_table(record["ranked"]))
        out.print(LAYOUT_LEGEND)
        if record["best"]["command"] is not None:
            out.print(f"[bold]a replica of the best, with {record['best']['stack']}[/bold]")
            out.print(escape(record["best"]["command"]), soft_wrap=True)
    if record["pareto"]:
        out.print(_front_table(record["pareto"]))
    if record["fewest_devices"] is not None:
        out.print(_fewest_text(record["fewest_devices"]))


def question_text(record: dict[str, Any]) -> str:
    """The efficiency set, and the limits that are asked for."""
    parts = [f"efficiency set: {escape(str(record['efficiency']))}"]
    if record["cached"]:
        parts.append(f"{record['cached']:.0%} of the prompt cached")
    for name, what in (("ttft_limit_s", "first token"), ("tpot_limit_s", "a token")):
        if record[name] is not None:
            parts.append(f"{what} within {si(record[name], 's')}")
    if record["load"]:
        parts.append(f"readers of prompts at {record['load']:.0%} load")
    if record.get("drafted_by"):
        parts.append(f"drafts by {escape(record['drafted_by'])}")
    return "; ".join(parts)


def _best_table(best: dict[str, Any]) -> Table:
    table = Table(title="the best way", title_justify="left", show_header=False, box=None)
    rows = {
        "way": _WAYS[best["way"]],
        "throughput": f"{best['throughput_tokens_per_s']:,.0f} tokens/s, "
        f"{best['requests_per_s']:,.2f} requests/s",
        "per device": f"{best['tokens_per_s_per_device']:,.1f} tokens/s"
        + beside(best, "tokens_per_s_per_device"),
        "per user": f"{best['tokens_per_s_per_user']:,.1f} tokens/s"
        + beside(best, "tokens_per_s_per_user", ",.1f"),
        "time to first token": f"{best['ttft_s'] * 1e3:,.0f} ms",
        "time per output token": f"{best['tpot_s'] * 1e3:.2f} ms"
        + beside(best, "tpot_s", ".2f", 1e3),
        "whole request": f"{best['end_to_end_s']:,.1f} s" + beside(best, "end_to_end_s", ",.1f"),
        "rental per million output tokens": _dollars(best["cost_per_million_output_tokens"]),
        "rental per million input tokens": _dollars(best["cost_per_million_input_tokens"]),
    }
    if best["way"] == "disaggregated":
        for phase, word in (("prefill", "reads"), ("decode", "writes")):
            pool = best[phase]
            rows[word] = f"{pool['devices']} devices: {pool['in_words']}"
    else:
        rows["layout"] = best["decode"]["in_words"]
    if best["watts_per_device"] is not None:
        rows["power"] = (
            f"{best['watts_per_device']:,.0f} W a device, "
            f"{best['joules_per_output_token']:.3g} J an output token"
            + beside(best, "joules_per_output_token", ".3g")
        )
    rows["prompt tokens in a forward"] = f"{best['prefill']['tokens_per_forward']:,.0f}"
    for name, value in rows.items():
        table.add_row(name, escape(value))
    return table


_WAYS = {
    "mixed": "mixed: prompts and answers in the same steps",
    "alternating": "alternating: prompts between the steps of answers",
    "disaggregated": "disaggregated: a pool reads prompts, another writes answers",
}


def _dollars(cost: float | None) -> str:
    return "no price known" if cost is None else f"{cost:.3g} US dollars, all of it on these"


def _ranked_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="ranked", title_justify="left", box=None)
    for heading in ("", "way", "tokens/s/device", "tokens/s/user", "TTFT [ms]", "TPOT [ms]"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    table.add_column("layout")
    for place, row in enumerate(rows, start=1):
        numbers = (
            f"{row['tokens_per_s_per_device']:,.1f}",
            f"{row['tokens_per_s_per_user']:,.1f}",
            f"{row['ttft_s'] * 1e3:,.0f}",
            f"{row['tpot_s'] * 1e3:.1f}",
        )
        table.add_row(str(place), row["way"], *numbers, escape(layouts_text(row)))
    return table


def _front_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="the front: throughput against speed", title_justify="left", box=None)
    for heading in ("tokens/s/device", "tokens/s/user", "way", "layout"):
        table.add_column(heading, justify="right" if "tokens" in heading else "left")
    for row in rows:
        table.add_row(
            f"{row['tokens_per_s_per_device']:,.1f}",
            f"{row['tokens_per_s_per_user']:,.1f}",
            row["way"],
            escape(layouts_text(row)),
        )
    return table


def layouts_text(row: dict[str, Any]) -> str:
    """The layout that writes, and that which reads where it is another pool's."""
    writes = _short(row["decode"])
    if row["way"] != "disaggregated":
        return writes
    reads = row["prefill"]
    return f"{writes}; reads: {_short(reads)} on {reads['devices']} devices"


def _short(phase: dict[str, Any]) -> str:
    layout = phase["deployment"]
    sizes = " ".join(
        f"{name}{layout[name]}" for name in ("tp", "dp", "pp", "ep") if layout[name] > 1
    )
    return f"{sizes or 'one device'} batch {phase['batch']} x {layout['replicas']}"


def _fewest_text(fewest: dict[str, Any]) -> str:
    replicas = f"{fewest['replicas']} replicas"
    if fewest["way"] == "disaggregated":
        replicas = f"{fewest['replicas']} that write and {fewest['prefill_replicas']} that read"
    return f"the fewest devices for the load: {fewest['devices']} ({fewest['way']}, {replicas})"
