"""How does the best throughput answer to sparsity, and where does more of it start to hurt?

Slopes: elasticities of an MoE's throughput at its exact optimum, the batch following the limit that
binds, with respect to s = N_active / N_total at fixed total (by experts per token), at fixed active
parameters (by experts) and at fixed quality (by both, so that the law's dense match stays), and to
experts, experts per token and expert width.

Curves: the same three ways walked far from the model, both sizes legal and the deployment optimised
anew at every step. At fixed quality the dense twin does not change, so the curve's peak is the
sparsity at which the MoE does best against it.
"""

from dataclasses import dataclass
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import brentq

from experiments.framework import study, style
from experiments.framework.pieces import Row, write_whole
from qsopt.catalog.accelerators import load_cluster
from qsopt.catalog.efficiencies import load_efficiency
from qsopt.catalog.models import load_model, model_facts, model_names
from qsopt.deployments.batches import same_length
from qsopt.deployments.layouts import legal_layouts
from qsopt.deployments.optimum import Best
from qsopt.deployments.request import best_batch
from qsopt.errors import InputError
from qsopt.physics.accounting import parameter_count
from qsopt.quality import QualityLaw, law
from qsopt.quality.of_model import UNKNOWN_TOKENS
from qsopt.search.architecture import matched_sizes, with_architecture
from qsopt.sensitivity.inputs import Design
from qsopt.sensitivity.slopes import sensitivity
from qsopt.spec.model import Model, moe_layers
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload

WAYS = {
    "fixed_total": "at fixed total",
    "fixed_active": "at fixed active",
    "fixed_quality": "at fixed quality",
}
INPUTS = ("experts", "top_k", "expert_width")
SPAN = 1.0
"""Elasticities beyond are drawn at the edge, with their value."""

LENGTH = 2048
"""Layouts of most models on 64 devices."""


@dataclass(frozen=True)
class Settings(study.Settings):
    """What is differentiated."""

    clusters: tuple[str, ...]
    drawn: tuple[str, ...]
    """Models whose curves are drawn; slopes are found for every MoE of the catalog."""
    contexts: tuple[float, ...]
    law: str
    """What fixed quality means."""
    efficiency: str
    factors: tuple[float, ...]
    """On the experts, or the experts per token, of a curve."""


def main(settings: Settings) -> None:
    with study.Study("sparsity_gradients", settings) as run:
        moes = [name for name in model_names() if moe_layers(load_model(name)) is not None]
        keys = [
            {
                "model": name,
                "cluster": cluster,
                "context": context,
                "law_name": settings.law,
                "efficiency": settings.efficiency,
                "factors": list(settings.factors),
            }
            for name in moes
            for context in settings.contexts
            for cluster in settings.clusters
        ]
        rows = [row for piece in run.pieces(keys, answers) for row in piece]
        write_whole(
            run.folder / "curves.csv", study.table([row for row in rows if row["kind"] == "curve"])
        )
        slopes = [row for row in rows if row["kind"] == "slopes"]
        run.write(slopes, lambda _: figures(settings, rows))


def answers(
    model: str, cluster: str, context: float, law_name: str, efficiency: str, factors: list[float]
) -> list[Row]:
    """One row of slopes, and one for each point of the three curves; no curves where the model does
    not fit.
    """
    moe, chosen = load_model(model), law(law_name)
    service = Service(load_cluster(cluster), Workload(context=context), load_efficiency(efficiency))
    where = {"model": model, "cluster": cluster, "context": context}
    tokens = model_facts(model).training_tokens
    if chosen.uses_tokens and tokens is None:
        raise InputError(f"{model}: law {law_name} needs its training tokens; take another law")
    tokens = tokens or UNKNOWN_TOKENS
    s = float(np.exp(_sizes(moe, chosen, tokens, *_own(moe))[1]))
    best = _best_deployment(moe, service)
    if not bool(best.feasible):
        return [{"kind": "slopes", **where, "s": s, "feasible": False}]
    design = Design(moe, service, best.deployment)
    found = sensitivity(design)
    slopes = (found.relaxed or found.fixed).elasticity
    curves = {way: _curve(moe, service, chosen, tokens, way, factors) for way in WAYS}
    row = {
        "kind": "slopes",
        **where,
        "s": s,
        "feasible": True,
        "throughput": float(best.throughput),
        "binding": found.binding,
        "s_fixed_total": slopes["s_at_fixed_total"],
        "s_fixed_active": slopes["s_at_fixed_active"],
        "s_fixed_quality": _at_fixed_quality(moe, chosen, tokens, slopes),
        **{name: slopes[name] for name in INPUTS},
        **{f"best_s_{way}": _best(points)["s"] for way, points in curves.items()},
        **{
            f"gain_{way}": _best(points)["throughput"] / float(best.throughput)
            for way, points in curves.items()
        },
    }
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


def _own(moe: Model) -> tuple[float, float]:
    """Experts and experts per token."""
    routed = moe_layers(moe)
    assert routed is not None
    return float(routed.experts), float(routed.top_k)


@eqx.filter_jit
def _log_sizes(
    moe: Model, chosen: QualityLaw, tokens: Array, experts: Array, top_k: Array
) -> Float[Array, " sizes"]:
    """Logs of the dense match and of s of the model with other experts."""
    changed = with_architecture(moe, {"experts": experts, "top_k": top_k})
    count = parameter_count(changed)
    return jnp.log(
        jnp.stack([matched_sizes(changed, chosen, tokens).dense, count.active / count.total])
    )


def _sizes(
    moe: Model, chosen: QualityLaw, tokens: float, experts: float, top_k: float
) -> Float[np.ndarray, " sizes"]:
    """The same of plain numbers, which are traced so that all values share one compilation."""
    return np.asarray(
        _log_sizes(moe, chosen, *(jnp.asarray(value, float) for value in (tokens, experts, top_k)))
    )


def _at_fixed_quality(
    moe: Model, chosen: QualityLaw, tokens: float, slopes: dict[str, float]
) -> float | None:
    """Elasticity in s along the direction of experts and experts per token in which the dense match
    stays.
    """

    def sizes(logs: Float[Array, " 2"]) -> Float[Array, " sizes"]:
        experts, top_k = jnp.exp(logs)
        return _log_sizes(moe, chosen, jnp.asarray(tokens, float), experts, top_k)

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
                sizes = experts * factor, _top_k_of_quality(moe, chosen, tokens, experts * factor)
        if sizes[0] != round(sizes[0]) or not 1.0 <= sizes[1] <= sizes[0]:
            continue
        changed = with_architecture(
            moe, {"experts": np.asarray(sizes[0]), "top_k": np.asarray(sizes[1])}
        )
        best = _best_deployment(changed, service)
        s = float(np.exp(_sizes(moe, chosen, tokens, *sizes)[1]))
        points.append(
            {"experts": sizes[0], "top_k": sizes[1], "s": s, "throughput": float(best.throughput)}
        )
    return sorted(points, key=lambda point: point["s"])


def _top_k_of_quality(moe: Model, chosen: QualityLaw, tokens: float, experts: float) -> float:
    """Experts per token, real, at which the dense match stays; 0 if there are none."""
    target = float(_sizes(moe, chosen, tokens, *_own(moe))[0])

    def excess(log_top_k: float) -> float:
        return float(_sizes(moe, chosen, tokens, experts, float(np.exp(log_top_k)))[0]) - target

    low, high = 0.0, float(np.log(experts))
    ends = excess(low), excess(high)
    if not np.isfinite(ends).all() or np.sign(ends[0]) == np.sign(ends[1]):
        return 0.0
    return float(np.exp(np.asarray(brentq(excess, low, high, xtol=1e-9))))


def _best(points: list[dict[str, float]]) -> dict[str, float]:
    return max(points, key=lambda point: point["throughput"])


# ---- figure --------------------------------------------------------------------------------------


def figures(settings: Settings, rows: list[Row]) -> dict[str, Figure]:
    """Slopes of all models on the first cluster, and curves at fixed quality of some on all
    clusters.
    """
    return {
        "sparsity_gradients": _slopes_figure(settings, rows),
        "sparsity_curves": _curves_figure(settings, rows),
    }


def _slopes_figure(settings: Settings, rows: list[Row]) -> Figure:
    here = [
        row
        for row in rows
        if row["kind"] == "slopes" and row["feasible"] and row["cluster"] == settings.clusters[0]
    ]
    here = sorted(
        (row for row in here if row["context"] == settings.contexts[0]), key=lambda row: row["s"]
    )
    figure, (left, right) = style.subplots(1, 2, 10.0, 0.24 * len(here) + 1.8, sharey=True)
    places = np.arange(len(here))
    groups = (
        (left, {f"s_{way}": f"s {text}" for way, text in WAYS.items()}),
        (
            right,
            {"experts": "experts", "top_k": "experts per token", "expert_width": "expert width"},
        ),
    )
    for axes, names in groups:
        axes.axvline(0.0, color=style.GREY, linewidth=1)
        for (name, text), colour, mark in zip(
            names.items(), style.CYCLE, style.MARKS, strict=False
        ):
            values = np.array([np.nan if row[name] is None else row[name] for row in here])
            axes.plot(
                np.clip(values, -SPAN, SPAN), places, mark, color=colour, label=text, markersize=5
            )
        for row, place in zip(here, places, strict=True):
            _tell_beyond(axes, [row[name] for name in names], float(place))
        axes.legend(
            fontsize=8,
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=3,
            frameon=False,
            handletextpad=0.2,
        )
        axes.set_xlabel("change of throughput in % for 1 % more of it")
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
        axes.set_xticks(np.linspace(-SPAN, SPAN, 5))
        axes.set_xlim(-1.05 * SPAN, 1.05 * SPAN)
        axes.set_ylim(-0.7, len(here) - 0.3)
        style.plain(axes)
    left.set_yticks(
        places, [f"{style.name_of(row['model'])}  (s = {row['s']:.3f})" for row in here], fontsize=8
    )
    text = "Left of zero in the left panel, more sparsity (less s) raises throughput"
    where = (
        f"{settings.clusters[0]}, {settings.contexts[0] / 1024:g}k tokens of context, "
        f"{settings.efficiency}"
    )
    figure.suptitle(f"{text}: {where}", x=0.01, ha="left", fontsize=11)
    return figure


def _tell_beyond(axes: Axes, values: list[float | None], place: float) -> None:
    """Write what is beyond the panel beside its edge."""
    for side in (-1.0, 1.0):
        beyond = [f"{value:.1f}" for value in values if value is not None and value * side > SPAN]
        if beyond:
            place_at = (side * SPAN * 0.96, place)
            axes.annotate(
                " and ".join(beyond),
                place_at,
                fontsize=7,
                va="center",
                ha="right" if side > 0 else "left",
            )


def _curves_figure(settings: Settings, rows: list[Row]) -> Figure:
    figure, grid = style.subplots(
        1, len(settings.clusters), 3.6 * len(settings.clusters), 3.8, sharey=True, squeeze=False
    )
    own = {(row["model"], row["cluster"]): row["s"] for row in rows if row["kind"] == "slopes"}
    kept = [row for row in rows if row["kind"] == "curve" and row["way"] == "fixed_quality"]
    kept = [
        row for row in kept if row["context"] == settings.contexts[0] and row["throughput"] > 0.0
    ]
    for axes, cluster in zip(grid[0], settings.clusters, strict=True):
        axes.axhline(1.0, color=style.GREY, linewidth=1)
        for model, colour, mark in zip(settings.drawn, style.CYCLE, style.MARKS, strict=False):
            points = [row for row in kept if (row["model"], row["cluster"]) == (model, cluster)]
            if points:
                s = own[model, cluster]
                base = min(points, key=partial(_distance, s=s))["throughput"]
                x, y = [row["s"] for row in points], [row["throughput"] / base for row in points]
                axes.plot(
                    x, y, marker=mark, markersize=3.5, color=colour, label=style.name_of(model)
                )
                axes.plot(s, 1.0, mark, color=colour, markersize=10, markeredgecolor="black")
        style.log_axis(axes.xaxis, [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0])
        axes.set_title(cluster, fontsize=10)
        axes.set_xlabel("s, active over total parameters")
        style.plain(axes)
    style.log_axis(
        grid[0][0].yaxis,
        [0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5, 2.0, 3.0],
        style.times,
    )
    grid[0][0].set_ylabel("throughput over that of the model as it is")
    figure.legend(
        *grid[0][0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=9,
    )
    text = (
        "Sparsity at fixed quality, deployed anew at every point; large marks: the model as it is"
    )
    figure.suptitle(
        f"{text} ({settings.law} law, {settings.efficiency})", x=0.01, ha="left", fontsize=11
    )
    return figure


def _distance(row: Row, s: float) -> float:
    return abs(np.log(row["s"] / s))


if __name__ == "__main__":
    study.start(main, Settings, "sparsity_gradients")
