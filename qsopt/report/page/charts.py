"""Charts of a page as Vega-Lite specifications, from the record alone."""

from typing import Any

from qsopt.report.style import (
    BLUE,
    GREY,
    INK,
    NEITHER,
    ONLY_DENSE,
    ONLY_MOE,
    ORANGE,
    PALE,
    SPAN,
    chart_config,
    tokens_text,
)

Chart = dict[str, Any]

RATIO = "throughput, dense over MoE"

_WHAT = {"prompt": "prompt [tokens]", "answer": "answer [tokens]", "context": "context [tokens]"}

_TOKENS = (
    "datum.value >= 1048576 ? format(datum.value / 1048576, '.3~g') + 'M' : "
    "datum.value >= 1024 ? format(datum.value / 1024, '.3~g') + 'k' : format(datum.value, '.3~g')"
)
"""`tokens_text` as charts write it."""


def _chart(height: int, **parts: Any) -> Chart:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": "container",
        "height": height,
        "autosize": {"type": "fit", "contains": "padding"},
        "config": chart_config(),
        **parts,
    }


def charts(record: dict[str, Any]) -> dict[str, Chart]:
    """All charts of a page by the place where they stand; those without numbers are left out."""
    found = {f"line-{line['what']}": line_chart(line) for line in record["lines"]}
    if record["grid"] is not None:
        found["grid"] = grid_chart(record["grid"])
    for name, draw in (
        ("penalties", waterfall_chart),
        ("operators", operator_chart),
        ("errors", error_chart),
    ):
        if record[name]:
            found[name] = draw(record[name])
    return found


# ---- the ratio along a length ------------------------------------------------------------------


def line_rows(line: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of a line as flat tables have them."""
    return [
        {
            line["what"]: row[line["what"]],
            "verdict": row["verdict"],
            "ratio": row["ratio"],
            "low": None if row["interval"] is None else row["interval"][0],
            "high": None if row["interval"] is None else row["interval"][1],
            **_side_columns(row),
        }
        for row in line["rows"]
    ]


def _side_columns(row: dict[str, Any]) -> dict[str, Any]:
    columns = {}
    for side in ("moe", "dense"):
        there = row[side] or {}
        columns[f"{side}_tokens_per_s"] = there.get("tokens_per_s")
        columns[f"{side}_layout"] = there.get("layout", "nothing keeps the limits")
    return columns


def line_chart(line: dict[str, Any]) -> Chart:
    """The ratio and its 80 % interval over a length; what each side runs in on hover."""
    what = line["what"]
    x = {
        "field": what,
        "type": "quantitative",
        "scale": {"type": "log", "base": 2, "nice": False},
        "axis": {"labelExpr": _TOKENS, "title": _WHAT[what], "grid": False, "labelOverlap": True},
    }
    ratio = {"type": "log", "nice": False, "padding": 12}
    axis = {"title": f"{RATIO}, log", "format": ".3~g", "tickCount": 5}
    band = {
        "transform": [{"filter": "isValid(datum.low)"}],
        "mark": {"type": "area", "color": BLUE, "opacity": 0.14},
        "encoding": {
            "y": {"field": "low", "type": "quantitative", "scale": ratio, "axis": axis},
            "y2": {"field": "high"},
        },
    }
    y = {"field": "ratio", "type": "quantitative", "scale": ratio, "axis": axis}
    tooltip = [
        {"field": what, "title": what, "format": ",.0f"},
        {"field": "verdict", "title": "verdict"},
        {"field": "ratio", "title": "dense over MoE", "format": ".3f"},
        {"field": "low", "title": "80 % from", "format": ".2f"},
        {"field": "high", "title": "80 % to", "format": ".2f"},
        *_tooltip_of_sides(),
    ]
    layers = [
        band,
        {
            "data": {"values": [{"one": 1.0}]},
            "mark": {"type": "rule", "color": GREY, "strokeDash": [4, 4]},
            "encoding": {"x": None, "y": {"datum": 1.0, "scale": ratio, "axis": axis}},
        },
        {
            "data": {"values": [{what: line["own"]}]},
            "mark": {"type": "rule", "color": GREY, "opacity": 0.5},
        },
        {"mark": {"type": "line", "color": BLUE}, "encoding": {"y": y}},
        {
            "mark": {"type": "point", "color": BLUE, "size": 70, "opacity": 1},
            "encoding": {"y": y, "tooltip": tooltip},
        },
    ]
    return _chart(300, data={"values": line_rows(line)}, encoding={"x": x}, layer=layers)


def _tooltip_of_sides() -> list[dict[str, Any]]:
    return [
        {"field": "moe_tokens_per_s", "title": "MoE tokens/s", "format": ",.0f"},
        {"field": "moe_layout", "title": "MoE in"},
        {"field": "dense_tokens_per_s", "title": "dense tokens/s", "format": ",.0f"},
        {"field": "dense_layout", "title": "dense in"},
    ]


# ---- the map -------------------------------------------------------------------------------------


def grid_chart(grid: dict[str, Any]) -> Chart:
    """Who wins over prompt and answer; signals `q_index` and `cached_index` say which of the grids
    is shown.
    """
    centre = next((i for i, size in enumerate(grid["q"]) if size["asked"]), 0)
    log2 = f"clamp(log(datum.ratio) / LN2, {-SPAN}, {SPAN})"
    shown = "datum.q_index == q_index && datum.cached_index == cached_index"
    axes = [
        {
            "field": name,
            "type": "ordinal",
            "sort": "ascending" if name == "prompt" else "descending",
            "axis": {"labelExpr": _TOKENS, "title": _WHAT[name], "labelAngle": 0},
        }
        for name in ("prompt", "answer")
    ]
    tooltip = [
        {"field": "prompt", "format": ",.0f"},
        {"field": "answer", "format": ",.0f"},
        {"field": "verdict"},
        {"field": "ratio", "title": "dense over MoE", "format": ".3f"},
        *_tooltip_of_sides(),
    ]
    fits = {"filter": "isValid(datum.ratio)"}
    colour = {
        "field": "log2",
        "type": "quantitative",
        "scale": {"domain": [-SPAN, 0, SPAN], "range": [BLUE, PALE, ORANGE], "type": "linear"},
        "legend": {
            "title": "which side serves more",
            "orient": "top",
            "gradientLength": 220,
            "labelExpr": "datum.value == 0 ? 'equal' : (datum.value > 0 ? 'dense ' : 'MoE ') + "
            "pow(2, abs(datum.value)) + 'x'",
            "values": [-SPAN, 0, SPAN],
        },
    }
    lacking = {
        "field": "verdict",
        "type": "nominal",
        "legend": None,
        "scale": {
            "domain": ["moe infeasible", "dense infeasible", "both infeasible"],
            "range": [ONLY_DENSE, ONLY_MOE, NEITHER],
        },
    }
    text = {
        "type": "nominal",
        "field": "label",
    }
    layers = [
        {
            "transform": [fits, {"calculate": log2, "as": "log2"}],
            "mark": {"type": "rect", "stroke": "white"},
            "encoding": {"color": colour, "tooltip": tooltip},
        },
        {
            "transform": [{"filter": "!isValid(datum.ratio)"}],
            "mark": {"type": "rect", "stroke": "white"},
            "encoding": {"color": lacking, "tooltip": tooltip},
        },
        {
            "transform": [
                {
                    "calculate": "isValid(datum.ratio) ? format(datum.ratio, '.2f') : "
                    "datum.verdict == 'moe infeasible' ? 'dense' : "
                    "datum.verdict == 'dense infeasible' ? 'MoE' : '-'",
                    "as": "label",
                },
                {
                    "calculate": f"isValid(datum.ratio) && abs({log2}) > 1.1 ? 'white' : '{INK}'",
                    "as": "ink",
                },
            ],
            "mark": {"type": "text", "fontSize": 11},
            "encoding": {
                "text": text,
                "color": {"field": "ink", "type": "nominal", "scale": None},
                "tooltip": tooltip,
            },
        },
    ]
    return _chart(
        380,
        params=[{"name": "q_index", "value": centre}, {"name": "cached_index", "value": 0}],
        data={"values": grid["rows"]},
        transform=[{"filter": shown}],
        encoding={"x": axes[0], "y": axes[1]},
        layer=layers,
        resolve={"scale": {"color": "independent"}},
    )


# ---- what makes the ratio ------------------------------------------------------------------------


def waterfall_chart(rows: list[dict[str, Any]]) -> Chart:
    """Factors of the ratio, each bar from where the last one ends."""
    order = [row["cause"] for row in rows]
    colour = f"datum.cause == 'ratio' ? '{GREY}' : datum.factor > 1 ? '{ORANGE}' : '{BLUE}'"
    x = {
        "field": "start",
        "type": "quantitative",
        "scale": {"type": "log", "nice": False, "padding": 30},
        "axis": {"title": "dense over MoE; orange helps dense, blue the MoE", "format": ".3~g"},
    }
    y = {"field": "cause", "type": "nominal", "sort": order, "axis": {"title": None}}
    layers = [
        {
            "mark": {"type": "bar", "height": 18},
            "encoding": {
                "x": x,
                "x2": {"field": "end"},
                "color": {"field": "colour", "type": "nominal", "scale": None},
                "tooltip": [
                    {"field": "cause"},
                    {"field": "factor", "format": ".3f"},
                ],
            },
        },
        {
            "mark": {"type": "text", "align": "left", "dx": 5, "fontSize": 12, "color": INK},
            "encoding": {
                "x": {"field": "right", "type": "quantitative"},
                "text": {"field": "label", "type": "nominal"},
            },
        },
        {
            "data": {"values": [{"one": 1.0}]},
            "mark": {"type": "rule", "color": GREY, "strokeDash": [4, 4]},
            "encoding": {"x": {"datum": 1.0}, "y": None},
        },
    ]
    transform = [
        {"calculate": colour, "as": "colour"},
        {"calculate": "max(datum.start, datum.end)", "as": "right"},
        {
            "calculate": "(datum.cause == 'ratio' ? '' : 'x ') + format(datum.factor, '.2f')",
            "as": "label",
        },
    ]
    return _chart(
        28 * len(rows) + 40,
        data={"values": rows},
        transform=transform,
        encoding={"y": y},
        layer=layers,
    )


def _side_colour() -> dict[str, Any]:
    return {
        "field": "side",
        "type": "nominal",
        "scale": {"domain": ["moe", "dense"], "range": [BLUE, ORANGE]},
        "legend": {
            "title": None,
            "orient": "top",
            "labelExpr": "datum.value == 'moe' ? 'MoE' : 'dense'",
        },
    }


def operator_chart(rows: list[dict[str, Any]]) -> Chart:
    """Device time per output token of every operator, side by side."""
    order = list(dict.fromkeys(row["operator"] for row in rows))
    encoding = {
        "y": {"field": "operator", "type": "nominal", "sort": order, "axis": {"title": None}},
        "yOffset": {"field": "side", "sort": ["moe", "dense"]},
        "x": {
            "field": "device_us_per_token",
            "type": "quantitative",
            "axis": {"title": "device time per output token [µs]"},
        },
        "color": _side_colour(),
        "tooltip": [
            {"field": "operator"},
            {"field": "side"},
            {"field": "device_us_per_token", "title": "device µs per token", "format": ".2f"},
            {"field": "seconds", "title": "seconds of a step", "format": ".3s"},
            {"field": "bound", "title": "waits for"},
        ],
    }
    return _chart(34 * len(order) + 70, data={"values": rows}, mark="bar", encoding=encoding)


def error_chart(rows: list[dict[str, Any]]) -> Chart:
    """What each error alone would make of the ratio."""
    order = [row["what"] for row in rows]
    y = {
        "field": "what",
        "type": "nominal",
        "sort": order,
        "axis": {"title": None, "labelLimit": 0, "labels": False, "ticks": False, "domain": False},
    }
    x = {
        "field": "low",
        "type": "quantitative",
        "scale": {"type": "log", "nice": False, "padding": 12},
        "axis": {"title": RATIO, "format": ".3~g", "tickCount": 5},
    }
    layers = [
        {
            "mark": {"type": "bar", "height": 10, "color": BLUE, "opacity": 0.75},
            "encoding": {
                "x": x,
                "x2": {"field": "high"},
                "tooltip": [
                    {"field": "what"},
                    {"field": "low", "format": ".2f"},
                    {"field": "high", "format": ".2f"},
                ],
            },
        },
        {
            "transform": [
                {
                    "calculate": "datum.what + ': ' + format(datum.low, '.2f') + ' to ' + "
                    "format(datum.high, '.2f')",
                    "as": "label",
                }
            ],
            "mark": {"type": "text", "align": "left", "dy": -14, "color": INK, "fontSize": 12},
            "encoding": {"x": {"value": 4}, "text": {"field": "label", "type": "nominal"}},
        },
        {
            "data": {"values": [{"one": 1.0}]},
            "mark": {"type": "rule", "color": GREY, "strokeDash": [4, 4]},
            "encoding": {"x": {"datum": 1.0}, "y": None},
        },
    ]
    return _chart(46 * len(rows) + 40, data={"values": rows}, encoding={"y": y}, layer=layers)


def label_of_size(size: dict[str, Any]) -> str:
    """A stop of the slider of q in words."""
    return f"q = {size['q']:.2f} ({size['what']})"


def label_of_share(share: float) -> str:
    """A stop of the slider of cached shares in words."""
    return "nothing cached" if share == 0.0 else f"{share:.0%} cached"


__all__ = ["charts", "label_of_share", "label_of_size", "line_rows", "tokens_text"]
