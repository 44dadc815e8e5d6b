"""Tables of a page as HTML, and its numbers as flat rows."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from qsopt.report.page.charts import line_rows

Row = dict[str, Any]

_WINNERS = {
    "dense wins": ("dense", "dense wins"),
    "moe wins": ("moe", "MoE wins"),
    "moe infeasible": ("dense", "dense alone keeps them"),
    "dense infeasible": ("moe", "MoE alone keeps them"),
    "both infeasible": ("", "neither keeps them"),
}


def tables(record: Row) -> dict[str, list[Row]]:
    """The numbers of every figure, flat."""
    grid = record["grid"]
    found = {f"line-{line['what']}": line_rows(line) for line in record["lines"]}
    if grid is not None:
        found["grid"] = [
            {
                "q": grid["q"][row["q_index"]]["q"],
                "cached": grid["cached"][row["cached_index"]],
                **{key: row[key] for key in row if not key.endswith("_index")},
            }
            for row in grid["rows"]
        ]
    return found | {
        "penalties": record["penalties"],
        "operators": record["operators"],
        "limits": [_flat_limit(row) for row in record["limits"]],
        "errors": record["errors"],
    }


def _flat_limit(row: Row) -> Row:
    low, high = row["interval"] or (None, None)
    flat = {
        "ttft_limit_s": row["ttft_limit"],
        "tpot_limit_s": row["tpot_limit"],
        "verdict": row["verdict"],
        "ratio": row["ratio"],
        "low": low,
        "high": high,
    }
    for side in ("moe", "dense"):
        there = row[side] or {}
        flat |= {f"{side}_{key}": there.get(key) for key in ("tokens_per_s", "layout", "command")}
    return flat


def _table(headings: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """A table that is one card a row on narrow screens; cells are HTML already."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(
        f'<tr class="{kind}">'
        + "".join(
            f'<td data-name="{escape(name)}"><span>{cell}</span></td>'
            for name, cell in zip(headings, cells, strict=True)
        )
        + "</tr>"
        for kind, cells in rows
    )
    return f'<table class="cards"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def facts(record: Row) -> str:
    """The few numbers that a reader looks for first."""
    comparison = record["comparison"]
    found = [
        ("active share s", f"{comparison['s']:.3f}"),
        ("dense over active parameters q", f"{comparison['q']:.2f}"),
        ("q s", f"{comparison['qs']:.3f}"),
    ]
    for name, words in (("moe", "MoE"), ("dense", "dense")):
        side = comparison[name]
        rate = "fits nowhere" if side is None else _rate(side)
        found.append((f"{words}, tokens/s per device", rate))
    found.append(("over all dense shapes", comparison["verdict_overall"]))
    return "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in found
    )


def _rate(side: Row) -> str:
    rate, found = side["tokens_per_s_per_device"], side["intervals"]
    if not found:
        return f"{rate:,.0f}"
    low, high = found["tokens_per_s_per_device"]["80"]
    return f"{rate:,.0f} ({low:,.0f} to {high:,.0f})"


def limit_table(rows: list[Row]) -> str:
    """Winner, ratio and layouts under each pair of limits."""
    headings = ("TTFT", "TPOT", "winner", "dense over MoE", "MoE in", "dense in")
    return _table(headings, (("asked" if row["asked"] else "", _limit_cells(row)) for row in rows))


def _limit_cells(row: Row) -> list[str]:
    kind, words = _WINNERS.get(row["verdict"], ("", row["verdict"]))
    ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
    if row["interval"] is not None:
        ratio += f" ({row['interval'][0]:.2f} to {row['interval'][1]:.2f})"
    return [
        _time(row["ttft_limit"]),
        _time(row["tpot_limit"]),
        f'<span class="{kind}">{escape(words)}</span>',
        ratio,
        *(_side_cell(row[side]) for side in ("moe", "dense")),
    ]


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "any"
    return f"{seconds:g} s" if seconds >= 1.0 else f"{seconds * 1e3:g} ms"


def _side_cell(side: Row | None) -> str:
    if side is None:
        return "nothing keeps the limits"
    reached = (
        f"{side['tokens_per_s']:,.0f} tokens/s, TTFT {side['ttft_s'] * 1e3:,.0f} ms, "
        f"TPOT {side['tpot_s'] * 1e3:.1f} ms"
    )
    return f"{escape(side['layout'])}<br>{escape(reached)}"


def launch_blocks(rows: list[Row]) -> str:
    """Commands that launch both sides, one block a pair of limits."""
    blocks = "".join(
        f"<p>TTFT {_time(row['ttft_limit'])}, TPOT {_time(row['tpot_limit'])}</p>"
        + "".join(f"<pre>{escape(command)}</pre>" for command in _commands(row))
        for row in rows
        if _commands(row)
    )
    return f"<details><summary>How both are launched</summary>{blocks}</details>" if blocks else ""


def _commands(row: Row) -> list[str]:
    sides = (row[side] for side in ("moe", "dense"))
    return [side["command"] for side in sides if side and side["command"]]


def error_table(record: Row) -> str:
    """Median errors of the kinds of operators, where they are known."""
    known = record["comparison"].get("expected_error") or {}
    rows = [
        ("", (f"{name}, {kind.replace('_', ' ')}", f"{error:.1%}"))
        for name, side in known.items()
        if side
        for kind, error in side["by_kind"].items()
    ]
    if not rows:
        return ""
    body = _table(("kind of operator", "median error of its time"), rows)
    return f"<details><summary>Errors of operators</summary>{body}</details>"


def provenance_table(rows: list[Row]) -> str:
    """What each part rests on."""
    cells = (("", (escape(row["what"]), escape(row["rests_on"]))) for row in rows)
    return _table(("what", "rests on"), cells)
