"""On which clusters does Switch-C not fit while its dense match does, and who wins where both fit?

A deployment fits or does not whatever the number of its replicas, so the smallest cluster of a side
is the smallest replica that keeps the limits with one sequence, found among all legal layouts of a
cluster that holds both sides.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from experiments.framework import study, style
from experiments.framework.pieces import Row
from experiments.paper import claims
from qsopt.cli.options import Question
from qsopt.comparison.twin import aligned, dense_twin
from qsopt.deployments.layouts import legal_layouts
from qsopt.deployments.optimum import repeated, same_length, throughputs_of_each
from qsopt.quality.belief import belief
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


def rows_of(
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

    def at(devices: int) -> Question:
        cluster = f"{devices}x{accelerator}"
        return Question(
            model,
            cluster,
            context,
            weight_dtype=precision,
            kv_dtype=precision,
            efficiency=efficiency,
        )

    case = at(most_devices)
    moe, service = case.load()
    q = belief(moe, law, case.training_tokens, raw=True).q
    row = {
        "accelerator": accelerator,
        "precision": precision,
        "efficiency": efficiency,
        "q": q,
        "qs": q * claims.active_share(moe),
    }
    row |= {
        "dense_devices": smallest(dense_twin(moe, q), moe, service),
        "moe_devices": smallest(moe, moe, service),
    }
    if row["moe_devices"] is None:
        return [row | {"multiple": None}]
    sizes = [multiple * row["moe_devices"] for multiple in multiples]
    services = [at(size).load()[1] for size in sizes]
    found = claims.outcomes(moe, [claims.Point(each, q) for each in services])
    return [
        row | {"multiple": multiple, **claims.summary(outcome)}
        for multiple, outcome in zip(multiples, found, strict=True)
    ]


def smallest(side: Model, pattern: Model, service: Service) -> int | None:
    """Devices of the smallest replica of a side that keeps the limits; None if the cluster holds
    none.
    """
    (layouts,) = same_length(legal_layouts(side, service.cluster))
    reached = throughputs_of_each(repeated(aligned(side, pattern), 1), service, layouts)[0]
    sizes = np.asarray(layouts.replica_devices)[np.asarray(reached) > 0.0]
    return int(sizes.min()) if len(sizes) else None


def draw(rows: list[Row], settings: Settings) -> Figure:
    """A bar for each accelerator: the clusters that hold the dense match only."""
    figure, line = style.subplots(
        1,
        len(settings.precisions),
        width=5.6 * len(settings.precisions),
        height=4.4,
        squeeze=False,
        sharey=True,
    )
    for axes, precision in zip(line[0], settings.precisions, strict=True):
        for place, name in enumerate(settings.accelerators):
            for offset, efficiency in enumerate(settings.efficiencies):
                kept = [
                    row
                    for row in rows
                    if (row["accelerator"], row["precision"], row["efficiency"])
                    == (name, precision, efficiency)
                ]
                _bar(
                    axes,
                    kept,
                    place + 0.38 * (offset - 0.5),
                    style.CYCLE[offset],
                    settings.most_devices,
                )
        axes.set_xlim(0.8, settings.most_devices * 2.0)
        style.count_axis(axes.xaxis, 1, settings.most_devices)
        axes.set_yticks(
            range(len(settings.accelerators)),
            [style.name_of(name) for name in settings.accelerators],
        )
        axes.set_xlabel("devices")
        axes.set_title(f"weights and cache in {precision}", loc="left", fontsize=10)
        style.plain(axes)
    line[0][0].invert_yaxis()
    for offset, efficiency in enumerate(settings.efficiencies):
        line[0][0].plot([], [], color=style.CYCLE[offset], linewidth=6, label=efficiency)
    line[0][0].legend(loc="lower left", fontsize=8, frameon=False)
    figure.suptitle(
        f"{style.name_of(settings.model)} at {settings.context:g} tokens: from the smallest "
        f"cluster of its dense match "
        f"(left end, q: {settings.law} law)\nto the smallest of its own (right end): on the bar "
        f"only the dense match fits.  "
        "Right: dense over MoE there",
        fontsize=11,
        x=0.01,
        ha="left",
    )
    return figure


def _bar(axes, rows: list[Row], height: float, colour: str, most: int) -> None:
    row = rows[0]
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
        rows = [row for piece in run.pieces(keys, rows_of, (claims,)) for row in piece]
        run.write(rows, lambda found: draw(found, settings))


if __name__ == "__main__":
    study.start(main, Settings, "switch_claim")
