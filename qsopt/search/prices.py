"""Shadow prices of a search's constraints: what one more unit of each limit brings when the design
is chosen anew.

At the relaxed optimum in the best design's layout, architecture and batch move with the limit, and
the multiplier l of a constraint g <= 0 says how the optimum answers: d log wanted / d log limit =
l. What enters several formulas at once, such as the bandwidth, brings d log wanted - sum_i l_i d
g_i (the envelope theorem).
"""

import numpy as np

from qsopt.search.admission import Admission
from qsopt.search.architecture import reference_value, with_architecture
from qsopt.search.polish import Polished
from qsopt.search.problem import DesignProblem, deployment_of
from qsopt.sensitivity.inputs import Design
from qsopt.sensitivity.slopes import MEMORY, TPOT, ShadowPrice, throughput_slope
from qsopt.spec.workload import NO_LIMIT
from qsopt.units import GB, MILLISECOND

BILLION = 1e9


def shadow_prices(
    problem: DesignProblem, admission: Admission, optimum: Polished
) -> tuple[ShadowPrice, ...]:
    """Prices in tokens/s (of a user where that is wanted, else of the cluster) over units that
    people count in.
    """
    design, reached = _design(problem, optimum), float(np.exp(optimum.wanted))
    limits = {
        MEMORY: (
            float(design.service.cluster.accelerator.memory_bytes) / GB,
            "GB of device memory",
        ),
        TPOT: (float(design.service.workload.tpot_limit) / MILLISECOND, "ms of time per token"),
        "quality": (-reference_q(problem, admission), "unit of q of the reference"),
        "total_parameters": (problem.most_total / BILLION, "billion parameters allowed"),
        "active_parameters": (problem.most_active / BILLION, "billion active parameters allowed"),
    }
    asked = {
        TPOT: float(design.service.workload.tpot_limit) < NO_LIMIT,
        "quality": problem.keep_quality and bool(problem.architecture),
        "total_parameters": np.isfinite(problem.most_total),
        "active_parameters": np.isfinite(problem.most_active),
    }
    prices = [
        ShadowPrice(
            name,
            optimum.multipliers[name] * reached / limit + 0.0,
            unit,
            optimum.multipliers[name] > 0,
        )
        for name, (limit, unit) in limits.items()
        if asked.get(name, True)
    ]
    return (*prices, _bandwidth_price(design, optimum, reached))


def _design(problem: DesignProblem, optimum: Polished) -> Design:
    """The relaxed optimum as a design."""
    values = {name: np.asarray(value) for name, value in optimum.values.items()}
    model = with_architecture(
        problem.reference, {each.name: values[each.name] for each in problem.architecture}
    )  # pyright: ignore[reportArgumentType]
    deployment = deployment_of(values, np.asarray(optimum.dispatched))
    service = problem.service
    return Design(model, service, deployment)


def reference_q(problem: DesignProblem, admission: Admission) -> float:
    """q of the reference: the size of the dense model as good as it, over its active parameters."""
    row = np.array(
        [[reference_value(problem.reference, each.name) for each in problem.architecture]]
    )
    return admission.reference_size / float(admission.sizes(row)[0, 3])


def _bandwidth_price(design: Design, optimum: Polished, reached: float) -> ShadowPrice:
    """At a fixed batch log throughput is the negative of log time per token, so one slope serves
    both.
    """
    slope = throughput_slope(design, "bandwidth") * (1.0 + optimum.multipliers[TPOT])
    bandwidth = float(design.service.cluster.accelerator.bandwidth) / GB
    return ShadowPrice("bandwidth", slope * reached / bandwidth, "GB/s of memory bandwidth", True)
