"""A fitted probability that dense wins, and how good a criterion of who wins is: what the
experiment on q s < 1 judges by.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from scipy.stats import rankdata

RIDGE = 1e-3
"""Weight of the squared coefficients beside the mean log loss, for standardised terms."""

# ---- a fitted probability ------------------------------------------------------------------------


@dataclass(frozen=True)
class Logistic:
    """The probability that dense wins, from terms; fitted by penalised maximum likelihood."""

    centre: Float[np.ndarray, " terms"]
    scale: Float[np.ndarray, " terms"]
    weights: Float[np.ndarray, " terms_and_one"]

    def probability(self, terms: Float[np.ndarray, "points terms"]) -> Float[np.ndarray, " points"]:
        """That dense wins at each point."""
        return 1.0 / (1.0 + np.exp(-(_with_one((terms - self.centre) / self.scale) @ self.weights)))


def fit(
    terms: Float[np.ndarray, "points terms"], dense_wins: Bool[np.ndarray, " points"]
) -> Logistic:
    """The logistic criterion of some points."""
    centre, scale = terms.mean(axis=0), terms.std(axis=0) + 1e-12
    columns, sign = _with_one((terms - centre) / scale), np.where(dense_wins, 1.0, -1.0)

    def loss(
        weights: Float[np.ndarray, " terms_and_one"],
    ) -> tuple[float, Float[np.ndarray, " terms_and_one"]]:
        margin = sign * (columns @ weights)
        slope = -sign / (1.0 + np.exp(np.clip(margin, -500.0, 500.0)))
        kept = np.append(weights[:-1], 0.0)
        value = np.mean(np.logaddexp(0.0, -margin)) + RIDGE * kept @ kept
        return float(value), columns.T @ slope / len(sign) + 2.0 * RIDGE * kept

    return Logistic(
        centre, scale, minimize(loss, np.zeros(columns.shape[1]), jac=True, method="L-BFGS-B").x
    )


def _with_one(
    terms: Float[np.ndarray, "points terms"],
) -> Float[np.ndarray, "points terms_and_one"]:
    return np.hstack([terms, np.ones((len(terms), 1))])


# ---- how good a criterion is ---------------------------------------------------------------------


def accuracy(
    says_dense: Bool[np.ndarray, " points"], dense_wins: Bool[np.ndarray, " points"]
) -> float:
    """Share of the points called right."""
    return float(np.mean(says_dense == dense_wins))


def balanced_accuracy(
    says_dense: Bool[np.ndarray, " points"], dense_wins: Bool[np.ndarray, " points"]
) -> float:
    """Mean of the shares called right among the points that dense wins and those that the MoE wins;
    0.5 tells nothing.
    """
    sides = [
        np.mean(says_dense[dense_wins == side] == side)
        for side in (True, False)
        if np.any(dense_wins == side)
    ]
    return float(np.mean(sides))


def area(score: Float[np.ndarray, " points"], dense_wins: Bool[np.ndarray, " points"]) -> float:
    """Area under the ROC curve: the probability that a point dense wins scores above one it loses;
    NaN with one class.
    """
    wins, losses = int(np.sum(dense_wins)), int(np.sum(~dense_wins))
    if not wins or not losses:
        return float("nan")
    return float((rankdata(score)[dense_wins].sum() - wins * (wins + 1) / 2.0) / (wins * losses))


def best_threshold(
    score: Float[np.ndarray, " points"], dense_wins: Bool[np.ndarray, " points"]
) -> tuple[float, float]:
    """The score above which saying dense is right most often, and how often that is, on the same
    points.
    """
    values = np.quantile(score, np.linspace(0.0, 1.0, 201))
    rates = [accuracy(score > value, dense_wins) for value in values]
    place = int(np.argmax(rates))
    return float(values[place]), rates[place]


def reliability(
    probability: Float[np.ndarray, " points"],
    dense_wins: Bool[np.ndarray, " points"],
    bins: int = 10,
) -> list[tuple[float, float, int]]:
    """Mean probability, share that dense won and number of the points in each bin of probability
    that has any.
    """
    place = np.minimum((probability * bins).astype(int), bins - 1)
    groups = [place == number for number in range(bins)]
    return [
        (float(probability[g].mean()), float(dense_wins[g].mean()), int(g.sum()))
        for g in groups
        if g.any()
    ]
