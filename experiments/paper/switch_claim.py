"""On which clusters does Switch-C not fit while its dense match does, and who wins where both fit?

`python -m experiments.paper.switch_claim` writes the smallest cluster of either side and the ratio
from where both fit, and a figure of them, into `results/switch_claim`.

A deployment fits or does not whatever the number of its replicas, so the smallest cluster of a side
is the smallest replica that keeps the limits with one sequence, found among all legal layouts of a
cluster that holds both sides.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.framework import study, style
from experiments.framework.pieces import Row
from experiments.paper import claims
from qsopt import belief
from qsopt.cli.options import Question
from qsopt.comparison.twin import aligned, dense_twin
from qsopt.deployments.batches import repeat, same_length
from qsopt.deployments.layouts import legal_layouts
from qsopt.deployments.optimum import searched
from qsopt.spec.model import Model
from qsopt.spec.service import Service


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Accelerators and formats."""

    model: str
    context: float
    accelerators: tuple[str, ...]
    precisions: tuple[str, ...]
    """Format of weights and KV cache."""
    efficiencies: tuple[str, ...]
    most_devices: int
    """Largest cluster looked at."""
    multiples: tuple[int, ...]
    """Clusters where both are compared, in units of the smallest that holds the MoE."""
    law: str


def smallest_clusters(
    model: str,
    context: float,
    accelerator: str,
    precision: str,
    efficiency: str,
    most_devices: int,
    multiples: Sequence[int],
    law: str,
) -> list[Row]:
    """The smallest cluster of either side, and the comparison from where the MoE fits."""

    def on(devices: int) -> Question:
        question = Question(model, f"{devices}x{accelerator}", context, efficiency=efficiency)
        return replace(question, weight_dtype=precision, kv_dtype=precision)

    moe, service = on(most_devices).load()
    q = belief(moe, law, on(most_devices).training_tokens, raw=True).q
    row = {
        "accelerator": accelerator,
        "precision": precision,
        "efficiency": efficiency,
        "q": q,
        "qs": q * claims.active_share(moe),
        "dense_devices": smallest_replica(dense_twin(moe, q), moe, service),
        "moe_devices": smallest_replica(moe, moe, service),
    }
    if row["moe_devices"] is None:
        return [row | {"multiple": None}]
    services = [on(multiple * row["moe_devices"]).load()[1] for multiple in multiples]
    outcomes = claims.outcomes(moe, [claims.Point(service, q) for service in services])
    return [
        row | {"multiple": multiple, **claims.summary(outcome)}
        for multiple, outcome in zip(multiples, outcomes, strict=True)
    ]


def smallest_replica(side: Model, pattern: Model, service: Service) -> int | None:
    """Devices of the smallest replica of a side that keeps the limits; None if the cluster holds
    none.
    """
    (layouts,) = same_length(legal_layouts(side, service.cluster))
    throughputs = searched(repeat(aligned(side, pattern), 1), service, layouts).throughputs[0]
    sizes = np.asarray(layouts.replica_devices)[np.asarray(throughputs) > 0.0]
    return int(sizes.min()) if len(sizes) else None


def draw(rows: list[Row], settings: Settings) -> Figure:
    """A bar for each accelerator: the clusters that hold the dense match only."""
    columns = len(settings.precisions)
    shared = {"squeeze": False, "sharey": True}
    figure, line = style.subplots(1, columns, width=5.6 * columns, height=4.4, **shared)
    for axes, precision in zip(line[0], settings.precisions, strict=True):
        _panel(axes, [row for row in rows if row["precision"] == precision], settings)
        axes.set_title(f"weights and cache in {precision}", loc="left", fontsize=10)
    line[0][0].invert_yaxis()
    for colour, efficiency in zip(style.CYCLE, settings.efficiencies, strict=False):
        line[0][0].plot([], [], color=colour, linewidth=6, label=efficiency)
    line[0][0].legend(loc="lower left", fontsize=8, frameon=False)
    figure.suptitle(
        f"{style.display_name(settings.model)} at {settings.context:g} tokens: from the smallest "
        f"cluster of its dense match "
        f"(left end, q: {settings.law} law)\nto the smallest of its own (right end): on the bar "
        f"only the dense match fits.  "
        "Right: dense over MoE there",
        fontsize=11,
        x=0.01,
        ha="left",
    )
    return figure


def _panel(axes: Axes, rows: list[Row], settings: Settings) -> None:
    """The bars of one precision, one for each accelerator and efficiency set."""
    names = settings.accelerators
    for place, name in enumerate(names):
        for offset, efficiency in enumerate(settings.efficiencies):
            row = next(
                row for row in rows if (row["accelerator"], row["efficiency"]) == (name, efficiency)
            )
            height, colour = place + 0.38 * (offset - 0.5), style.CYCLE[offset]
            _bar(axes, row, height, colour, settings.most_devices)
    axes.set_xlim(0.8, settings.most_devices * 2.0)
    style.count_axis(axes.xaxis, 1, settings.most_devices)
    axes.set_yticks(range(len(names)), [style.display_name(name) for name in names])
    axes.set_xlabel("devices")
    style.plain(axes)


def _bar(axes: Axes, row: Row, height: float, colour: str, most: int) -> None:
    if row["dense_devices"] is None:
        return
    right = row["moe_devices"] or most
    axes.barh(
        height, right - row["dense_devices"], left=row["dense_devices"], height=0.32, color=colour
    )
    axes.text(
        row["dense_devices"] * 0.94,
        height,
        f"{row['dense_devices']}",
        ha="right",
        va="center",
        fontsize=8,
    )
    text = f" {right}" if row["moe_devices"] else f" over {most}"
    text += f"   {row['ratio']:.2g}x" if row.get("ratio") else ""
    axes.text(right, height, text, ha="left", va="center", fontsize=8)


def main(settings: Settings) -> None:
    common = {
        "model": settings.model,
        "context": settings.context,
        "most_devices": settings.most_devices,
        "multiples": list(settings.multiples),
        "law": settings.law,
    }
    keys = [
        {**common, "accelerator": accelerator, "precision": precision, "efficiency": efficiency}
        for accelerator in settings.accelerators
        for precision in settings.precisions
        for efficiency in settings.efficiencies
    ]
    with study.Study("switch_claim", settings) as run:
        rows = [row for piece in run.pieces(keys, smallest_clusters, (claims,)) for row in piece]
        run.write(rows, lambda rows: draw(rows, settings))


if __name__ == "__main__":
    study.start(main, Settings, "switch_claim")
