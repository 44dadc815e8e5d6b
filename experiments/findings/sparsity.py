"""How sparse should an MoE be that is served, at fixed quality?

`python -m experiments.findings.sparsity` changes the experts of a model and the experts per token
together so that the dense model of its quality stays the same by a law, serves every variant in its
own best way, and finds the sparsity s = active / total parameters at which most tokens/s are
served, for several kinds of requests; beside the s of released models. Intervals of a gain take
the errors of servers to go together between two variants as between measured pairs of an MoE and a
dense model, without a lean.
"""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import brentq

import qsopt
from experiments.findings import sides
from experiments.findings.sides import Reached, served
from experiments.findings.sparsity_figure import draw
from experiments.framework import study
from experiments.framework.pieces import Row
from qsopt.catalog.models import model_facts
from qsopt.comparison.contenders import contender
from qsopt.comparison.twin import qs_numbers
from qsopt.fitted.spread import MIDDLE, interval
from qsopt.physics.parameters import parameter_count
from qsopt.quality import QualityLaw, law
from qsopt.quality.of_model import UNKNOWN_TOKENS
from qsopt.report.inquiry import Inquiry
from qsopt.report.records.intervals import speed_errors
from qsopt.search.architecture import matched_sizes, with_architecture
from qsopt.serving.ways import layouts_of
from qsopt.spec.model import Model, moe_layers
from qsopt.spec.service import Service

NAME = "sparsity"


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Models and questions."""

    models: tuple[tuple[str, str], ...]
    """Models that lend their body, and clusters."""
    questions: tuple[tuple[str, float, float, float, float], ...]
    """Words, prompt, answer, cached share and limit [ms], 0 for none."""
    laws: tuple[str, ...]
    factors: tuple[float, ...]
    """On the number of experts."""
    released: tuple[str, ...]
    """Models whose own s is told."""


def along_sparsity(
    model: str, cluster: str, law_name: str, factors: list[float], question: list[Any]
) -> list[Row]:
    """What every variant of a model serves, by its sparsity."""
    words, prompt, answer, cached, limit_ms = question
    limit = {"tpot_limit": limit_ms * 1e-3} if limit_ms else {}
    workload = qsopt.Workload(prompt=prompt, answer=answer, cached=cached, **limit)
    service = Service(qsopt.load_cluster(cluster), workload, qsopt.load_efficiency("fitted"))
    moe, chosen = qsopt.load_model(model), law(law_name)
    tokens = model_facts(model).training_tokens or UNKNOWN_TOKENS
    own, rows = best_of(moe, service), []
    for factor in factors:
        variant = at_quality(moe, chosen, tokens, factor)
        if variant is None:
            continue
        changed, sizes = variant
        reached = own if factor == 1.0 else best_of(changed, service)
        where = {"model": model, "cluster": cluster, "law": law_name, "question": words}
        found = {"tokens_per_s": reached.throughput, **gain(moe, own, changed, reached, service)}
        rows.append({**where, "factor": factor, **sizes, **found})
    return rows


def best_of(model: Model, service: Service) -> Reached:
    """A model in its best way of serving."""
    return served(contender(model, model, layouts_of(model, service)), service)


def gain(moe: Model, own: Reached, changed: Model, reached: Reached, service: Service) -> Row:
    """Tokens/s of a variant over those of the model's own, with the 80 % interval."""
    if own.deployment is None or reached.deployment is None:
        return {"gain": None, "low": None, "high": None}
    ratio = reached.throughput / own.throughput
    each = [
        (Inquiry(model, service), deployment)
        for model, deployment in ((moe, own.deployment), (changed, reached.deployment))
    ]
    errors = speed_errors(*each, requests=True)
    assert errors is not None, "servers were measured with these efficiencies"
    centred = errors[1] - errors[1][MIDDLE]
    low, high = interval(ratio, centred)["80"]
    return {"gain": ratio, "low": low, "high": high}


def at_quality(
    moe: Model, chosen: QualityLaw, tokens: float, factor: float
) -> tuple[Model, Row] | None:
    """The model with so many times the experts, and as many experts per token as keep its dense
    match; None where there are none.
    """
    own = _own(moe)
    experts = own[0] * factor
    top_k = own[1] if factor == 1.0 else top_k_at_quality(moe, chosen, tokens, experts)
    if experts != round(experts) or not 1.0 <= top_k <= experts:
        return None
    sizes = {"experts": np.asarray(experts), "top_k": np.asarray(top_k)}
    s = float(np.exp(log_sizes(moe, chosen, tokens, experts, top_k)[1]))
    return with_architecture(moe, sizes), {"experts": experts, "top_k": top_k, "s": s}


def _own(moe: Model) -> tuple[float, float]:
    """Experts and experts per token."""
    routed = moe_layers(moe)
    assert routed is not None
    return float(routed.experts), float(routed.top_k)


@eqx.filter_jit
def _traced_log_sizes(
    moe: Model, chosen: QualityLaw, tokens: Array, experts: Array, top_k: Array
) -> Float[Array, " sizes"]:
    changed = with_architecture(moe, {"experts": experts, "top_k": top_k})
    count = parameter_count(changed)
    dense = matched_sizes(changed, chosen, tokens).dense
    return jnp.log(jnp.stack([dense, count.active / count.total]))


def log_sizes(
    moe: Model, chosen: QualityLaw, tokens: float, experts: float, top_k: float
) -> Float[np.ndarray, " sizes"]:
    """Logs of the dense match and of s of the model with other experts; numbers are traced, so that
    all values share one compilation.
    """
    numbers = (jnp.asarray(value, float) for value in (tokens, experts, top_k))
    return np.asarray(_traced_log_sizes(moe, chosen, *numbers))


def top_k_at_quality(moe: Model, chosen: QualityLaw, tokens: float, experts: float) -> float:
    """Experts per token, real, at which the dense match stays; 0 if there are none."""
    target = float(log_sizes(moe, chosen, tokens, *_own(moe))[0])

    def excess(log_top_k: float) -> float:
        return float(log_sizes(moe, chosen, tokens, experts, float(np.exp(log_top_k)))[0]) - target

    low, high = 0.0, float(np.log(experts))
    ends = excess(low), excess(high)
    if not np.isfinite(ends).all() or np.sign(ends[0]) == np.sign(ends[1]):
        return 0.0
    return float(np.exp(np.asarray(brentq(excess, low, high, xtol=1e-6))))


def best_of_each(rows: list[Row]) -> list[Row]:
    """Of every curve: the s that serves most, what it gains over the model's own, and the slope
    d log(tokens/s) / d log s there, of the neighbours on either side.
    """
    found = []
    names = ("model", "cluster", "law", "question")
    for curve in dict.fromkeys(tuple(row[name] for name in names) for row in rows):
        line = [r for r in rows if tuple(r[n] for n in names) == curve and r["tokens_per_s"]]
        line = sorted(line, key=lambda row: row["s"])
        own = next((place for place, row in enumerate(line) if row["factor"] == 1.0), None)
        if own is None or not line:
            continue
        best = max(line, key=lambda row: row["tokens_per_s"])
        known = {"own_s": line[own]["s"], "best_s": best["s"], "best_experts": best["experts"]}
        gained = {name: best[name] for name in ("gain", "low", "high")}
        found.append(
            {
                **dict(zip(names, curve, strict=True)),
                **known,
                **gained,
                "slope": _slope(line, own),
            }
        )
    return found


def _slope(line: list[Row], own: int) -> float | None:
    if not 0 < own < len(line) - 1:
        return None
    low, high = line[own - 1], line[own + 1]
    return float(np.log(high["tokens_per_s"] / low["tokens_per_s"]) / np.log(high["s"] / low["s"]))


def own_sparsity(model: str) -> list[Row]:
    """s of a released model."""
    return [{"model": model, "s": float(qs_numbers(qsopt.load_model(model), jnp.asarray(1.0)).s)}]


def main(settings: Settings) -> None:
    with study.Study(NAME, settings) as this:
        keys = [
            {"model": model, "cluster": cluster, "law_name": law_name, "factors": settings.factors,
             "question": question}
            for model, cluster in settings.models
            for law_name in settings.laws
            for question in settings.questions
        ]  # fmt: skip
        rows = study.joined(this.pieces(keys, along_sparsity, (sides,)))
        known = study.joined(this.pieces([{"model": m} for m in settings.released], own_sparsity))
        this.write(rows, lambda some: draw(some, known), best=best_of_each(rows), released=known)


if __name__ == "__main__":
    study.start(main, Settings, NAME)
