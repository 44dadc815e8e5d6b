"""`qsopt optimize`: the best architecture and deployment, and how sure it is the best."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import tyro

from qsopt.api.searches import design_problem
from qsopt.cli.options import Question
from qsopt.cli.progress import telling
from qsopt.cli.quantities import Large, OptionalCount, OptionalDollars, OptionalLarge
from qsopt.errors import InputError
from qsopt.fitted.power import power_with
from qsopt.report.records import answer_json
from qsopt.report.records.request_search import optimize_requests_record
from qsopt.report.records.search import UNITS, optimize_record
from qsopt.report.search_text import show_request_solution, show_solution, sizes_text
from qsopt.search.budgets import Budgets
from qsopt.search.optimize import STARTS, Found, optimize
from qsopt.search.problem import DEFAULT_VARY, DesignProblem, Objective
from qsopt.search.request_answer import optimize_requests
from qsopt.search.solution import Answer
from qsopt.search.variables import DEPLOYMENT

Reference = Annotated[str, tyro.conf.arg(name="like")]


@dataclass(frozen=True)
class Optimize(Question):
    """The best legal design near a reference model: experts, top-k, widths, parallel sizes and
    batch.

    By gradient from many starts on the relaxed model, rounded to legal neighbours, scored and
    improved exactly, and certified by enumeration where the grid is small enough. With a prompt and
    an answer each architecture is scored in its exact best way of serving requests, from neighbour
    to neighbour. A design is as good as the reference by the quality law.
    """

    takes_requests: ClassVar[bool] = True

    model: Reference
    """Reference: what does not vary is its own."""
    vary: str = ",".join(DEFAULT_VARY)
    """What is free, with commas: experts, top_k, expert_width, shared_experts, hidden, layers,
    kv_heads, tp, dp, pp, ep, etp, batch.
    """
    objective: Objective = "throughput"
    """throughput of the cluster, tokens/s per_user, cost per million tokens, or of a decode step
    advantage: log of throughput of the MoE over its dense twin in the twin's own best deployment;
    of requests also ttft, the time to first token, and energy, the joules per output token.
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
    """Starts of the gradient search; on requests, architectures that the search begins at."""
    seed: int = 0
    """Of the starts."""
    certify: OptionalLarge = None
    """Designs that may be enumerated to certify the answer; 0 for none; 1e7 if left out, or of
    requests 1e6 candidates of ways of serving.
    """

    def run(self) -> None:
        """Search and print."""
        problem = self._problem()
        inquiry = self.inquiry(problem.reference, problem.service)
        numbers = self.seed, self.starts, self.certify
        if problem.on_requests:
            found = optimize_requests(problem, *numbers)
            record, show = optimize_requests_record(found, inquiry, problem), show_request_solution
        else:
            found = optimize(problem, *numbers, found=_saying(problem))
            record, show = optimize_record(found, inquiry, problem), show_solution
        if self.json:
            print(answer_json(record))
        else:
            show(record, found.seconds)

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
            power=power_with(self.efficiency).law,
        )

    def _budgets(self) -> Budgets:
        dollars = self.max_price_per_hour
        return Budgets(
            self.max_devices, math.inf if dollars is None else dollars, self.max_training_flops
        )


def _saying(problem: DesignProblem) -> Found:
    """What says on stderr which design is the best, before its slopes and prices are known."""
    tell = telling()

    def say(design: Answer, value: float, designs: int) -> None:
        sizes = sizes_text(design.architecture)
        worth = f"{problem.objective} {value:,.6g} {UNITS[problem.objective]}"
        tell(f"best of all {designs:,} designs: {sizes}; {worth}; slopes and prices follow")

    return say
