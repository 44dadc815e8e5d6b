"""How does the dense match's advantage over DeepSeek-V3, Qwen3-235B-A22B and Grok-1 move with the
context length?

`python -m experiments.paper.context_claim` writes the ratio at every context, with the winner and
both throughputs, and a figure of it, into `results/context_claim`.

Both sides stand at their exact optimum at every context, in the formats of the published weights
with a cache in bf16.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import equinox as eqx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.framework import study, style
from experiments.framework.pieces import Row
from experiments.paper import claims
from qsopt import belief
from qsopt.catalog.folder import configs
from qsopt.cli.options import Question
from qsopt.quality import BAND
from qsopt.report.plot import tokens_text


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Models, clusters and the range of context."""

    models: tuple[str, ...]
    clusters: tuple[str, ...]
    contexts: tuple[float, float]
    """First and last context [tokens]."""
    points: int
    """Contexts, evenly spaced in log."""
    efficiencies: tuple[str, ...]
    law: str
    """The law of the figure."""


def ratios_over_context(
    model: str, cluster: str, efficiency: str, contexts: Sequence[float], law: str
) -> list[Row]:
    """One model on one cluster over context, with q by the law of the figure, the band's laws, and
    the ends of its interval.
    """
    case = Question(model, cluster, contexts[0], efficiency=efficiency)
    moe, service = case.load()
    known = belief(moe, law, case.training_tokens, raw=True)
    low, high = known.interval or (known.q, known.q)
    values = claims.law_values(moe, case.training_tokens)
    qs = {law: known.q, "low": low, "high": high} | {
        name: values[name] for name in BAND if name in values
    }
    services = [
        eqx.tree_at(lambda s: s.workload.context, service, np.asarray(context))
        for context in contexts
    ]
    points = [claims.Point(there, q) for there in services for q in qs.values()]
    share = claims.active_share(moe)
    return [
        {
            "model": model,
            "cluster": cluster,
            "efficiency": efficiency,
            "context": float(point.service.workload.context),
            "law": list(qs)[place % len(qs)],
            "q": point.q,
            "qs": point.q * share,
            **claims.summary(outcome),
        }
        for place, (point, outcome) in enumerate(
            zip(points, claims.outcomes(moe, points), strict=True)
        )
    ]


def trained_context(model: str) -> float:
    """The longest context that the model's config states [tokens]."""
    return float(
        json.loads((configs() / "models" / f"{model}.json").read_text())["max_position_embeddings"]
    )


def draw(rows: list[Row], settings: Settings) -> Figure:
    """One panel for each model and efficiency, one line for each cluster."""
    size = len(settings.models), len(settings.efficiencies)
    shared = {"squeeze": False, "sharex": True, "sharey": True}
    figure, grid = style.subplots(*size, width=5.0 * size[1], height=2.6 * size[0] + 0.5, **shared)
    for line, model in zip(grid, settings.models, strict=True):
        for axes, efficiency in zip(line, settings.efficiencies, strict=True):
            kept = [row for row in rows if (row["model"], row["efficiency"]) == (model, efficiency)]
            _panel(axes, kept, settings, model)
            axes.set_title(f"{style.display_name(model)}, {efficiency}", loc="left", fontsize=10)
        line[0].set_ylabel("dense twin over MoE")
    for axes in grid[-1]:
        axes.set_xlabel("context length [tokens]")
    figure.suptitle(
        f"Throughput of the dense twin (q: {settings.law} law) over the MoE along context, both "
        f"at their exact optimum\n"
        "Lines begin and end where a side stops to fit. Bands: q within its 80% interval. Grey: "
        "beyond the model's own context",
        fontsize=11,
        x=0.01,
        ha="left",
    )
    return figure


def _panel(axes: Axes, rows: list[Row], settings: Settings, model: str) -> None:
    low, high = settings.contexts
    axes.set_xlim(low, high)
    style.tokens_axis(axes.xaxis, low, high, 2)
    axes.set_ylim(0.2, 3.0)
    style.ratio_axis(axes.yaxis, 0.2, 3.0)
    axes.axhline(1.0, color=style.GREY, linewidth=1)
    own = trained_context(model)
    if own < high:
        axes.axvspan(own, high, color=style.GREY, alpha=0.12, linewidth=0)
        axes.text(
            own * 0.95,
            0.22,
            f"own context {tokens_text(own)}",
            fontsize=7,
            ha="right",
            color=style.GREY,
        )
    labels = []
    for cluster, colour in zip(settings.clusters, style.CYCLE, strict=False):
        kept = [row for row in rows if row["cluster"] == cluster]
        line, least, most = (
            [row["ratio"] or np.nan for row in kept if row["law"] == law]
            for law in (settings.law, "low", "high")
        )
        contexts = np.array([row["context"] for row in kept if row["law"] == settings.law])
        axes.fill_between(contexts, most, least, color=colour, alpha=0.12, linewidth=0)
        axes.plot(contexts, line, color=colour, linewidth=1.6)
        fine = np.flatnonzero(np.isfinite(line))
        if len(fine):
            end = contexts[fine[-1]], line[fine[-1]]
            labels.append((style.cluster_name(cluster), *end, colour))
    style.label_ends(axes, labels, gap=0.07)
    style.plain(axes)


def main(settings: Settings) -> None:
    contexts = [float(value) for value in np.geomspace(*settings.contexts, settings.points)]
    keys = [
        {
            "model": model,
            "cluster": cluster,
            "efficiency": efficiency,
            "contexts": contexts,
            "law": settings.law,
        }
        for model in settings.models
        for cluster in settings.clusters
        for efficiency in settings.efficiencies
    ]
    with study.Study("context_claim", settings) as run:
        rows = [row for piece in run.pieces(keys, ratios_over_context, (claims,)) for row in piece]
        run.write(rows, lambda rows: draw(rows, settings))


if __name__ == "__main__":
    study.start(main, Settings, "context_claim")
