"""What the charts of a page have in common, as Vega-Lite has it."""

from typing import Any

from qsopt.report.style import BLUE, GREY, ORANGE, chart_config

Chart = dict[str, Any]

RATIO = "throughput, dense over MoE"

TITLES = {"prompt": "prompt [tokens]", "answer": "answer [tokens]", "context": "context [tokens]"}
"""Of axes of lengths."""

TOKENS = (
    "datum.value >= 1048576 ? format(datum.value / 1048576, '.3~g') + 'M' : "
    "datum.value >= 1024 ? format(datum.value / 1024, '.3~g') + 'k' : format(datum.value, '.3~g')"
)
"""`style.tokens_text` as charts write it."""


def chart(height: int, rows: list[dict[str, Any]], **parts: Any) -> Chart:
    """A chart as wide as its place.

    Args:
        height: in pixels.
        rows: what it shows.
        **parts: its marks, encodings and layers.
    """
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": "container",
        "height": height,
        "autosize": {"type": "fit", "contains": "padding"},
        "config": chart_config(),
        "data": {"values": rows},
        **parts,
    }


def number(name: str, **more: Any) -> dict[str, Any]:
    """A column of numbers on a channel."""
    return {"field": name, "type": "quantitative", **more}


def word(name: str, **more: Any) -> dict[str, Any]:
    """A column of words on a channel."""
    return {"field": name, "type": "nominal", **more}


def calculated(**columns: str) -> list[dict[str, Any]]:
    """Columns that follow from others."""
    return [{"calculate": text, "as": name} for name, text in columns.items()]


def log_ratio(title: str = RATIO, padding: int = 12) -> dict[str, Any]:
    """Scale and axis of a ratio."""
    return {
        "scale": {"type": "log", "nice": False, "padding": padding},
        "axis": {"title": title, "format": ".3~g", "tickCount": 5},
    }


def rule_at_one(axis: str) -> Chart:
    """A thin line where both sides serve alike."""
    return {
        "data": {"values": [{"one": 1.0}]},
        "mark": {"type": "rule", "color": GREY, "strokeDash": [4, 4]},
        "encoding": {axis: {"datum": 1.0}, {"x": "y", "y": "x"}[axis]: None},
    }


def tooltip_of_sides() -> list[dict[str, Any]]:
    """What both sides reach and run in, on hover."""
    return [
        {"field": "moe_tokens_per_s", "title": "MoE tokens/s", "format": ",.0f"},
        {"field": "moe_layout", "title": "MoE in"},
        {"field": "dense_tokens_per_s", "title": "dense tokens/s", "format": ",.0f"},
        {"field": "dense_layout", "title": "dense in"},
    ]


def side_colour() -> dict[str, Any]:
    """The colour of a side, with a legend."""
    said = "datum.value == 'moe' ? 'MoE' : 'dense'"
    return word(
        "side",
        scale={"domain": ["moe", "dense"], "range": [BLUE, ORANGE]},
        legend={"title": None, "orient": "top", "labelExpr": said},
    )
