"""How good every criterion of who wins is on the scenarios of the predictor: overall, by regime and
by where q comes from.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.framework.pieces import Row
from experiments.paper import criterion
from qsopt.quality import BAND

FOLDS = 5
"""Groups of models that are left out in turn."""

REGIMES = (
    "a side does not fit",
    "communication",
    "latency",
    "few experts hit",
    "compute-bound",
    "cache dominates",
    "weights dominate",
)
"""What decides the MoE's step at its optimum; the first that applies."""

TERMS = ("qs", "bytes", "roofline", "hit", "cache", "weights", "compute", "domains")
"""Terms of the fitted criterion, each as a logarithm."""

FLOOR = 1e-4
"""Shares are kept above this before their logarithm is taken, and ratios within its inverse."""


@dataclass(frozen=True)
class Points:
    """Rows as columns."""

    rows: list[Row]

    @property
    def dense_wins(self) -> np.ndarray:
        """Truth."""
        return np.array([row["verdict"] in ("dense wins", "moe infeasible") for row in self.rows])

    def column(self, name: str) -> np.ndarray:
        """A column of numbers or texts."""
        return np.array([row[name] for row in self.rows])

    @property
    def terms(self) -> np.ndarray:
        """Logarithms of the fitted criterion's terms."""
        return np.log(np.maximum(np.stack([self.column(name) for name in TERMS], axis=1), FLOOR))


def held_out_probability(points: Points, group: np.ndarray) -> np.ndarray:
    """Probability that dense wins at each point, from a fit without the points of its group."""
    terms, truth, probability = points.terms, points.dense_wins, np.empty(len(points.rows))
    for name in np.unique(group):
        out = group == name
        probability[out] = criterion.fit(terms[~out], truth[~out]).probability(terms[out])
    return probability


def predictions(points: Points) -> dict[str, np.ndarray]:
    """What each criterion says at each point: the logarithm of odds for dense, so that it says
    dense above 0.
    """
    models = points.column("model")
    names = np.unique(models)
    fold = np.random.default_rng(0).permutation(len(names)) % FOLDS
    of_model = fold[np.searchsorted(names, models)]
    probability = {
        "fitted, unseen models": held_out_probability(points, of_model),
        "fitted, unseen accelerators": held_out_probability(points, points.column("accelerator")),
    }
    return {
        "q s < 1": -np.log(points.column("qs")),
        "bytes per token": np.log(points.column("bytes")),
        "merged roofline": np.log(points.column("roofline")),
        **{name: np.log(p / (1.0 - p)) for name, p in probability.items()},
    }


def scores(points: Points, logits: dict[str, np.ndarray], part: np.ndarray) -> dict[str, Any]:
    """How good every criterion is on a part of the points."""
    truth = points.dense_wins[part]
    if not len(truth):
        return {"points": 0}
    rates = {
        name: {
            "accuracy": criterion.accuracy(logit[part] > 0, truth),
            "balanced_accuracy": criterion.balanced_accuracy(logit[part] > 0, truth),
            "area": criterion.area(logit[part], truth),
            "says_dense_wrongly": float(np.mean((logit[part] > 0) & ~truth)),
            "says_moe_wrongly": float(np.mean((logit[part] <= 0) & truth)),
        }
        for name, logit in logits.items()
    }
    return {"points": len(truth), "dense_wins": float(truth.mean()), "criteria": rates}


def all_scores(rows: list[Row], efficiency: str) -> dict[str, Any]:
    """All scores for one efficiency set: overall, where both sides fit, by regime and by where q
    comes from.
    """
    points = Points([row for row in rows if row["efficiency"] == efficiency])
    logits = predictions(points)
    regimes, laws = points.column("regime"), points.column("law")
    probability = 1.0 / (1.0 + np.exp(-logits["fitted, unseen models"]))
    whole = criterion.fit(points.terms, points.dense_wins)
    free = laws == "free"
    level, right = criterion.best_threshold(logits["q s < 1"][free], points.dense_wins[free])
    return {
        "all": scores(points, logits, np.full(len(regimes), True)),
        "free q": scores(points, logits, free),
        "best_qs": {"level": float(np.exp(-level)), "accuracy": right},
        "both fit, free q": scores(points, logits, (regimes != REGIMES[0]) & free),
        "regimes": {name: scores(points, logits, (regimes == name) & free) for name in REGIMES},
        "laws": {name: scores(points, logits, laws == name) for name in BAND},
        "qs_below_one": {
            name: float(np.mean(points.column("qs")[laws == name] < 1)) for name in BAND
        },
        "reliability": criterion.reliability(probability, points.dense_wins),
        "weights": dict(zip((*TERMS, "constant"), whole.weights.tolist(), strict=True)),
        "scales": dict(zip(TERMS, whole.scale.tolist(), strict=True)),
    }
