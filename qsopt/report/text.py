"""One design, and rows of any kind, as tables for people. Every number here is one of `records`."""

import os
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from qsopt.spec.deployment import PARALLEL_SIZES

GB = 1e9

PIPED = 160
"""Width of tables where nothing says how wide they may be [characters]."""

NARROW = 100
"""Width below which an interval stands under its value in tables of two sides [characters]."""

LAYOUT_LEGEND = (
    "sizes of a layout: tp tensor, dp data, pp pipeline parallel; ep ranks that share out the "
    "experts, etp ranks that share one expert; dcp ranks that share a cache; batch of a replica x "
    "replicas"
)
"""What the names in `layout_text` stand for."""


class _Output(Console):
    """A console whose reader may leave early, and whose tables keep to its width."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As of any console; text that is wider than a pipe stays in one line."""
        if objects and isinstance(objects[0], Table):
            options.setdefault("soft_wrap", False)
        super().print(*objects, **options)

    def on_broken_pipe(self) -> None:
        """Leave it to the command line, instead of ending the process with an error."""
        raise BrokenPipeError


def console() -> Console:
    """Where tables go: stdout, without colour where it is not a terminal; as wide as the terminal,
    or as COLUMNS says.
    """
    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return _Output(highlight=False, soft_wrap=not known, width=None if known else PIPED)


def stacked(text: str) -> str:
    """A value with its interval under it where the terminal is narrow."""
    return text.replace(" (80 %", "\n(80 %") if console().width < NARROW else text


def show_design(record: dict[str, Any], title: str) -> None:
    """One design: what it reaches, its memory, and where a step's time goes."""
    out = console()
    out.print(f"[bold]{escape(title)}[/bold]")
    out.print(
        f"efficiency set: {escape(record['efficiency'])}; deployment: "
        f"{layout_text(record['deployment'])} ({record['chosen']})"
    )
    out.print(f"in words: {record['deployment']['in_words']}")
    out.print(LAYOUT_LEGEND)
    if record["question"] == "decode":
        out.print("decode alone: prompts come from elsewhere")
    say_context(record)
    if record["expected_error"] is not None:
        out.print(error_text(record["expected_error"]))
    for broken in record["violations"]:
        over = broken["value"] / broken["limit"]
        out.print(
            f"[bold]infeasible[/bold]: {broken['constraint']} is {over:.3g} times its limit "
            f"({si(broken['value'], broken['unit'])} of {si(broken['limit'], broken['unit'])})"
        )
    out.print(_facts_table(record))
    out.print(_memory_table(record["memory_bytes_per_device"]))
    out.print(_breakdown_table(record["breakdown"]))


def say_hardware(notes: list[str]) -> None:
    """What a reader should know of the figures behind the cluster."""
    for note in notes:
        console().print(f"[bold]note[/bold]: {escape(note)}")


def say_context(record: dict[str, Any]) -> None:
    """Mark figures of hardware that are assumed, and what is said of a context that the model was
    not made for.
    """
    say_hardware(record["hardware_notes"])
    if record["beyond_trained_context"]:
        console().print(
            f"[bold]beyond the model's context[/bold]: its config takes "
            f"{record['trained_context']:,.0f} tokens, so nobody can say what it is worth at "
            f"{record['context']:,.0f}"
        )


def error_text(expected: dict[str, Any]) -> str:
    """The error expected of a step time, and what it rests on."""
    return (
        f"{escape(expected['basis'])}: step time +-{expected['step_time']:.0%} (half of them "
        f"within)"
    )


def beside(record: dict[str, Any], name: str, form: str = ",.0f", scale: float = 1.0) -> str:
    """The 80 % interval of a value, to stand beside it; nothing where there is none."""
    ends = ((record.get("intervals") or {}).get(name) or {}).get("80")
    if ends is None:
        return ""
    low, high = (format(end * scale, form) for end in ends)
    return f" (80 %: {low} to {high})"


def _facts_table(record: dict[str, Any]) -> Table:
    table = Table(show_header=False, box=None)
    price, hit = record["cost_usd_per_million_tokens"], record["experts_hit"]
    rows = {
        "throughput": f"{record['throughput_tokens_per_s']:,.0f} tokens/s"
        + beside(record, "throughput_tokens_per_s"),
        "per device": f"{record['tokens_per_s_per_device']:,.1f} tokens/s"
        + beside(record, "tokens_per_s_per_device", ",.1f"),
        "per user": f"{record['tokens_per_s_per_user']:,.1f} tokens/s"
        + beside(record, "tokens_per_s_per_user", ",.1f"),
        "time per output token": f"{record['tpot_s'] * 1e3:.2f} ms"
        + beside(record, "tpot_s", ".2f", 1e3),
        **_request_facts(record),
        "largest batch that fits": f"{record['max_batch']:,} sequences per replica",
        "tokens per expert weight read" if hit is not None else "tokens per weight read": (
            f"{record['reuse_tokens_per_weight_read']:,.2f}"
        ),
        "experts hit per step": "none: dense" if hit is None else f"{hit:,.1f}",
        "parameters": f"{record['parameters']['total'] / GB:,.2f} B total, "
        f"{record['parameters']['active'] / GB:,.2f} B active",
        "KV cache per token": f"{record['kv_bytes_per_token']:,.0f} bytes",
        "rental per million tokens": "no price known"
        if price is None
        else f"{price:.3g} US dollars",
        "power per device": _power_text(record),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _request_facts(record: dict[str, Any]) -> dict[str, str]:
    """What whole requests have beside decode steps."""
    if record["question"] == "decode":
        return {}
    alone = record["decode_alone"]
    return {
        "of a decode step alone": f"{alone['tpot_s'] * 1e3:.2f} ms",
        "way": f"{record['way']}, {record['prefill']['tokens_per_forward']:,.0f} prompt tokens in "
        f"a forward",
        "time to first token": f"{record['ttft_s'] * 1e3:,.0f} ms",
        "whole request": f"{record['end_to_end_s']:,.2f} s"
        + beside(record, "end_to_end_s", ",.2f"),
        "requests": f"{record['requests_per_s']:,.2f} a second"
        + beside(record, "requests_per_s", ",.2f"),
    }


def _power_text(record: dict[str, Any]) -> str:
    watts, joules = record["watts_per_device"], record["joules_per_output_token"]
    if watts is None:
        return "no power limit known"
    text = f"{watts:,.0f} W, {joules:.3g} J per output token"
    return text + beside(record, "joules_per_output_token", ".3g")


def _memory_table(memory: dict[str, float]) -> Table:
    table = Table(title=escape("memory per device [GB]"), title_justify="left", box=None)
    parts = ("weights", "kv_cache", "activations", "reserve", "total", "usable", "capacity")
    for part in parts:
        table.add_column(part.replace("_", " "), justify="right")
    table.add_row(*(f"{memory[part] / GB:.2f}" for part in parts))
    return table


def _breakdown_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(
        title="one decode step by operator, on one device", title_justify="left", box=None
    )
    for heading in ("operator", "ms", "share", "GFLOP", "GB", "bound by"):
        table.add_column(
            heading, justify="left" if heading in ("operator", "bound by") else "right"
        )
    for row in rows:
        cells = (
            f"{row['seconds'] * 1e3:.3f}",
            f"{row['share']:.1%}",
            f"{row['flops'] / 1e9:,.1f}",
            f"{row['bytes'] / 1e9:.3f}",
        )
        table.add_row(row["operator"], *cells, row["bound"])
    return table


def show_rows(rows: list[dict[str, Any]], columns: dict[str, str]) -> None:
    """A list as a table; `columns` maps a key of the rows to its heading."""
    table = Table(box=None)
    for place, heading in enumerate(columns.values()):
        table.add_column(escape(heading), no_wrap=place == 0, overflow="fold")
    for row in rows:
        table.add_row(*(escape(_cell(row[key])) for key in columns))
    console().print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def layout_text(layout: dict[str, Any]) -> str:
    """A deployment in one line."""
    sizes = " ".join(f"{name}{layout[name]}" for name in PARALLEL_SIZES)
    if layout["dcp"] > 1:
        sizes += f" dcp{layout['dcp']}"
    if layout["expert_slots"]:
        sizes += f" {layout['expert_slots']} expert slots"
    return f"{sizes} batch {layout['batch']} x {layout['replicas']} {layout['way']}"


def si(value: float, unit: str) -> str:
    """A value of a limit in the unit that people read."""
    if unit.startswith("byte"):
        return f"{value / GB:.2f} GB" + unit.removeprefix("byte")
    if unit == "s":
        return f"{value * 1e3:,.0f} ms" if value >= 1.0 else f"{value * 1e3:.3g} ms"
    return f"{value:g} {unit}s"
