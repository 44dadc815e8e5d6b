"""The one look of everything that is drawn: colours, texts of numbers, and the settings of charts
on pages.
"""

from typing import Any

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"
"""Colours that colour-blind readers tell apart (Okabe and Ito, 2008): the MoE, dense, the rest."""

GREEN, PURPLE, AMBER = "#009E73", "#CC79A7", "#E69F00"
"""Of the same palette, for more lines."""

PALE = "#F7F7F7"
"""Between blue and orange: equal throughput."""

ONLY_DENSE, ONLY_MOE, NEITHER = "#F3B27F", "#8FBBD9", "#BBBBBB"
"""Where a side has no deployment."""

INK, RULE = "#222222", "#DDDDDD"
"""Of text and of thin lines on pages."""

SPAN = 2.0
"""Powers of two of the ratio that the colours of a map span on each side of 1."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
"""Of pages: what the reader's machine has."""


FIGURES = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}
"""Settings of all figures: no frame above and to the right, text that stays text."""


def tokens_text(value: float, _position: object = None) -> str:
    """A number of tokens as people say it: 512, 4k, 128k, 1M."""
    for size, letter in ((2.0**20, "M"), (2.0**10, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def chart_config() -> dict[str, Any]:
    """Settings of all Vega-Lite charts."""
    axis = {
        "labelColor": INK,
        "titleColor": INK,
        "titleFontWeight": "normal",
        "domainColor": GREY,
        "tickColor": GREY,
        "gridColor": "#EEEEEE",
        "labelFontSize": 12,
        "titleFontSize": 12,
    }
    return {
        "font": FONT,
        "background": "white",
        "view": {"stroke": None},
        "axis": axis,
        "legend": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"},
        "line": {"strokeWidth": 2},
        "point": {"size": 45, "filled": True},
    }
