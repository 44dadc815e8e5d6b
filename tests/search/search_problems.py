"""A small problem that these tests share."""

from qsopt import Workload, load_cluster, load_efficiency, load_model
from qsopt.comparison.dense import SAME_BODY
from qsopt.search.problem import DesignProblem, design_problem
from qsopt.search.variables import Variable
from qsopt.spec.service import Service

MODEL = "mixtral-8x7b"

BOUNDS = {
    "experts": Variable("experts", 4, 16, "power_of_two"),
    "top_k": Variable("top_k", 1, 3),
    "expert_width": Variable("expert_width", 4096, 40960, step=4096),
}


def problem(
    cluster: str = "4xh100", context: float = 8192.0, tpot: float = 1e15, **options
) -> DesignProblem:
    service = Service(
        load_cluster(cluster), Workload(context=context, tpot_limit=tpot), load_efficiency("fitted")
    )
    usual = {"bounds": BOUNDS, "kind": SAME_BODY, "law_raw": True}
    return design_problem(load_model(MODEL), service, **{**usual, **options})
