"""The records of a search's answer, and objectives in their own units."""

from dataclasses import dataclass, field

import numpy as np

from qsopt.physics.evaluate import Metrics
from qsopt.record import Result
from qsopt.search.budgets import BudgetPrice
from qsopt.search.certificate import Certificate
from qsopt.search.conflicts import Conflict
from qsopt.search.problem import DesignProblem
from qsopt.slopes.first_order import ShadowPrice
from qsopt.slopes.sensitivity import Sensitivity
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.units import SECONDS_PER_HOUR

MILLION = 1e6
"""Tokens that a cost is stated for."""


LESS_IS_BETTER = ("cost", "ttft", "energy")
"""Objectives that are made as small as possible."""


@dataclass(frozen=True)
class Answer:
    """A legal design that keeps every constraint."""

    model: Model = field(repr=False)
    """The architecture."""
    deployment: Deployment
    """Its parallel sizes, batch and way."""
    metrics: Metrics = field(repr=False)
    """What it reaches."""
    architecture: dict[str, float]
    """Values of the free architecture variables."""


@dataclass(frozen=True, repr=False)
class Solution(Result):
    """The answer of `optimize`, and what is known about it."""

    best: Answer | None
    """None where no design keeps the constraints."""
    value: float
    """The objective at the best design; NaN without one."""
    relaxed_value: float
    """The objective where architecture and batch may be real and the layout is legal: the best of
    the layouts looked at.

    For the worst case of the advantage everything is real. NaN without an answer."""
    all_real_value: float
    """The objective where parallel sizes may be real too; NaN if no start kept the constraints."""
    certificate: Certificate | None
    """None if none was asked for, or there is no answer."""
    sensitivity: Sensitivity | None = field(repr=False)
    """Slopes at the best design, its architecture as it is."""
    shadow_prices: tuple[ShadowPrice, ...]
    """Of the constraints at the relaxed optimum in the best design's layout (see `prices`)."""
    multipliers: dict[str, float]
    """Of every constraint in log form there: d log objective / d log limit [-]."""
    budgets: tuple[BudgetPrice, ...]
    """What the answer takes of each budget, and what one more unit is worth."""
    conflicts: tuple[Conflict, ...]
    """Why there is no answer; empty where there is one."""
    starts: int
    """Of the relaxed search."""
    evaluations: int
    """Exact designs scored by the search, and relaxed ones; the certificate's not counted."""
    seconds: dict[str, float]
    """Wall time by part [s]: compile (an upper bound), search (all but the certificate, compilation
    included), certify.
    """


def objective_value(problem: DesignProblem, merit: float) -> float:
    """The objective in its own unit, from the merit of a design (see `evaluator.Designs`)."""
    if problem.objective == "advantage":
        return -merit if problem.minimize else merit
    throughput = float(np.exp(merit))
    if problem.objective in ("ttft", "energy"):
        return float(np.exp(-merit))
    if problem.objective != "cost":
        return throughput
    cluster = problem.service.cluster
    price = float(cluster.accelerator.price_per_hour) * float(cluster.devices) / SECONDS_PER_HOUR
    return price / throughput * MILLION if throughput > 0 else float("nan")
