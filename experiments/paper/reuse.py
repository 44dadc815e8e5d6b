"""How many tokens share one read of a feed-forward weight, and is the layer bound by memory or by
arithmetic?

`python -m experiments.paper.reuse` writes tokens per read and the bound of the feed-forward layers
at every context and load, and a figure of them, into `results/reuse`.

A dense layer reads every weight once for all T tokens of a microbatch. Of E experts a batch hits E
(1 - (1 - k/E)^T), so each weight that is read serves T k / hit tokens. Both sides stand at their
exact optimum for every limit on the sequences of the cluster and every context. With measured
kernels at hand (`--data`) their achieved shares are drawn over the model's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import equinox as eqx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.framework import study, style
from experiments.framework.measured import measured_rows
from experiments.framework.pieces import Row
from experiments.paper import claims
from qsopt import belief
from qsopt.catalog.models import load_model
from qsopt.cli.options import Question
from qsopt.deployments.capped import Optimum
from qsopt.physics.routing import experts_hit
from qsopt.physics.step import OPERATORS
from qsopt.report.plot import tokens_text
from qsopt.spec.model import Model, moe_layers

FEED_FORWARD = [OPERATORS.index(name) for name in ("dense ffn", "routed experts", "shared experts")]

MEASURED = "reuse_fragmentation.csv"


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Models, each on its cluster."""

    models: tuple[str, ...]
    clusters: tuple[str, ...]
    """A cluster for each model, on which both sides fit."""
    contexts: tuple[float, ...]
    most_sequences: int
    """Largest limit on the sequences of a cluster; powers of two up to it."""
    efficiency: str
    law: str
    data: Path | None = None
    """Folder with reuse_fragmentation.csv, kernels measured; none are drawn if left out."""
    measured_model: str
    """Whose kernels are drawn."""
    measured_gpu: str


def weight_reuse(
    model: str,
    cluster: str,
    contexts: Sequence[float],
    most_sequences: int,
    efficiency: str,
    law: str,
) -> list[Row]:
    """One model: both sides over context and sequences."""
    case = Question(model, cluster, contexts[0], efficiency=efficiency)
    moe, service = case.load()
    q = belief(moe, law, case.training_tokens, raw=True).q
    caps = 2.0 ** np.arange(int(np.log2(most_sequences)) + 1)
    services = [
        eqx.tree_at(lambda s: s.workload.context, service, np.asarray(context))
        for context in contexts
    ]
    points = [claims.Point(there, q, float(cap)) for there in services for cap in caps]
    return [
        {
            "model": model,
            "cluster": cluster,
            "context": float(point.service.workload.context),
            "limit": point.cap,
            "q": q,
            **claims.summary(outcome),
            **_feed_forward("moe", moe, outcome.moe),
            **_feed_forward("dense", moe, outcome.dense),
        }
        for point, outcome in zip(points, claims.outcomes(moe, points), strict=True)
    ]


def _feed_forward(side: str, moe: Model, optimum: Optimum) -> Row:
    """Reuse and bound of the feed-forward layers of a side; all None where it does not fit."""
    names = ("tokens", "tokens_per_read", "experts_hit", "compute_over_memory", "share_of_step")
    if not bool(optimum.best.feasible):
        return {f"{side}_{name}": None for name in names}
    spent, layout = optimum.metrics.breakdown, optimum.best.deployment
    tokens, hit = float(layout.batch / layout.pipeline), float(optimum.metrics.experts_hit)
    routed = moe_layers(moe)
    per_read = (
        tokens * float(routed.top_k) / hit if routed is not None and side == "moe" else tokens
    )
    values = (
        tokens,
        per_read,
        hit,
        float(spent.compute[FEED_FORWARD].sum() / spent.memory[FEED_FORWARD].sum()),
        float(spent.seconds[FEED_FORWARD].sum() / spent.seconds.sum()),
    )
    return {f"{side}_{name}": value for name, value in zip(names, values, strict=True)}


def ridge(model: str, cluster: str) -> float:
    """Tokens per read at which a product's arithmetic takes as long as reading its weights, by the
    datasheet.
    """
    moe, service = Question(model, cluster, 1024.0).load()
    chip = service.cluster.accelerator
    form = moe.precision.experts
    return float(chip.peak(form) * form.bytes / (2.0 * chip.bandwidth))


# ---- measured kernels ----------------------------------------------------------------------------


def measured(settings: Settings) -> list[Row]:
    """Measured MoE layers: tokens per expert hit and the shares of bandwidth and arithmetic that
    they reach.

    Raises:
        InputError: if the folder has no such file.
    """
    if settings.data is None:
        return []
    wanted = settings.measured_model, settings.measured_gpu
    rows = [
        row
        for row in measured_rows(settings.data, MEASURED)
        if (row["model"], row["gpu"]) == wanted
    ]
    names = {
        "tok_per_hit_expert": "tokens_per_read",
        "bw_frac": "bandwidth",
        "flop_frac": "arithmetic",
    }
    return [
        {"dtype": row["dtype"]} | {new: float(row[old]) for old, new in names.items()}
        for row in rows
    ]


# ---- figure --------------------------------------------------------------------------------------


def draw(rows: list[Row], settings: Settings, kernels: list[Row]) -> Figure:
    """Tokens per weight read against the tokens of a microbatch; a panel for each model, and one of
    measured kernels.
    """
    panels = len(settings.models) + (1 if kernels else 0)
    figure, line = style.subplots(1, panels, width=3.7 * panels, height=4.4, squeeze=False)
    for axes, model, cluster in zip(line[0], settings.models, settings.clusters, strict=False):
        _panel(axes, [row for row in rows if row["model"] == model], model, cluster)
    line[0][0].set_ylabel("tokens that share one read of a weight")
    if kernels:
        _kernels(line[0][-1], kernels, settings)
    figure.suptitle(
        "Reuse of feed-forward weights: dense serves every token with each read, the MoE only "
        "those of one expert.\n"
        "Marks: the largest batch that memory allows at each context, both sides at their exact "
        "optimum",
        fontsize=11,
        x=0.01,
        ha="left",
    )
    return figure


def _panel(axes: Axes, rows: list[Row], model: str, cluster: str) -> None:
    most = 65536.0
    _curves(axes, model, most)
    level = ridge(model, cluster)
    axes.axhline(level, color=style.GREY, linewidth=1, linestyle="--")
    text = f"compute-bound above {level:.0f}"
    axes.text(1.1, level * 1.1, text, color=style.GREY, fontsize=7.5, va="bottom")
    for mark, context in zip(style.MARKS, sorted({row["context"] for row in rows}), strict=False):
        last = max((row for row in rows if row["context"] == context), key=lambda row: row["limit"])
        for side, colour in (("moe", style.ORANGE), ("dense", style.BLUE)):
            if last[f"{side}_tokens"] is not None:
                place = last[f"{side}_tokens"], last[f"{side}_tokens_per_read"]
                axes.plot(*place, mark, color=colour, markersize=7, markeredgecolor="white")
        axes.plot([], [], mark, color=style.GREY, label=tokens_text(context), linestyle="none")
    axes.set_xlim(1, most)
    axes.set_ylim(0.8, most)
    ticks = [1, 10, 100, 1000, 10000]
    style.log_axis(axes.xaxis, ticks, lambda value, _=None: f"{value:,.0f}")
    style.log_axis(axes.yaxis, ticks, lambda value, _=None: f"{value:,.0f}")
    axes.set_xlabel("tokens in a microbatch")
    title = f"{style.display_name(model)}, {style.cluster_name(cluster)}"
    axes.set_title(title, loc="left", fontsize=9.5)
    axes.legend(title="context", fontsize=7, title_fontsize=7, frameon=False, loc="upper left")
    style.plain(axes)


def _curves(axes: Axes, model: str, most: float) -> None:
    """Tokens per read of any batch: of the MoE by uniform routing, and of a dense layer."""
    routed = moe_layers(load_model(model))
    tokens = np.geomspace(1.0, most, 200)
    if routed is not None:
        hit = np.asarray(experts_hit(tokens, np.float64(routed.experts), np.float64(routed.top_k)))
        per_read = tokens * float(routed.top_k) / hit
        axes.plot(tokens, per_read, color=style.ORANGE, linewidth=1.5)
        label = most * 0.8, per_read[-1] * 0.18
        axes.text(*label, "MoE", color=style.ORANGE, ha="right", fontsize=9)
    axes.plot(tokens, tokens, color=style.BLUE, linewidth=1.5)
    axes.text(300, 700, "dense", color=style.BLUE, ha="right", fontsize=9)


def _kernels(axes: Axes, kernels: list[Row], settings: Settings) -> None:
    tokens = np.array([row["tokens_per_read"] for row in kernels])
    for name, colour in (("bandwidth", style.GREEN), ("arithmetic", style.PURPLE)):
        axes.scatter(
            tokens,
            [row[name] for row in kernels],
            s=16,
            color=colour,
            alpha=0.6,
            linewidths=0,
            label=name,
        )
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    axes.set_xlim(0.8, tokens.max() * 1.2)
    style.log_axis(axes.xaxis, [1, 10, 100, 1000], lambda value, _=None: f"{value:,.0f}")
    axes.set_xlabel("tokens per read of an expert's weight")
    axes.set_ylabel("share of the datasheet reached")
    axes.set_title(
        f"measured layers of {settings.measured_model}, "
        f"{settings.measured_gpu.split('_')[0].upper()}",
        loc="left",
        fontsize=9.5,
    )
    axes.legend(fontsize=8, frameon=False)
    style.plain(axes)


def main(settings: Settings) -> None:
    kernels = measured(settings)
    common = {
        "contexts": list(settings.contexts),
        "most_sequences": settings.most_sequences,
        "efficiency": settings.efficiency,
        "law": settings.law,
    }
    keys = [
        {**common, "model": model, "cluster": cluster}
        for model, cluster in zip(settings.models, settings.clusters, strict=True)
    ]
    with study.Study("reuse", settings) as run:
        rows = [row for piece in run.pieces(keys, weight_reuse, (claims,)) for row in piece]
        ridges = {
            model: ridge(model, cluster)
            for model, cluster in zip(settings.models, settings.clusters, strict=True)
        }
        run.write(rows, lambda rows: draw(rows, settings, kernels), ridges=ridges)


if __name__ == "__main__":
    study.start(main, Settings, "reuse")
