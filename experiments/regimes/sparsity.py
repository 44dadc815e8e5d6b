"""The best throughput of an MoE along sparsity, s = N_active / N_total: its slopes at the model,
and curves far from it.

Three ways lead along s: fixed total (by experts per token), fixed active parameters (by experts)
and fixed quality (by both, so that the law's dense match stays). On a curve both sizes are legal
and the deployment is optimised anew at every step. At fixed quality the dense twin does not change,
so the curve's peak is the sparsity at which the MoE does best against it.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import brentq

from experiments.framework.pieces import Row
from qsopt.api.names import load_efficiency
from qsopt.catalog.accelerators import load_cluster
from qsopt.catalog.models import load_model, model_facts
from qsopt.deployments.batches import same_length
from qsopt.deployments.layouts import legal_layouts
from qsopt.deployments.optimum import Best
from qsopt.deployments.request import best_batch
from qsopt.errors import InputError
from qsopt.physics.parameters import parameter_count
from qsopt.quality import QualityLaw, law
from qsopt.quality.of_model import UNKNOWN_TOKENS
from qsopt.search.architecture import matched_sizes, with_architecture
from qsopt.slopes.inputs import Design
from qsopt.slopes.sensitivity import sensitivity
from qsopt.spec.model import Model, moe_layers
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

WAYS = {
    "fixed_total": "at fixed total",
    "fixed_active": "at fixed active",
    "fixed_quality": "at fixed quality",
}
INPUTS = {"experts": "experts", "top_k": "experts per token", "expert_width": "expert width"}

LENGTH = 2048
"""Layouts of most models on 64 devices."""


def slopes_and_curves(
    model: str, cluster: str, context: float, law_name: str, efficiency: str, factors: list[float]
) -> list[Row]:
    """One row of slopes, and one for each point of the three curves; no curves where the model does
    not fit.

    Raises:
        InputError: if the law needs training tokens that are unknown.
    """
    moe, chosen = load_model(model), law(law_name)
    service = Service(load_cluster(cluster), Workload(context=context), load_efficiency(efficiency))
    where = {"model": model, "cluster": cluster, "context": context}
    tokens = model_facts(model).training_tokens
    if chosen.uses_tokens and tokens is None:
        raise InputError(f"{model}: law {law_name} needs its training tokens; take another law")
    tokens = tokens or UNKNOWN_TOKENS
    own = {**where, "s": float(np.exp(log_sizes(moe, chosen, tokens, *_own(moe))[1]))}
    best = _best_deployment(moe, service)
    if not bool(best.feasible):
        return [{"kind": "slopes", **own, "feasible": False}]
    curves = {way: _curve(moe, service, chosen, tokens, way, factors) for way in WAYS}
    row = {
        "kind": "slopes",
        **own,
        "feasible": True,
        "throughput": float(best.throughput),
        **_slopes(Design(moe, service, best.deployment), chosen, tokens),
    }
    for way, points in curves.items():
        peak = max(points, key=lambda point: point["throughput"])
        row[f"best_s_{way}"] = peak["s"]
        row[f"gain_{way}"] = peak["throughput"] / float(best.throughput)
    return [row] + [
        {"kind": "curve", **where, "way": way, **point}
        for way, points in curves.items()
        for point in points
    ]


def _best_deployment(model: Model, service: Service) -> Best:
    """The best of all legal layouts, listed to one length so that all clusters share a
    compilation.
    """
    (layouts,) = same_length(legal_layouts(model, service.cluster), at_least=LENGTH)
    return best_batch(model, service, layouts)


# ---- slopes --------------------------------------------------------------------------------------


def _slopes(design: Design, chosen: QualityLaw, tokens: float) -> Row:
    """Elasticities of the throughput, the batch following the limit that binds."""
    result = sensitivity(design)
    slopes = (result.relaxed or result.fixed).elasticity
    return {
        "binding": result.binding,
        "s_fixed_total": slopes["s_at_fixed_total"],
        "s_fixed_active": slopes["s_at_fixed_active"],
        "s_fixed_quality": slope_at_fixed_quality(design.model, chosen, tokens, slopes),
        **{name: slopes[name] for name in INPUTS},
    }


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
    return jnp.log(
        jnp.stack([matched_sizes(changed, chosen, tokens).dense, count.active / count.total])
    )


def log_sizes(
    moe: Model, chosen: QualityLaw, tokens: float, experts: float, top_k: float
) -> Float[np.ndarray, " sizes"]:
    """Logs of the dense match and of s of the model with other experts; numbers are traced, so that
    all values share one compilation.
    """
    return np.asarray(
        _traced_log_sizes(
            moe, chosen, *(jnp.asarray(value, float) for value in (tokens, experts, top_k))
        )
    )


def slope_at_fixed_quality(
    moe: Model, chosen: QualityLaw, tokens: float, slopes: dict[str, float]
) -> float | None:
    """Elasticity in s along the direction of experts and experts per token in which the dense match
    stays.
    """

    def sizes(logs: Float[Array, " 2"]) -> Float[Array, " sizes"]:
        experts, top_k = jnp.exp(logs)
        return _traced_log_sizes(moe, chosen, jnp.asarray(tokens, float), experts, top_k)

    by_log = np.asarray(jax.jacfwd(sizes)(jnp.log(jnp.asarray(_own(moe)))))
    if not np.isfinite(by_log).all() or abs(np.linalg.det(by_log)) < 1e-9:
        return None
    direction = np.linalg.solve(by_log, np.array([0.0, 1.0]))
    return float(direction @ np.array([slopes["experts"], slopes["top_k"]]))


# ---- curves --------------------------------------------------------------------------------------


def _curve(
    moe: Model, service: Service, chosen: QualityLaw, tokens: float, way: str, factors: list[float]
) -> list[dict[str, float]]:
    """s and the best throughput along one way, where sizes are possible: whole experts, no fewer
    than a token uses.
    """
    experts, top_k = _own(moe)
    points = []
    for factor in factors:
        if way == "fixed_total":
            sizes = experts, top_k * factor
        else:
            sizes = experts * factor, top_k
            if way == "fixed_quality":
                sizes = experts * factor, top_k_at_quality(moe, chosen, tokens, experts * factor)
        if sizes[0] != round(sizes[0]) or not 1.0 <= sizes[1] <= sizes[0]:
            continue
        changed = with_architecture(
            moe, {"experts": np.asarray(sizes[0]), "top_k": np.asarray(sizes[1])}
        )
        best = _best_deployment(changed, service)
        s = float(np.exp(log_sizes(moe, chosen, tokens, *sizes)[1]))
        points.append(
            {"experts": sizes[0], "top_k": sizes[1], "s": s, "throughput": float(best.throughput)}
        )
    return sorted(points, key=lambda point: point["s"])


def top_k_at_quality(moe: Model, chosen: QualityLaw, tokens: float, experts: float) -> float:
    """Experts per token, real, at which the dense match stays; 0 if there are none."""
    target = float(log_sizes(moe, chosen, tokens, *_own(moe))[0])

    def excess(log_top_k: float) -> float:
        return float(log_sizes(moe, chosen, tokens, experts, float(np.exp(log_top_k)))[0]) - target

    low, high = 0.0, float(np.log(experts))
    ends = excess(low), excess(high)
    if not np.isfinite(ends).all() or np.sign(ends[0]) == np.sign(ends[1]):
        return 0.0
    return float(np.exp(np.asarray(brentq(excess, low, high, xtol=1e-9))))
