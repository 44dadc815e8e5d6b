"""The problems on which searches are measured: narrow ones whose whole grid can be enumerated, and
wide ones.
"""

from dataclasses import dataclass

from qsopt import Workload, load_cluster, load_efficiency, load_model
from qsopt.comparison.dense import SAME_BODY
from qsopt.search.architecture import reference_value
from qsopt.search.problem import DEFAULT_VARY, DesignProblem, Objective, design_problem
from qsopt.search.variables import Variable
from qsopt.spec.service import Service
from qsopt.spec.workload import NO_LIMIT

MODELS = ("mixtral-8x7b", "qwen3-30b-a3b", "gpt-oss-120b", "qwen3-235b-a22b", "deepseek-v3")
CLUSTERS = ("8xh100", "16xh200", "64xmi300x", "512xb200")
CONTEXTS = (1024.0, 8192.0, 32768.0, 131072.0, 1048576.0)
LIMITS = (None, 50.0)

WIDE_VARY = ("shared_experts", "hidden", "layers", "kv_heads", *DEFAULT_VARY)
"""Twelve variables beside the experts' way of communication."""


@dataclass(frozen=True)
class Task:
    """A problem by what makes it."""

    model: str
    cluster: str
    context: float
    tpot_ms: float | None
    objective: Objective
    wide: bool = False

    @property
    def name(self) -> str:
        """In words."""
        limit = "" if self.tpot_ms is None else f", {self.tpot_ms:g} ms"
        return f"{self.model}, {self.cluster}, {self.context / 1024:g}k{limit}, {self.objective}"

    def problem(self) -> DesignProblem:
        """The question; a narrow one on a grid that can be enumerated."""
        reference = load_model(self.model)
        limit = NO_LIMIT if self.tpot_ms is None else self.tpot_ms / 1e3
        workload = Workload(context=self.context, tpot_limit=limit)
        service = Service(load_cluster(self.cluster), workload, load_efficiency("fitted"))
        how = {"objective": self.objective, "kind": SAME_BODY, "law_raw": True}
        if self.wide:
            return design_problem(reference, service, WIDE_VARY, **how)
        return design_problem(reference, service, bounds=self._bounds(), **how)

    def _bounds(self) -> dict[str, Variable]:
        """Fewer legal values than usual where the cluster is large, or every design needs the
        optimum of its twin.
        """
        experts, top_k, width = (
            reference_value(load_model(self.model), name)
            for name in ("experts", "top_k", "expert_width")
        )
        advantage, bounds = self.objective == "advantage", {}
        if self.cluster.startswith("512") or advantage:
            bounds["experts"] = Variable(
                "experts", max(1.0, experts / 4), 4 * experts, "power_of_two"
            )
            bounds["top_k"] = Variable("top_k", 1.0, 4 * top_k, "power_of_two")
        if advantage:
            bounds["expert_width"] = Variable("expert_width", width / 4, 4 * width, step=width / 4)
        return bounds


def narrow_tasks() -> list[Task]:
    """Five families on four kinds of cluster, each with both objectives; contexts and limits take
    turns.
    """
    found = []
    for index, (model, cluster) in enumerate(
        (model, cluster) for model in MODELS for cluster in CLUSTERS
    ):
        for turn, objective in enumerate(("throughput", "advantage")):
            context = CONTEXTS[(index + 2 * turn + index // 4) % len(CONTEXTS)]
            found.append(
                Task(model, cluster, context, LIMITS[(index + turn + index // 4) % 2], objective)
            )
    return found


def wide_tasks() -> list[Task]:
    """Twelve free variables and more: models with grouped attention and shared experts, so that
    everything can move.
    """
    return [
        Task("ernie-4.5-21b-a3b", "8xh100", 8192.0, None, "throughput", wide=True),
        Task("glm-4.5-air", "16xh200", 8192.0, None, "throughput", wide=True),
        Task("glm-4.5-air", "8xmi300x", 131072.0, 50.0, "throughput", wide=True),
        Task("glm-4.5", "64xh100", 32768.0, 50.0, "throughput", wide=True),
        Task("llama-4-maverick", "64xmi300x", 131072.0, None, "throughput", wide=True),
        Task("glm-4.5", "128xb200", 32768.0, None, "throughput", wide=True),
    ]
