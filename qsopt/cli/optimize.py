"""`qsopt optimize`: the best architecture and deployment, and how sure it is the best."""

import math
from dataclasses import dataclass
from typing import Annotated

import tyro

from qsopt.api.searches import design_problem
from qsopt.cli.options import Question
from qsopt.cli.quantities import Large, OptionalCount, OptionalDollars
from qsopt.errors import InputError
from qsopt.report.records import answer_json
from qsopt.report.records.search import optimize_record
from qsopt.report.search_text import show_solution
from qsopt.search.budgets import Budgets
from qsopt.search.optimize import ENUMERATED, STARTS, optimize
from qsopt.search.problem import DEFAULT_VARY, DesignProblem, Objective
from qsopt.search.variables import DEPLOYMENT

Reference = Annotated[str, tyro.conf.arg(name="like")]


@dataclass(frozen=True)
class Optimize(Question):
    """The best legal design near a reference model: experts, top-k, widths, parallel sizes and
    batch.

    By gradient from many starts on the relaxed model, rounded to legal neighbours, scored and
    improved exactly, and certified by enumeration where the grid is small enough. A design is as
    good as the reference by the quality law.
    """

    model: Reference
    """Reference: what does not vary is its own."""
    vary: str = ",".join(DEFAULT_VARY)
    """What is free, with commas: experts, top_k, expert_width, shared_experts, hidden, layers,
    kv_heads, tp, dp, pp, ep, etp, batch.
    """
    objective: Objective = "throughput"
    """throughput of the cluster, tokens/s per_user, cost per million tokens, or advantage: log of
    throughput of the MoE over its dense twin in the twin's own best deployment.
    """
    minimize: bool = False
    """The worst case for MoE instead of the best, with the advantage."""
    any_quality: bool = False
    """Let designs be worse than the reference by the law."""
    max_total: Large = math.inf
    """Ceiling on all parameters, such as 70B."""
    max_active: Large = math.inf
    """Ceiling on the parameters of a token."""
    max_devices: Large = math.inf
    """Budget: devices of the cluster that may be used."""
    max_price_per_hour: OptionalDollars = None
    """Budget: rental of the devices that are used [US dollar/hour]."""
    max_training_flops: Large = math.inf
    """Budget: operations of training, attention counted, such as 1e25 [FLOP]."""
    tp: OptionalCount = None
    """Tensor parallel size where it does not vary; 1 if left out, as the sizes below."""
    dp: OptionalCount = None
    """Attention data parallel size."""
    pp: OptionalCount = None
    """Pipeline stages."""
    ep: OptionalCount = None
    """Expert parallel size."""
    batch: OptionalCount = None
    """Sequences decoding at once in one replica."""
    starts: int = STARTS
    """Starts of the gradient search."""
    seed: int = 0
    """Of the starts."""
    certify: Large = ENUMERATED
    """Designs that may be enumerated to certify the answer; 0 for none."""

    def run(self) -> None:
        """Search and print."""
        problem = self._problem()
        found = optimize(problem, self.seed, self.starts, self.certify)
        inquiry = self.inquiry(problem.reference, problem.service)
        record = optimize_record(found, inquiry, problem)
        if self.json:
            print(answer_json(record))
        else:
            show_solution(record, found.seconds)

    def _problem(self) -> DesignProblem:
        if self.q is not None:
            raise InputError(
                "q = given: a search compares architectures, so it needs a law; leave q out and "
                "choose --law"
            )
        if self.dense is not None:
            raise InputError(
                "dense = given: over one dense model the best design is that of the largest "
                "throughput; leave --dense out and take --objective throughput"
            )
        names = [name.strip().replace("-", "_") for name in self.vary.split(",") if name.strip()]
        if not names:
            raise InputError(f"vary = '{self.vary}': name something, such as experts,tp,batch")
        model, service = self.load()
        fixed = {name: getattr(self, name) for name in DEPLOYMENT}
        inquiry = self.inquiry(model, service)
        return design_problem(
            model,
            service,
            vary=names,
            fixed={name: value for name, value in fixed.items() if value is not None},
            objective=self.objective,
            minimize=self.minimize,
            law=inquiry.quality_law,
            tokens=inquiry.training_tokens,
            keep_quality=not self.any_quality,
            most_total=self.max_total,
            most_active=self.max_active,
            twin=self.twin,
            twin_attention=self.twin_attention,
            law_raw=self.law_raw,
            budgets=self._budgets(),
        )

    def _budgets(self) -> Budgets:
        dollars = self.max_price_per_hour
        return Budgets(
            self.max_devices, math.inf if dollars is None else dollars, self.max_training_flops
        )
