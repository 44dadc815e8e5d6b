"""Charts of a page as Vega-Lite specifications, from the record alone."""

from typing import Any

from qsopt.report.page.causes import error_chart, operator_chart, waterfall_chart
from qsopt.report.page.chart import (
    TITLES,
    TOKENS,
    Chart,
    calculated,
    chart,
    log_ratio,
    number,
    rule_at_one,
    tooltip_of_sides,
    word,
)
from qsopt.report.style import BLUE, GREY, INK, NEITHER, ONLY_DENSE, ONLY_MOE, ORANGE, PALE, SPAN


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


# ---- the ratio along a length --------------------------------------------------------------------


def line_rows(line: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of a line as flat tables have them."""
    return [
        {
            line["what"]: row[line["what"]],
            "verdict": row["verdict"],
            "ratio": row["ratio"],
            "low": None if row["interval"] is None else row["interval"][0],
            "high": None if row["interval"] is None else row["interval"][1],
            "beyond_trained_context": row["beyond_trained_context"],
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
    """The ratio and its 80 % interval over a length; what each side runs in on hover. Points beyond
    the context that the MoE was made for are hollow, behind a line where it ends.
    """
    what = line["what"]
    axis = {"labelExpr": TOKENS, "title": TITLES[what], "grid": False, "labelOverlap": True}
    x = number(what, scale={"type": "log", "base": 2, "nice": False}, axis=axis)
    y = number("ratio", **log_ratio())
    tooltip = [
        {"field": what, "title": what, "format": ",.0f"},
        {"field": "verdict", "title": "verdict"},
        {"field": "ratio", "title": "dense over MoE", "format": ".3f"},
        {"field": "low", "title": "80 % from", "format": ".2f"},
        {"field": "high", "title": "80 % to", "format": ".2f"},
        {"field": "beyond_trained_context", "title": "beyond the trained context"},
        *tooltip_of_sides(),
    ]
    band = {
        "transform": [{"filter": "isValid(datum.low)"}],
        "mark": {"type": "area", "color": BLUE, "opacity": 0.14},
        "encoding": {"y": number("low", **log_ratio()), "y2": {"field": "high"}},
    }
    here = {
        "data": {"values": [{what: line["own"]}]},
        "mark": {"type": "rule", "color": GREY, "opacity": 0.5},
    }
    points = {
        "mark": {"type": "point", "stroke": BLUE, "size": 70, "opacity": 1},
        "encoding": {"y": y, "tooltip": tooltip, "fill": _fill()},
    }
    curve = {"mark": {"type": "line", "color": BLUE}, "encoding": {"y": y}}
    layers = [band, rule_at_one("y"), here, *_trained_end(line), curve, points]
    return chart(300, line_rows(line), encoding={"x": x}, layer=layers)


def _fill() -> dict[str, Any]:
    """Points are full where the MoE was made for so long a context."""
    return {"condition": {"test": "datum.beyond_trained_context", "value": "white"}, "value": BLUE}


def _trained_end(line: dict[str, Any]) -> list[Chart]:
    """A line where the trained context ends, if it does among the points."""
    if len({row["beyond_trained_context"] for row in line["rows"]}) == 1:
        return []
    said = {"type": "text", "align": "right", "dx": -4, "y": 10, "color": GREY, "fontSize": 11}
    return [
        {
            "data": {"values": [{line["what"]: line["trained_end"], "said": "trained context"}]},
            "layer": [
                {"mark": {"type": "rule", "color": GREY, "strokeDash": [2, 3]}},
                {"mark": said, "encoding": {"text": word("said")}},
            ],
        }
    ]


# ---- the map -------------------------------------------------------------------------------------

_LOG2 = f"clamp(log(datum.ratio) / LN2, {-SPAN}, {SPAN})"
_BOTH, _ONE = "isValid(datum.ratio)", "!isValid(datum.ratio)"
_SHOWN = "datum.q_index == q_index && datum.cached_index == cached_index"


def grid_chart(grid: dict[str, Any]) -> Chart:
    """Who wins over prompt and answer; signals `q_index` and `cached_index` say which of the grids
    is shown.
    """
    tooltip = [
        {"field": "prompt", "format": ",.0f"},
        {"field": "answer", "format": ",.0f"},
        {"field": "verdict"},
        {"field": "ratio", "title": "dense over MoE", "format": ".3f"},
        *tooltip_of_sides(),
    ]
    cell = {"type": "rect", "stroke": "white"}
    layers = [
        {
            "transform": [{"filter": _BOTH}, *calculated(log2=_LOG2)],
            "mark": cell,
            "encoding": {"color": _ratio_colour(), "tooltip": tooltip},
        },
        {
            "transform": [{"filter": _ONE}],
            "mark": cell,
            "encoding": {"color": _lacking_colour(), "tooltip": tooltip},
        },
        {**_labels(), "encoding": {**_labels()["encoding"], "tooltip": tooltip}},
    ]
    params = {"q_index": asked_place(grid), "cached_index": 0}
    return chart(
        380,
        grid["rows"],
        params=[{"name": name, "value": value} for name, value in params.items()],
        transform=[{"filter": _SHOWN}],
        encoding={"x": _lengths("prompt", "ascending"), "y": _lengths("answer", "descending")},
        layer=layers,
        resolve={"scale": {"color": "independent"}},
    )


def asked_place(grid: dict[str, Any]) -> int:
    """Which stop of the slider of q is the size that was asked about."""
    return next((place for place, size in enumerate(grid["q"]) if size["asked"]), 0)


def _lengths(name: str, order: str) -> dict[str, Any]:
    axis = {"labelExpr": TOKENS, "title": TITLES[name], "labelAngle": 0}
    return {"field": name, "type": "ordinal", "sort": order, "axis": axis}


def _ratio_colour() -> dict[str, Any]:
    side = "(datum.value > 0 ? 'dense ' : 'MoE ') + pow(2, abs(datum.value)) + 'x'"
    return number(
        "log2",
        scale={"domain": [-SPAN, 0, SPAN], "range": [BLUE, PALE, ORANGE], "type": "linear"},
        legend={
            "title": "which side serves more",
            "orient": "top",
            "gradientLength": 220,
            "labelExpr": f"datum.value == 0 ? 'equal' : {side}",
            "values": [-SPAN, 0, SPAN],
        },
    )


def _lacking_colour() -> dict[str, Any]:
    """Of points where a side has no way."""
    colours = {
        "moe infeasible": ONLY_DENSE,
        "dense infeasible": ONLY_MOE,
        "both infeasible": NEITHER,
    }
    scale = {"domain": list(colours), "range": list(colours.values())}
    return word("verdict", legend=None, scale=scale)


def _labels() -> Chart:
    """The ratio in every cell, or the side that is alone."""
    label = (
        f"{_BOTH} ? format(datum.ratio, '.2f') : datum.verdict == 'moe infeasible' ? 'dense' : "
        "datum.verdict == 'dense infeasible' ? 'MoE' : '-'"
    )
    ink = f"{_BOTH} && abs({_LOG2}) > 1.1 ? 'white' : '{INK}'"
    return {
        "transform": calculated(label=label, ink=ink),
        "mark": {"type": "text", "fontSize": 11},
        "encoding": {"text": word("label"), "color": word("ink", scale=None)},
    }


def label_of_size(size: dict[str, Any]) -> str:
    """A stop of the slider of q in words."""
    return f"q = {size['q']:.2f} ({size['what']})"


def label_of_share(share: float) -> str:
    """A stop of the slider of cached shares in words."""
    return "nothing cached" if share == 0.0 else f"{share:.0%} cached"
