"""Numbers, page and figure of the search benchmark."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.framework import style
from experiments.framework.pieces import Row
from experiments.pages.template import render
from experiments.search.search_rivals import METHODS

TIMED = ("gradient", *METHODS)
"""Methods of narrow problems, which are timed."""
WIDE_METHODS = ("gradient_first", *METHODS)
"""Methods of wide problems, which all have the same seconds."""


def summary(narrow: list[Row], wide: list[Row], close: float, seconds: float) -> dict[str, Any]:
    """The numbers that the benchmark is about; on narrow problems every method counts within the
    same seconds.
    """
    solved = [row for row in narrow if row["feasible"]]
    loads = [row["load"] for row in [*narrow, *wide]]
    return {
        "problems": len(narrow),
        "feasible": len(solved),
        "close": close,
        **(_accuracy(solved, close) if solved else {}),
        "methods": {name: _method(solved, name, seconds) for name in TIMED} if solved else {},
        "wide_shortfall": {name: _median_shortfall(wide, name) for name in WIDE_METHODS}
        if wide
        else {},
        "load": [min(loads), max(loads)],
    }


def _accuracy(solved: list[Row], close: float) -> Row:
    """How near the search and its relaxations come to the exhaustive optimum."""
    gaps, relaxed, real = (
        np.array([row[key] for row in solved]) for key in ("gap", "relaxed", "all_real")
    )
    return {
        "complete": sum(row["complete"] for row in solved),
        "exact": float(np.mean(gaps < 1e-9)),
        "within_close": float(np.mean(gaps <= close)),
        "worst_gap": float(gaps.max()),
        "relaxed_within_5_percent": float(np.mean(np.abs(relaxed) <= 0.05)),
        "worst_relaxed": float(relaxed[np.argmax(np.abs(relaxed))]),
        "all_real_within_5_percent": float(np.mean(np.abs(real) <= 0.05)),
        "median_search_s": float(np.median([row["search_s"] for row in solved])),
    }


def _method(solved: list[Row], name: str, seconds: float) -> Row:
    """How often a method came close, its median time (infinite where it did not), and how much
    sooner gradient was.
    """
    times, gradient = _times(solved, name, seconds), _times(solved, "gradient", seconds)
    counts = np.array(
        [
            np.inf if row[f"{name}_evaluations"] is None else row[f"{name}_evaluations"]
            for row in solved
        ]
    )
    both = np.isfinite(times) & np.isfinite(gradient)
    return {
        "close": float(np.mean(np.isfinite(times))),
        "median_s": _finite(np.median(times)),
        "median_evaluations": _finite(np.median(np.where(np.isfinite(times), counts, np.inf))),
        "gradient_sooner": float(np.mean(gradient < times)),
        "gradient_later": float(np.mean(gradient > times)),
        "median_ratio_where_both": _finite(np.median(times[both] / gradient[both]))
        if both.any()
        else None,
    }


def _times(solved: list[Row], name: str, seconds: float) -> np.ndarray:
    """Seconds until a method came close, infinite where it did not within the budget."""
    times = np.array([np.inf if row[f"{name}_s"] is None else row[f"{name}_s"] for row in solved])
    return np.where(times <= seconds, times, np.inf)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _median_shortfall(wide: list[Row], name: str) -> float | None:
    """Median over the problems, where nothing that keeps the limits is infinitely short."""
    shortfalls = [_shortfall(row, name) for row in wide]
    return _finite(np.median([np.inf if share is None else share for share in shortfalls]))


def _shortfall(row: Row, name: str) -> float | None:
    """Shortfall of a method from the gradient search with all its seconds, as a share; negative
    where the method is better, None where it has nothing that keeps the limits.
    """
    return None if row[name] is None else float(-np.expm1(row[name] - row["gradient"])) + 0.0


# ---- page ----------------------------------------------------------------------------------------


def page(
    narrow: list[Row], wide: list[Row], summary: dict[str, Any], settings: dict[str, Any]
) -> str:
    """The benchmark as Markdown."""
    return render(
        "search-benchmark.md",
        summary=summary,
        settings=settings,
        timed=TIMED,
        methods=list(METHODS),
        narrow=narrow,
        wide=[
            row | {"shortfalls": [_shortfall(row, name) for name in WIDE_METHODS]} for row in wide
        ],
    )


# ---- figure --------------------------------------------------------------------------------------


def draw(narrow: list[Row], seconds: float) -> Figure:
    """Share of problems on which each method is within 1 %, over time."""
    solved = [row for row in narrow if row["feasible"]]
    figure, axes = style.subplots(width=7.0, height=4.0)
    ends = []
    for name, colour in zip(TIMED, style.CYCLE, strict=False):
        times = _times(solved, name, seconds)
        reached = np.sort(times[np.isfinite(times)])
        share = np.arange(1, reached.size + 1) / max(len(solved), 1)
        steps, shares = _staircase(reached, share, seconds)
        axes.plot(
            steps,
            shares,
            color=colour,
            linewidth=2.5 if name == "gradient" else 1.5,
            drawstyle="steps-post",
        )
        ends.append((name, seconds, float(shares[-1]), colour))
    axes.set_xlim(0.02, seconds)
    axes.set_ylim(0.0, 1.02)
    style.log_axis(axes.xaxis, [0.03, 0.1, 0.3, 1.0, 3.0], lambda value, _=None: f"{value:g}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("seconds of search, compiled")
    axes.set_ylabel("problems within 1 % of the optimum")
    style.label_ends(axes, ends)
    return figure


def _staircase(times: np.ndarray, shares: np.ndarray, last: float) -> tuple[np.ndarray, np.ndarray]:
    """Steps that begin at nothing and end at the last second."""
    end = shares[-1] if len(shares) else 0.0
    return np.array([1e-3, *times, last]), np.array([0.0, *shares, end])
