"""What a search answers: the records of a solution, and objectives in their own units."""

from dataclasses import dataclass

import numpy as np

from qsopt.physics.evaluate import Metrics
from qsopt.record import Result
from qsopt.search.certificate import Certificate
from qsopt.search.conflicts import Conflict
from qsopt.search.problem import DesignProblem
from qsopt.sensitivity.slopes import Sensitivity, ShadowPrice
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.units import SECONDS_PER_HOUR


@dataclass(frozen=True)
class Answer:
    """A legal design that keeps every constraint."""

    model: Model
    deployment: Deployment
    metrics: Metrics
    architecture: dict[str, float]
    """Values of the free architecture variables."""


@dataclass(frozen=True, repr=False)
class Solution(Result):
    """What `optimize` found."""

    best: Answer | None
    """None where no design keeps the constraints."""
    value: float
    """Of the objective at the best design; NaN without one."""
    relaxed_value: float
    """Of the objective where architecture and batch may be real and the layout is legal: the best
    of the layouts looked at.

    For the worst case of the advantage everything is real. NaN without an answer."""
    all_real_value: float
    """Of the objective where parallel sizes may be real too; NaN if no start kept the constraints.
    """
    certificate: Certificate | None
    """None if none was asked for, or there is no answer."""
    sensitivity: Sensitivity | None
    """Slopes at the best design, its architecture as it is."""
    shadow_prices: tuple[ShadowPrice, ...]
    """Of the constraints at the relaxed optimum in the best design's layout (see `prices`)."""
    multipliers: dict[str, float]
    """Of every constraint in log form there: d log objective / d log limit."""
    conflicts: tuple[Conflict, ...]
    """Why there is no answer; empty where there is one."""
    starts: int
    evaluations: int
    """Exact designs scored by the search, and relaxed ones; the certificate's not counted."""
    seconds: dict[str, float]
    """compile (an upper bound), search (all but the certificate, compilation included), certify."""


def value_of(problem: DesignProblem, merit: float) -> float:
    """The objective in its own unit, from the log that is maximised."""
    if problem.objective == "advantage":
        return -merit if problem.minimize else merit
    reached = float(np.exp(merit))
    if problem.objective != "cost":
        return reached
    cluster = problem.service.cluster
    price = float(cluster.accelerator.price_per_hour) * float(cluster.devices) / SECONDS_PER_HOUR
    return price / reached * 1e6 if reached > 0 else float("nan")
