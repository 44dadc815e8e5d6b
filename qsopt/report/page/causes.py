"""Charts of what makes a ratio: causes, operators and errors."""

from typing import Any

from qsopt.report.page.chart import (
    Chart,
    calculated,
    chart,
    log_ratio,
    number,
    rule_at_one,
    side_colour,
    word,
)
from qsopt.report.style import BLUE, GREY, INK, ORANGE


def waterfall_chart(rows: list[dict[str, Any]]) -> Chart:
    """Factors of the ratio, each bar from where the last one ends."""
    title = "dense over MoE; orange helps dense, blue the MoE"
    order = [row["cause"] for row in rows]
    bars = {
        "mark": {"type": "bar", "height": 18},
        "encoding": {
            "x": number("start", **log_ratio(title, 30)),
            "x2": {"field": "end"},
            "color": word("colour", scale=None),
            "tooltip": [{"field": "cause"}, {"field": "factor", "format": ".3f"}],
        },
    }
    words = {
        "mark": {"type": "text", "align": "left", "dx": 5, "fontSize": 12, "color": INK},
        "encoding": {"x": number("right"), "text": word("label")},
    }
    columns = calculated(
        colour=f"datum.cause == 'ratio' ? '{GREY}' : datum.factor > 1 ? '{ORANGE}' : '{BLUE}'",
        right="max(datum.start, datum.end)",
        label="(datum.cause == 'ratio' ? '' : 'x ') + format(datum.factor, '.2f')",
    )
    y = word("cause", sort=order, axis={"title": None})
    layers = [bars, words, rule_at_one("x")]
    return chart(28 * len(rows) + 40, rows, transform=columns, encoding={"y": y}, layer=layers)


def operator_chart(rows: list[dict[str, Any]]) -> Chart:
    """Device time per output token of every operator, side by side."""
    order = list(dict.fromkeys(row["operator"] for row in rows))
    encoding = {
        "y": word("operator", sort=order, axis={"title": None}),
        "yOffset": {"field": "side", "sort": ["moe", "dense"]},
        "x": number("device_us_per_token", axis={"title": "device time per output token [µs]"}),
        "color": side_colour(),
        "tooltip": [
            {"field": "operator"},
            {"field": "side"},
            {"field": "device_us_per_token", "title": "device µs per token", "format": ".2f"},
            {"field": "seconds", "title": "seconds of a step", "format": ".3s"},
            {"field": "bound", "title": "waits for"},
        ],
    }
    return chart(34 * len(order) + 70, rows, mark="bar", encoding=encoding)


def error_chart(rows: list[dict[str, Any]]) -> Chart:
    """What each error alone would make of the ratio."""
    hidden = {"title": None, "labels": False, "ticks": False, "domain": False}
    y = word("what", sort=[row["what"] for row in rows], axis=hidden)
    bars = {
        "mark": {"type": "bar", "height": 10, "color": BLUE, "opacity": 0.75},
        "encoding": {
            "x": number("low", **log_ratio()),
            "x2": {"field": "high"},
            "tooltip": [
                {"field": "what"},
                {"field": "low", "format": ".2f"},
                {"field": "high", "format": ".2f"},
            ],
        },
    }
    said = "datum.what + ': ' + format(datum.low, '.2f') + ' to ' + format(datum.high, '.2f')"
    words = {
        "transform": calculated(label=said),
        "mark": {"type": "text", "align": "left", "dy": -14, "color": INK, "fontSize": 12},
        "encoding": {"x": {"value": 4}, "text": word("label")},
    }
    layers = [bars, words, rule_at_one("x")]
    return chart(46 * len(rows) + 40, rows, encoding={"y": y}, layer=layers)
