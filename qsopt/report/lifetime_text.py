"""Three ways to have a model as tables for people. Every number here is one of
`records.lifetime`.
"""

from typing import Any

from rich.markup import escape
from rich.table import Table

from qsopt.report.text import console, say_hardware

_MEGA = 1e6


def show_lifetime(record: dict[str, Any], title: str) -> None:
    """The three ways, where their order changes, and what would change that."""
    out = console()
    out.print(f"[bold]{escape(title)}[/bold]")
    say_hardware(record["hardware_notes"])
    out.print(_question_text(record))
    out.print(_options_table(record["options"]))
    out.print("[bold]served output tokens from which another way is cheaper[/bold]")
    for row in record["break_even_output_tokens"]:
        out.print(_break_even_text(row))
    for row in record["break_even_by_energy"]:
        out.print(f"by energy alone: {_order(row)}: {served_text(row['tokens'])}")
    out.print(_changes_table(record["changes"]))
    if record["laws"]:
        out.print(_laws_table(record["laws"]))


def served_text(tokens: float | None) -> str:
    """A number of served tokens as people say it; `never` for None."""
    if tokens is None:
        return "never"
    if tokens <= 0.0:
        return "from the first token"
    for size, word in (
        (1e15, "quadrillion"),
        (1e12, "trillion"),
        (1e9, "billion"),
        (1e6, "million"),
    ):
        if tokens >= size:
            return f"{tokens / size:,.3g} {word}"
    return f"{tokens:,.0f}"


def _question_text(record: dict[str, Any]) -> str:
    low, high = record["student_share_range"]
    share = f"{record['student_share']:.0%} of them"
    if low < high:
        share += f" (nobody knows: {low:.1%} to {high:.0%})"
    twin = record["twin"]
    return (
        f"q = {record['q']:.3f} ({record['law']}); dense match: {twin['kind']}, attention "
        f"{twin['attention']}; trained on {served_text(record['training_tokens'])} tokens at "
        f"{record['mfu']:.0%} of the bf16 peak, distilled on {share}; efficiency set: "
        f"{escape(str(record['efficiency']))}; every device is busy, or rented, all the time"
    )


def _options_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="three ways", title_justify="left", box=None)
    table.add_column("")
    for name in ("training [FLOP]", "training", "of it distilling", "a million output tokens"):
        table.add_column(name, justify="right")
    table.add_column("J a token", justify="right")
    for row in rows:
        served = row["throughput_tokens_per_s"] > 0.0
        table.add_row(
            row["in_words"],
            f"{row['training_flops']:.2e}",
            _dollars(row["training_cost"]),
            _dollars(row["distillation_cost"]) if row["distillation_cost"] else "",
            f"US$ {row['cost_per_million_output_tokens']:.3g}" if served else "cannot be served",
            f"{row['joules_per_output_token']:.3g}" if served else "",
        )
    return table


def _dollars(cost: float) -> str:
    return f"US$ {cost / _MEGA:,.3g} M"


def _order(row: dict[str, Any]) -> str:
    return f"{row['from']} first, then {row['to']}"


def _break_even_text(row: dict[str, Any]) -> str:
    text = f"{_order(row)}: {served_text(row['tokens'])}"
    if row["low"] is None:
        return text
    return (
        f"{text} (80 %: {served_text(row['low'])} to {served_text(row['high'])}; never in "
        f"{row['probability_never']:.0%} of draws)"
    )


def _changes_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="what would change moe against dense", title_justify="left", box=None)
    for name in ("input", "value", "cheaper at first", "then", "from served tokens"):
        table.add_column(name)
    for row in sorted(rows, key=lambda row: (row["input"], row["value"])):
        table.add_row(
            row["input"],
            f"{row['value']:,.4g}",
            row["from"],
            row["to"],
            served_text(row["tokens"]),
        )
    return table


def _laws_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="by law: served tokens from which it pays", title_justify="left", box=None)
    for name in ("law", "q", "dense", "distilled"):
        table.add_column(name)
    for row in rows:
        tokens = row["break_even_output_tokens"]
        table.add_row(
            row["law"],
            f"{row['q']:.3g}",
            *(served_text(tokens[name]) for name in ("dense", "distilled")),
        )
    return table
