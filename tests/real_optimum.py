"""The relaxed model with exact maxima, and its throughput at the real batch that fills a limit."""

import numpy as np
from scipy.optimize import root_scalar

from qsopt.physics.evaluate import Metrics, compiled_metrics
from qsopt.search.polish import SHARP
from qsopt.slopes.inputs import Design
from qsopt.slopes.sensitivity import at_batch


def relaxed(moved: Design, batch: float | None = None) -> Metrics:
    """The relaxed model, at the design's own batch or at another."""
    at = moved if batch is None else at_batch(moved, batch)
    return compiled_metrics(at.model, at.service, at.deployment, softness=SHARP)


def relaxed_throughput(moved: Design) -> float:
    """At the real batch that fills the first limit to bind."""
    most = float(relaxed(moved).memory.largest_batch) * float(moved.deployment.batch)
    limit = float(moved.service.workload.tpot_limit)

    def excess(log_batch: float) -> float:
        return np.log(float(relaxed(moved, np.exp(log_batch)).tpot) / limit)

    if excess(np.log(most)) > 0.0:
        bracket = np.log(most) - 40.0, np.log(most)
        most = float(np.exp(root_scalar(excess, bracket=bracket, xtol=1e-13, rtol=1e-13).root))
    return float(relaxed(moved, most).throughput)
