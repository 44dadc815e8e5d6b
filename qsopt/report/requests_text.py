"""A comparison on whole requests as tables for people. Every number here is one of
`records.requests`.
"""

import math
from collections.abc import Callable
from typing import Any

from rich.markup import escape
from rich.table import Table

from qsopt.report.comparison_text import penalties_table
from qsopt.report.serving_text import layouts_text, question_text
from qsopt.report.text import GB, LAYOUT_LEGEND, beside, console, say_hardware, stacked


def show_request_comparison(record: dict[str, Any], title: str) -> None:
    """Both sides in their best ways, the verdict by dense match, what would flip it, and decode
    alone.
    """
    out = console()
    out.print(f"[bold]{escape(title)}[/bold]")
    say_hardware(record["hardware_notes"])
    out.print(f"{question_text(record)}; each side in its own best way, layouts and batch")
    out.print(_sides_table(record))
    out.print(LAYOUT_LEGEND)
    if record["reason"]:
        out.print(escape(record["reason"]))
    out.print(
        f"s = {record['s']:.4f}, q = {record['q']:.3f} ({record['law']}), qs = {record['qs']:.3f}"
    )
    out.print(f"[bold]verdict: {record['verdict']}[/bold]{_ratio_text(record)}")
    for row in record["matches"]:
        twin = row["twin"]
        out.print(
            f"  {twin['kind']}, attention {twin['attention']}, q = {row['q']:.2f}: "
            f"{row['verdict']}{_ratio_text(row)}"
        )
    out.print(f"[bold]over all shapes: {record['verdict_overall']}[/bold]")
    if record["moe"] and record["dense"]:
        out.print(penalties_table(record))
    for flip in record["flips"]:
        out.print(f"{flip['input']} = {flip['value']:.4g} would flip it: {flip['to']}")
    alone = record["decode_alone"]
    out.print(f"decode alone, prompts from elsewhere: {alone['verdict']}{_ratio_text(alone)}")


def show_requests_beside(asked: dict[str, Any], verdict: str, ratio: float) -> None:
    """Who wins whole requests, in one line beside an answer about decode alone."""
    won = {"ratio_dense_over_moe": ratio}
    console().print(
        f"with the reading of prompts, requests of {asked['prompt']:,.0f} tokens and answers of "
        f"{asked['answer']:,.0f}: {verdict}{_ratio_text(won)}; see --prompt and --answer"
    )


_ROWS: dict[str, Callable[[dict[str, Any]], str]] = {
    "parameters [B]": lambda side: f"{side['parameters']['total'] / GB:,.1f}",
    "way": lambda side: side["way"],
    "throughput [tokens/s]": lambda side: f"{side['throughput_tokens_per_s']:,.0f}",
    "per device [tokens/s]": lambda side: (
        f"{side['tokens_per_s_per_device']:,.1f}" + beside(side, "tokens_per_s_per_device")
    ),
    "time to first token [ms]": lambda side: f"{side['ttft_s'] * 1e3:,.0f}",
    "time per output token [ms]": lambda side: (
        f"{side['tpot_s'] * 1e3:.2f}" + beside(side, "tpot_s", ".2f", 1e3)
    ),
    "whole request [s]": lambda side: f"{side['end_to_end_s']:,.1f}",
    "layout": layouts_text,
}


def _sides_table(record: dict[str, Any]) -> Table:
    table = Table(box=None)
    for heading in ("", "MoE", "dense"):
        table.add_column(heading, justify="right" if heading else "left")
    sides = (record["moe"], record["dense"])
    for name, text in _ROWS.items():
        cells = ("infeasible" if side is None else text(side) for side in sides)
        table.add_row(escape(name), *(escape(stacked(cell)) for cell in cells))
    return table


def _ratio_text(record: dict[str, Any]) -> str:
    ratio = record["ratio_dense_over_moe"]
    if ratio is None or not math.isfinite(ratio):
        return ""
    text = f": dense reaches {ratio:.2f} times the throughput of the MoE"
    return text + beside(record, "ratio_dense_over_moe", ".2f")
