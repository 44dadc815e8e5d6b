"""Closed forms that say who wins on requests, and how good they are.

Let a prompt of which a share is cached leave r tokens to read for each token that is written, at a
mean context S. In units of the arithmetic of a token of the MoE, that token costs the MoE (1 + r)
of arithmetic and S/S0 of memory traffic, S0 being the context whose cache takes as long to read as
a token's arithmetic. The dense match does q times the arithmetic, and saves the share 1 - q s of
the traffic in the limit of the paper (weights are all that is read). Dense wins where the saving is
larger than what it does more:

    q s + (q - 1)(1 + r) S0 / S < 1                      (rule)

which is q s < 1 where contexts are long and nothing is read. At the largest batch both sides read
all of the memory M in a step, and the saving is that of the closed form of sequences that fit, with
u the share of M that the MoE's weights take:

    (1 - q s) u / (1 - q s u) > (q - 1)(1 + r) S0 / S    (rule with memory)

S0 is fitted. So is the constant of the form without a context, q s + c (q - 1) r < 1.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from experiments.framework.pieces import Row

Points = Float[np.ndarray, " points"]
Form = Callable[[list[Row], float], Points]
"""From points and a constant to the log of what it compares with 1."""

TINY = 1e-6
"""Least number of which a log is taken."""


class Score(NamedTuple):
    """How good a form is on some points."""

    points: int
    base: float
    """Share of the more frequent winner: what is right without looking."""
    right: float
    """Share of points called right."""
    balanced: float
    """Mean of the shares called right of those that dense wins and those that the MoE wins."""
    auc: float
    """Probability that a point that dense wins scores above one that it loses."""


def read(row: Row) -> float:
    """Prompt tokens that are read for each token that is written."""
    return max(row["prompt"] * (1.0 - row["cached"]), 1.0) / row["answer"]


def context(row: Row) -> float:
    """Tokens that a sequence holds on average while it writes."""
    return row["prompt"] + row["answer"] / 2.0


def truth(rows: list[Row]) -> Bool[np.ndarray, " points"]:
    """Whether dense wins."""
    return np.array([row["ratio"] > 1.0 for row in rows])


def _columns(rows: list[Row]) -> tuple[Points, Points, Points, Points]:
    """q, q s, r and S."""
    found = [(row["q"], row["q"] * row["s"], read(row), context(row)) for row in rows]
    q, qs, r, length = np.array(found).T
    return q, qs, r, length


def _qs(rows: list[Row], _constant: float) -> Points:
    _, qs, _, _ = _columns(rows)
    return -np.log(qs)


def _ratio(rows: list[Row], constant: float) -> Points:
    q, qs, r, _ = _columns(rows)
    return -np.log(np.maximum(qs + constant * (q - 1.0) * r, TINY))


def _rule(rows: list[Row], constant: float) -> Points:
    q, qs, r, length = _columns(rows)
    return -np.log(np.maximum(qs + (q - 1.0) * (1.0 + r) * constant / length, TINY))


def _memory(rows: list[Row], constant: float) -> Points:
    q, qs, r, length = _columns(rows)
    share = np.array([row["weights_over_memory"] for row in rows])
    saved = (1.0 - qs) * share / np.maximum(1.0 - qs * share, TINY)
    more = (q - 1.0) * (1.0 + r) * constant / length
    return np.log(np.maximum(saved, TINY)) - np.log(np.maximum(more, TINY))


def _of(name: str) -> Form:
    def form(rows: list[Row], _constant: float) -> Points:
        values = [row[name] for row in rows]
        return np.log([np.inf if value is None else max(value, TINY) for value in values])

    return form


FORMS: dict[str, Form] = {
    "q s": _qs,
    "q s and r": _ratio,
    "rule": _rule,
    "rule with memory": _memory,
    "merged roofline": _of("merged"),
    "merged roofline with prompts": _of("merged_requests"),
}
"""Each speaks for dense above 0."""

FITTED = ("q s and r", "rule", "rule with memory")
"""Forms with a constant: c, and S0 of the others [tokens]."""


def score(values: Points, wins: Bool[np.ndarray, " points"]) -> Score:
    """Of a form's values on points whose winner is known."""
    if not len(wins):
        return Score(0, *(float("nan"),) * 4)
    says = values > 0.0
    share = float(np.mean(wins))
    return Score(
        len(wins),
        max(share, 1.0 - share),
        accuracy(says, wins),
        balanced_accuracy(says, wins),
        area(np.nan_to_num(values, posinf=1e9), wins),
    )


# ---- how good a criterion is ---------------------------------------------------------------------


def accuracy(says: Bool[np.ndarray, " points"], wins: Bool[np.ndarray, " points"]) -> float:
    """Share of the points called right."""
    return float(np.mean(says == wins))


def balanced_accuracy(
    says: Bool[np.ndarray, " points"], wins: Bool[np.ndarray, " points"]
) -> float:
    """Mean of the shares called right among the points that dense wins and those that the MoE wins;
    0.5 tells nothing.
    """
    sides = [np.mean(says[wins == side] == side) for side in (True, False) if np.any(wins == side)]
    return float(np.mean(sides))


def area(values: Points, wins: Bool[np.ndarray, " points"]) -> float:
    """Area under the ROC curve: the probability that a point that dense wins scores above one that
    it loses; NaN with one class.
    """
    won, lost = int(np.sum(wins)), int(np.sum(~wins))
    if not won or not lost:
        return float("nan")
    return float((rankdata(values)[wins].sum() - won * (won + 1) / 2.0) / (won * lost))
