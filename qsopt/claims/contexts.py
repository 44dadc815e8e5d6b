"""Claims about who wins, model by model and along the context."""

import numpy as np

from qsopt.claims.found import RATIO, Found, Row, ratios
from qsopt.claims.views import ARGUED, COUNTED, VIEWS, longest_context, outcome

_LONG = ("deepseek-v3", "qwen3-235b-a22b", "grok-1")
_CONTEXTS = tuple(4.0**power for power in range(5, 11))


def long_contexts() -> Found:
    """Along the context on 16 H200, with the longest that each model was made for; the verdict is
    that of contexts up to it.
    """
    rows = [
        outcome(view, name, "16xh200", context)
        for view in VIEWS
        for name in _LONG
        for context in sorted({*_CONTEXTS, longest_context(name)})
    ]
    return Found(*_lengths_say(rows), rows)


def _lengths_say(rows: list[Row]) -> tuple[str, str]:
    """A verdict on contexts that the models were made for, and a sentence that says it of longer
    ones too.
    """
    within = [row for row in rows if not row["beyond_trained_context"]]
    argued, counted = (_turns(within, view.name) for view in VIEWS)
    longer = [sum(_turns(rows, view.name)) for view in VIEWS]
    words = (
        f"up to the context that a model was made for, dense wins some longer context with "
        f"{sum(argued)} of {len(argued)} models as argued and with {sum(counted)} as counted, by "
        f"at most {max(ratios(within, ARGUED.name)):.2f} and "
        f"{max(ratios(within, COUNTED.name)):.2f} times; at any length up to "
        f"{max(_CONTEXTS):,.0f} tokens with {longer[0]} and {longer[1]}"
    )
    return _how_many(argued), words


def _turns(rows: list[Row], view: str) -> list[bool]:
    """Of each model, whether dense wins a context beyond the shortest."""
    shortest = min(_CONTEXTS)
    won = {
        row["model"]
        for row in rows
        if row["view"] == view and row["context"] > shortest and row["verdict"] == "dense wins"
    }
    return [name in won for name in _LONG]


def _how_many(held: list[bool]) -> str:
    return "holds" if all(held) else "holds in part" if any(held) else "does not hold"


_CRITERION = ("mixtral-8x7b", "deepseek-v3", "qwen3-235b-a22b", "grok-1", "olmoe-1b-7b")


def criterion() -> Found:
    """q s below 1 against who wins, model by model."""
    rows = [
        {**row, "rule": "dense wins" if float(row["qs"]) < 1.0 else "moe wins"}  # pyright: ignore[reportArgumentType]
        for view in VIEWS
        for name in _CRITERION
        for context in (1024.0, 8192.0, 65_536.0)
        for row in [outcome(view, name, "16xh200", context)]
    ]
    asked = [[row for row in rows if row["view"] == view.name] for view in VIEWS]
    shares, bases = [_agreement(each) for each in asked], [_base_rate(each) for each in asked]
    areas = [_area(each) for each in asked]
    words = (
        f"q s alone names the winner in {shares[0]:.0%} of cases as argued and in {shares[1]:.0%} "
        f"as counted; who always names the side that wins more often is right in {bases[0]:.0%} "
        f"and {bases[1]:.0%}; the area under its ROC curve is {areas[0]:.2f} and {areas[1]:.2f}"
    )
    return Found(
        "names a disadvantage, not the winner" if min(shares) < 0.9 else "holds", words, rows
    )


def _agreement(rows: list[Row]) -> float:
    both = [row for row in rows if row[RATIO] is not None]
    return float(np.mean([row["verdict"] == row["rule"] for row in both])) if both else float("nan")


def _base_rate(rows: list[Row]) -> float:
    """The share of the more frequent winner."""
    won = [row["verdict"] == "dense wins" for row in rows if row[RATIO] is not None]
    return max(float(np.mean(won)), 1.0 - float(np.mean(won))) if won else float("nan")


def _area(rows: list[Row]) -> float:
    """Of all pairs of a case that dense wins and one that it does not, the share in which q s is
    the smaller in the former, half of it where they are equal.
    """
    both = [row for row in rows if row[RATIO] is not None]
    won, lost = (
        [float(row["qs"]) for row in both if (row["verdict"] == "dense wins") == wins]  # pyright: ignore[reportArgumentType]
        for wins in (True, False)
    )
    ranked = [0.5 * (one < other) + 0.5 * (one <= other) for one in won for other in lost]
    return float(np.mean(ranked)) if ranked else float("nan")
