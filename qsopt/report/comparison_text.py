"""A comparison as tables for people: both sides, the verdict, why, and how sure. Every number here
is one of `records`.
"""

import math
from typing import Any

from rich.markup import escape
from rich.table import Table

from qsopt.report.text import (
    GB,
    LAYOUT_LEGEND,
    beside,
    console,
    error_text,
    layout_text,
    say_context,
    show_rows,
    stacked,
)


def show_comparison(record: dict[str, Any], title: str) -> None:
    """Both sides next to each other, the verdict, and why."""
    out = console()
    out.print(f"[bold]{escape(title)}[/bold]")
    out.print(
        f"efficiency set: {escape(record['efficiency'])}; each side in its own best legal "
        f"deployment and batch"
    )
    say_context(record)
    out.print(_sides_table(record))
    out.print(LAYOUT_LEGEND)
    if record["reason"]:
        out.print(record["reason"])
    out.print(_question_text(record))
    out.print(f"[bold]verdict: {record['verdict']}[/bold]{_ratio_text(record)}")
    out.print(_matches_table(record["matches"]))
    out.print(f"[bold]over all shapes: {record['verdict_overall']}[/bold]")
    _say_how_sure(record)
    _say_expected_errors(record)
    if _finite(record["ratio_dense_over_moe"]) is not None:
        out.print(penalties_table(record))
    _show_slopes(record["slopes"])
    if record["laws"]:
        out.print(_laws_table(record["laws"]))
    for row in record["by_utilization"]:
        ratio = _finite(row["ratio_dense_over_moe"])
        out.print(
            f"at {row['utilization']:.0%} of the memory: {row['verdict']}"
            + ("" if ratio is None else f", {ratio:.2f} times")
        )


def _question_text(record: dict[str, Any]) -> str:
    """s, q, and the dense model that the sides above show."""
    twin = record["twin"]
    law = record["law"]
    if law != "given" and record["q_centre"] != record["q_raw"]:
        law += f", calibrated; the bare law says {record['q_raw']:.2f}"
    return (
        f"s = {record['s']:.4f}, q = {record['q']:.3f} ({law}), qs = {record['qs']:.3f}; the dense "
        f"model above: {twin['kind']}, attention {twin['attention']}, {twin['layers']} layers, "
        f"hidden {twin['hidden']:,}, FFN {twin['ffn_width']:,.0f} wide"
    )


def _matches_table(rows: list[dict[str, Any]]) -> Table:
    """Every dense match in its own best deployment."""
    table = Table(title="by dense match", title_justify="left", box=None)
    for heading in (
        "shape",
        "attention",
        "layers",
        "hidden",
        "q",
        "tokens/s",
        "ratio",
        "flips at q",
    ):
        table.add_column(heading, justify="left" if heading in ("shape", "attention") else "right")
    for row in rows:
        twin, dense = row["twin"], row["dense"]
        table.add_row(
            twin["kind"],
            twin["attention"],
            str(twin["layers"]),
            f"{twin['hidden']:,}",
            f"{row['q']:.2f}",
            "infeasible" if dense is None else f"{dense['throughput_tokens_per_s']:,.0f}",
            _number(row["ratio_dense_over_moe"]),
            _number(row["break_even_q"]),
        )
    return table


def _number(value: float | None) -> str:
    """A number of a table; a dash where there is none."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.2f}"


def _say_how_sure(record: dict[str, Any]) -> None:
    """The interval of q, and the probabilities that follow from it."""
    out = console()
    if record["q_interval"] is None:
        return
    low, high = record["q_interval"]
    out.print(
        f"how sure: q lies in {low:.2f} to {high:.2f} with probability {record['q_level']:.0%} "
        f"(error of the law on observed "
        f"matches); qs < 1 with probability {record['probability_qs_below_one']:.1%}"
    )
    told = record["verdict"] != "both infeasible"
    if told and _finite(record.get("probability_dense_wins")) is not None:
        won = record["probability_dense_wins"]
        out.print(f"dense wins in {won:.1%} of draws of q and of {_errors(record)}")


SURVIVES = 0.9
"""Share of the draws of the model's own error in which a verdict must stand."""


def _say_expected_errors(record: dict[str, Any]) -> None:
    """What the predictions rely on, and whether the verdict survives their errors."""
    out = console()
    for side, name in (("moe", "MoE"), ("dense", "dense twin")):
        if record["expected_error"][side] is not None:
            out.print(f"{name}: {error_text(record['expected_error'][side])}")
    dense = record["probability_dense_wins_at_q"]
    if _finite(dense) is not None and _finite(record["ratio_dense_over_moe"]) is not None:
        stands = dense if record["verdict"] == "dense wins" else 1.0 - dense
        word = "survives" if stands >= SURVIVES else "does not survive"
        out.print(
            f"the verdict {word} {_errors(record)}: it stands in {stands:.1%} of draws of them at "
            f"q = {record['q']:.2f}"
        )


def _errors(record: dict[str, Any]) -> str:
    """Which errors of predictions are drawn."""
    if record["intervals"]:
        return "the errors of measured servers"
    if record["expected_error"]["moe"] is not None:
        return "the errors of kernels"
    return "an allowance of +-15 % on every kind of operator"


def _laws_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="by quality law (* = band)", title_justify="left", box=None)
    for heading in ("law", "q", "qs", "ratio", "verdict", "in range", "warnings"):
        table.add_column(heading, justify="right" if heading in ("q", "qs", "ratio") else "left")
    for row in rows:
        numbers = (
            "-" if row[key] is None else f"{row[key]:.3f}"
            for key in ("q", "qs", "ratio_dense_over_moe")
        )
        in_range = "yes" if row["in_range"] else "no"
        name = row["law"] + (" *" if row["in_band"] else "")
        table.add_row(name, *numbers, row["verdict"] or "-", in_range, "; ".join(row["warnings"]))
    return table


def _ratio_text(record: dict[str, Any]) -> str:
    ratio, flip = map(_finite, (record["ratio_dense_over_moe"], record["break_even_q"]))
    text = "" if ratio is None else f": dense reaches {ratio:.2f} times the throughput of the MoE"
    text += beside(record, "ratio_dense_over_moe", ".2f")
    if ratio is None:
        return text
    return text + ("; no q would flip it" if flip is None else f"; q = {flip:.2f} would flip it")


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _sides_table(record: dict[str, Any]) -> Table:
    table = Table(box=None)
    table.add_column("")
    for side in ("moe", "dense"):
        table.add_column("MoE" if side == "moe" else "dense twin", justify="right")
    sides = [record["moe"], record["dense"]]

    def row(name: str, text: Any) -> None:
        table.add_row(
            escape(name),
            *("infeasible" if side is None else stacked(text(side)) for side in sides),
        )

    row("parameters [B]", lambda side: f"{side['parameters']['total'] / GB:,.1f}")
    row("active parameters [B]", lambda side: f"{side['parameters']['active'] / GB:,.1f}")
    row(
        "throughput [tokens/s]",
        lambda side: (
            f"{side['throughput_tokens_per_s']:,.0f}" + beside(side, "throughput_tokens_per_s")
        ),
    )
    row("per device [tokens/s]", lambda side: f"{side['tokens_per_s_per_device']:,.1f}")
    row("time per output token [ms]", lambda side: f"{side['tpot_s'] * 1e3:.2f}")
    row(
        "weights per device [GB]",
        lambda side: f"{side['memory_bytes_per_device']['weights'] / GB:.1f}",
    )
    row(
        "KV cache per device [GB]",
        lambda side: f"{side['memory_bytes_per_device']['kv_cache'] / GB:.1f}",
    )
    row("tokens per FFN weight read", lambda side: f"{side['reuse_tokens_per_weight_read']:,.2f}")
    row("deployment", lambda side: layout_text(side["deployment"]))
    return table


def penalties_table(record: dict[str, Any]) -> Table:
    """Factors of the ratio by cause; of requests also by phase."""
    table = Table(
        title="where the ratio comes from (factors; averaged over orders)",
        title_justify="left",
        box=None,
    )
    names, phases = tuple(record["penalties"]), record.get("penalties_by_phase", {})
    if phases:
        table.add_column("")
    for name in (*names, "ratio"):
        table.add_column(name, justify="right")
    ratio = record["ratio_dense_over_moe"]
    rows = {"whole": {**record["penalties"], "ratio": ratio}}
    rows |= {phase: {**factors, "ratio": _product(factors)} for phase, factors in phases.items()}
    for phase, factors in rows.items():
        cells = ("-" if _finite(x) is None else f"{x:.3f}" for x in factors.values())
        table.add_row(*((phase,) if phases else ()), *cells)
    return table


def _product(factors: dict[str, float | None]) -> float | None:
    known = [x for x in map(_finite, factors.values()) if x is not None]
    return math.prod(known) if len(known) == len(factors) else None


def _show_slopes(slopes: dict[str, Any]) -> None:
    """Elasticities of both sides and of the ratio, and where they differ from side to side."""
    sides = {"moe": "MoE", "dense": "dense twin", "ratio": "ratio"}
    known = {name: slopes[name] for name in sides if slopes[name] is not None}
    if not known:
        return
    inputs = next(iter(known.values()))["elasticity"]
    rows = [
        {"input": each, **{name: _slope_text(side, each) for name, side in known.items()}}
        for each in inputs
    ]
    binding = {name: known[name].get("binding") for name in known}
    headings = {
        name: sides[name] + (f" ({binding[name]} binds)" if binding[name] else "") for name in known
    }
    show_rows(rows, {"input": "d log / d log, the batch follows", **headings})
    for words in known.get("ratio", {}).get("kinks", ()):
        console().print(f"a|b: slope with less | with more of the input; {words}")


def _slope_text(side: dict[str, Any], name: str) -> str:
    if name in side["left"]:
        return f"{side['left'][name]:.3f}|{side['right'][name]:.3f}"
    return f"{side['elasticity'][name]:.3f}"
