"""Shadow prices of a search's constraints: what one more unit of each limit brings when the design
is chosen anew.

At the relaxed optimum in the best design's layout, architecture and batch move with the limit, and
the multiplier l of a constraint g <= 0 says how the optimum f (the log of the objective) answers: d
f / d log limit = l. What enters several formulas at once, such as the bandwidth, brings d f - sum_i
l_i d g_i (the envelope theorem).
"""

import numpy as np

from qsopt.search.admission import Admission
from qsopt.search.architecture import reference_row, with_architecture
from qsopt.search.polish import Polished
from qsopt.search.problem import DesignProblem, deployment_of
from qsopt.slopes.first_order import ShadowPrice
from qsopt.slopes.inputs import Design
from qsopt.slopes.sensitivity import MEMORY, TPOT, throughput_slope
from qsopt.spec.workload import NO_LIMIT
from qsopt.units import GB, MILLISECOND

BILLION = 1e9


def shadow_prices(
    problem: DesignProblem, admission: Admission, optimum: Polished
) -> tuple[ShadowPrice, ...]:
    """Prices in tokens/s (of a user where that is the objective, else of the cluster) over units
    that people count in.
    """
    throughput = float(np.exp(optimum.log_objective))
    limits = {
        **_service_limits(problem),
        **_model_limits(problem, admission),
    }
    prices = [
        ShadowPrice(
            name,
            optimum.multipliers[name] * throughput / limit + 0.0,
            unit,
            optimum.multipliers[name] > 0,
        )
        for name, (limit, unit) in limits.items()
    ]
    return (*prices, _bandwidth_price(_design(problem, optimum), optimum, throughput))


def _service_limits(problem: DesignProblem) -> dict[str, tuple[float, str]]:
    """Limits of the service that exist, and their units."""
    service = problem.service
    memory = float(service.cluster.accelerator.memory_bytes)
    tpot = float(service.workload.tpot_limit)
    limits = {MEMORY: (memory / GB, "GB of device memory")}
    if tpot < NO_LIMIT:
        limits[TPOT] = (tpot / MILLISECOND, "ms of time per token")
    return limits


def _model_limits(problem: DesignProblem, admission: Admission) -> dict[str, tuple[float, str]]:
    """Limits on the model that exist, and their units; more quality is a cost, so its sign is
    turned.
    """
    limits = {}
    if problem.keep_quality and problem.architecture:
        limits["quality"] = (-reference_q(problem, admission), "unit of q of the reference")
    for name, ceiling, unit in (
        ("total_parameters", problem.most_total, "billion parameters allowed"),
        ("active_parameters", problem.most_active, "billion active parameters allowed"),
    ):
        if np.isfinite(ceiling):
            limits[name] = (ceiling / BILLION, unit)
    return limits


def _design(problem: DesignProblem, optimum: Polished) -> Design:
    """The relaxed optimum as a design."""
    values = {name: np.asarray(value) for name, value in optimum.values.items()}
    free = {variable.name: values[variable.name] for variable in problem.architecture}
    return Design(
        with_architecture(problem.reference, free),  # pyright: ignore[reportArgumentType]
        problem.service,
        deployment_of(values, optimum.layout),
    )


def reference_q(problem: DesignProblem, admission: Admission) -> float:
    """q of the reference: the size of the dense model as good as it, over its active parameters."""
    row = reference_row(problem.reference, problem.architecture)
    return admission.reference_size / float(admission.sizes(row).active[0])


def _bandwidth_price(design: Design, optimum: Polished, throughput: float) -> ShadowPrice:
    """At a fixed batch log throughput is the negative of log time per token, so one slope serves
    both the objective and the TPOT constraint.
    """
    slope = throughput_slope(design, "bandwidth") * (1.0 + optimum.multipliers[TPOT])
    bandwidth = float(design.service.cluster.accelerator.bandwidth) / GB
    return ShadowPrice(
        "bandwidth", slope * throughput / bandwidth, "GB/s of memory bandwidth", True
    )
