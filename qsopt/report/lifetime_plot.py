"""What three ways to have a model cost over the tokens that are served."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FuncFormatter

from qsopt.report.lifetime_text import served_text
from qsopt.report.plot import BLUE, GREY, ORANGE, save

COLOURS = {"moe": BLUE, "dense": ORANGE, "distilled": GREY}
"""Of the lines."""

SPAN = 30.0
"""Served tokens are shown from where serving costs this share of training to this many times it."""

_MEGA, _MILLION = 1e6, 1e6


def plot_lifetime(record: dict[str, Any], title: str, path: Path) -> None:
    """Cost of training and serving along the served tokens, one line a way, crossings marked.

    Args:
        record: of the answer.
        title: of the plot.
        path: file to write.
    """
    rows = [row for row in record["options"] if row["throughput_tokens_per_s"] > 0.0]
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    tokens = np.geomspace(*_range(rows, record["break_even_output_tokens"]), 400)
    for row in rows:
        axes.plot(tokens, _cost(row, tokens), color=COLOURS[row["name"]], linewidth=2)
        start = (tokens[0], _cost(row, tokens[0]))
        axes.annotate(row["in_words"], start, color=COLOURS[row["name"]], va="bottom")
    by_name = {row["name"]: row for row in rows}
    for found in record["break_even_output_tokens"]:
        if found["tokens"] and found["from"] in by_name:
            cost = _cost(by_name[found["from"]], found["tokens"])
            axes.plot(found["tokens"], cost, "o", color="black", markersize=4)
            axes.annotate(served_text(found["tokens"]), (found["tokens"], cost), va="top")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e12:g}"))
    axes.set_xlabel("served output tokens [trillion]")
    axes.set_ylabel("training and serving [million US dollars]")
    axes.set_title(title, loc="left", fontsize=11)
    save(figure, path, _table(rows, tokens))


def _table(rows: list[dict[str, Any]], tokens: np.ndarray) -> list[dict[str, float]]:
    """The lines as a table has them [million US dollars]."""
    names = {row["name"]: row for row in rows}
    return [
        {"output_tokens": float(count)}
        | {f"{name}_million_dollars": float(_cost(row, count)) for name, row in names.items()}
        for count in tokens
    ]


def _cost(row: dict[str, Any], tokens: Any) -> Any:
    served = row["cost_per_million_output_tokens"] / _MILLION * tokens
    return (row["training_cost"] + served) / _MEGA


def _range(rows: list[dict[str, Any]], crossings: list[dict[str, Any]]) -> tuple[float, float]:
    """Served tokens from where serving is cheap beside training to where it is dear, with every
    crossing inside.
    """
    even = [row["training_cost"] / row["cost_per_million_output_tokens"] for row in rows]
    marks = [found["tokens"] for found in crossings if found["tokens"]]
    least, most = min(even) * _MILLION / SPAN, max(even) * _MILLION * SPAN
    return min([least, *(mark / 3.0 for mark in marks)]), max([most, *(3.0 * m for m in marks)])
