"""`qsopt optimize`: the best architecture and deployment, and how sure it is the best."""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from qsopt.api.searches import design_problem
from qsopt.cli.options import Question
from qsopt.errors import InputError
from qsopt.report.records import to_json
from qsopt.report.records.search import optimize_record
from qsopt.report.text import console, layout_text, show_rows, si
from qsopt.search.optimize import ENUMERATED, STARTS, optimize
from qsopt.search.problem import DEFAULT_VARY, DesignProblem, Objective

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
    max_total: float = math.inf
    """Ceiling on all parameters."""
    max_active: float = math.inf
    """Ceiling on the parameters of a token."""
    tp: float | None = None
    """Tensor parallel size where it does not vary; 1 if left out, as the sizes below."""
    dp: float | None = None
    """Attention data parallel size."""
    pp: float | None = None
    """Pipeline stages."""
    ep: float | None = None
    """Expert parallel size."""
    batch: float | None = None
    """Sequences decoding at once in one replica."""
    starts: int = STARTS
    """Starts of the gradient search."""
    seed: int = 0
    """Of the starts."""
    certify: float = ENUMERATED
    """Designs that may be enumerated to certify the answer; 0 for none."""

    def run(self) -> None:
        """Search and print."""
        problem = self._problem()
        found = optimize(problem, self.seed, self.starts, self.certify)
        inquiry = self.inquiry(problem.reference, problem.service)
        record = optimize_record(found, inquiry, problem)
        if self.json:
            print(to_json(record))
        else:
            _show(record)

    def _problem(self) -> DesignProblem:
        if self.q is not None:
            raise InputError(
                "q = given: a search compares architectures, so it needs a law; leave q out and "
                "choose --law"
            )
        self.check_one_law()
        if self.starts < 1:
            raise InputError(f"starts = {self.starts}: give at least one")
        model, service = self.load()
        sizes = {"tp": self.tp, "dp": self.dp, "pp": self.pp, "ep": self.ep, "batch": self.batch}
        inquiry = self.inquiry(model, service)
        return design_problem(
            model,
            service,
            vary=[name.strip().replace("-", "_") for name in self.vary.split(",") if name.strip()],
            fixed={name: value for name, value in sizes.items() if value is not None},
            objective=self.objective,
            minimize=self.minimize,
            law=inquiry.quality_law,
            tokens=inquiry.training_tokens,
            keep_quality=not self.any_quality,
            most_total=self.max_total,
            most_active=self.max_active,
        )


def _show(record: dict[str, Any]) -> None:
    out = console()
    out.print(
        f"[bold]best design like {record['like']} on {record['cluster']}, "
        f"{record['context']:,.0f} tokens of context[/bold]"
    )
    if record["best"] is None:
        _show_conflicts(record["conflicts"])
        return
    best = record["best"]
    sizes = (
        ", ".join(f"{name} {value:g}" for name, value in best["architecture"].items())
        or "as the reference"
    )
    out.print(f"architecture: {sizes}")
    out.print(
        f"deployment: {layout_text(best['deployment'])}; efficiency set: {record['efficiency']}"
    )
    out.print(
        f"{record['objective']}: [bold]{record['value']:,.6g}[/bold] {record['unit']} (relaxed "
        f"{record['relaxed_value']:,.6g})"
    )
    out.print(
        f"{best['tokens_per_s_per_device']:,.1f} tokens/s per device, {best['tpot_s'] * 1e3:.2f} "
        f"ms per token, "
        f"{best['parameters']['total'] / 1e9:,.1f} B parameters, "
        f"{best['parameters']['active'] / 1e9:,.1f} B active"
    )
    _show_certificate(record["certificate"])
    for price in record["shadow_prices"]:
        if price["active"]:
            out.print(f"one more {price['unit']} is worth {price['multiplier']:,.3g} tokens/s")
    rows = [{"input": name, "slope": slope} for name, slope in record["elasticities"].items()]
    show_rows(
        rows, {"input": "d log throughput / d log", "slope": f"at the {record['elasticities_at']}"}
    )
    seconds = ", ".join(f"{name} {value:.2f}" for name, value in record["seconds"].items())
    out.print(
        f"{record['starts']} starts, {record['evaluations']:,} evaluations; seconds: {seconds}"
    )


def _show_certificate(certificate: dict[str, Any] | None) -> None:
    if certificate is None:
        return
    share = (
        "the whole grid"
        if certificate["complete"]
        else f"a part around the answer, of {certificate['grid']:,.3g}"
    )
    console().print(
        f"certificate: {certificate['enumerated']:,} designs enumerated ({share}); best of them "
        f"{certificate['exact_optimum']:,.6g}, gap of the search {certificate['gap']:.2%}"
    )


def _show_conflicts(conflicts: list[dict[str, Any]]) -> None:
    out = console()
    out.print("[bold]no design keeps every constraint[/bold]; the one that comes closest breaks:")
    for each in conflicts:
        alone = (
            "there are designs without it" if each["alone"] else "nor would dropping it alone help"
        )
        value, limit = (si(each[key], each["unit"]) for key in ("value", "limit"))
        out.print(f"  {each['constraint']}: {value} against a limit of {limit}; {alone}")
