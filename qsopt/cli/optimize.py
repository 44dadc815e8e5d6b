"""`qsopt optimize`: the best architecture and deployment, and how sure it is the best."""

import math
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import tyro

from qsopt.cli.options import Question
from qsopt.errors import InputError
from qsopt.quality import law
from qsopt.quality.of_model import UNKNOWN_TOKENS
from qsopt.report.records import design_record, to_json
from qsopt.report.text import console, layout_text, show_rows, si
from qsopt.search.optimize import ENUMERATED, STARTS, optimize
from qsopt.search.problem import DEFAULT_VARY, UNITS, DesignProblem, Objective, design_problem
from qsopt.search.solution import Solution

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
        record = self._record(problem, found)
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
        chosen, tokens = law(self.law_used), self.training_tokens
        if chosen.uses_tokens and tokens is None:
            raise InputError(
                f"law '{chosen.name}' needs the training tokens of the model: give tokens, such "
                f"as 14.8e12"
            )
        return design_problem(
            model,
            service,
            [name.strip().replace("-", "_") for name in self.vary.split(",") if name.strip()],
            {name: value for name, value in sizes.items() if value is not None},
            objective=self.objective,
            minimize=self.minimize,
            law=chosen,
            tokens=UNKNOWN_TOKENS if tokens is None else tokens,
            keep_quality=not self.any_quality,
            most_total=self.max_total,
            most_active=self.max_active,
        )

    def _record(self, problem: DesignProblem, found: Solution) -> dict[str, Any]:
        return {
            "like": self.model,
            "cluster": self.cluster,
            "context": self.context,
            "vary": [each.name for each in problem.variables if each.free],
            "law": problem.law.name,
            "efficiency": self.efficiency,
            "best": self._best(problem, found),
            "objective": self.objective,
            "minimize": self.minimize,
            "value": found.value,
            "unit": UNITS[self.objective],
            "relaxed_value": found.relaxed_value,
            "all_real_value": found.all_real_value,
            "certificate": None if found.certificate is None else asdict(found.certificate),
            "shadow_prices": [asdict(price) for price in found.shadow_prices],
            "multipliers": found.multipliers,
            **_slopes(found),
            "conflicts": [asdict(conflict) for conflict in found.conflicts],
            "starts": found.starts,
            "evaluations": found.evaluations,
            "seconds": found.seconds,
        }

    def _best(self, problem: DesignProblem, found: Solution) -> dict[str, Any] | None:
        if found.best is None:
            return None
        best, service = found.best, problem.service
        record = design_record(best.model, service, best.deployment, best.metrics, self.efficiency)
        return {**record, "architecture": best.architecture}


def _slopes(found: Solution) -> dict[str, Any]:
    """Elasticities at the largest batch of the best layout, or at the design itself where there is
    none.
    """
    slopes = found.sensitivity
    if slopes is None:
        return {"elasticities": {}, "elasticities_at": None}
    if slopes.relaxed is not None:
        return {"elasticities": slopes.relaxed.elasticity, "elasticities_at": "largest batch"}
    return {"elasticities": slopes.fixed.elasticity, "elasticities_at": "design"}


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
