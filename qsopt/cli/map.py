"""`qsopt map`: who wins over two axes, an MoE or its dense twin."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qsopt.catalog.accelerators import hardware_facts, load_cluster
from qsopt.cli.options import Question
from qsopt.errors import InputError
from qsopt.maps.axes import Axis, Name, axis
from qsopt.maps.bounds import Optima
from qsopt.maps.phase_map import PhaseMap, phase_map
from qsopt.report.records import to_json
from qsopt.report.text import console
from qsopt.spec.deployment import Deployment
from qsopt.spec.hardware import Cluster
from qsopt.spec.model import Model
from qsopt.spec.service import Service


@dataclass(frozen=True)
class Map(Question):
    """Who wins over two axes, an MoE or its dense twin, each in its own best legal deployment at
    every point.

    Axes: context, batch, devices, bandwidth, capacity, scale_up, scale_out, domain, sparsity, q,
    tpot; in tokens, bytes, byte/s and seconds.
    """

    context: float = 8192.0
    """Tokens in the KV cache of a sequence, unless it is an axis."""
    x: Name = "context"
    """What moves to the right. batch: sequences decoding at once in the whole cluster, at most;
    scale_up and scale_out: links inside and between domains; domain: devices of a scale-up domain;
    sparsity: s, by experts per token at fixed total.
    """
    y: Name = "devices"
    """What moves upwards."""
    x_from: float | None = None
    """Range of x; with --x-to, taken from the model and the cluster if left out."""
    x_to: float | None = None
    y_from: float | None = None
    y_to: float | None = None
    x_points: int = 50
    """Points along x; whole values that fall together count once."""
    y_points: int = 50
    batch: float | None = None
    """Sequences that may decode at once in the whole cluster; as many as fit if left out."""
    plot: Path | None = None
    """Write the map to this PNG file."""

    def run(self) -> None:
        """Make the map and print."""
        if self.plot is not None and (self.plot.suffix != ".png" or self.plot.is_dir()):
            raise InputError(f"plot = {self.plot}: give a file that ends in .png")
        if self.batch is not None and (not self.batch >= 1 or "batch" in (self.x, self.y)):
            raise InputError(
                f"batch = {self.batch:g}: give 1 or more sequences, and none where batch is an axis"
            )
        self.check_one_law()
        model, service = self.load()
        axes = self._axes(model, service)
        self._check_links(service.cluster, axes)
        found = phase_map(model, service, *axes, self.believe, self.batch)
        if self.plot is not None:
            self._plot(found, self.plot)
        if self.json:
            print(to_json(self._record(found)))
        else:
            _show(found, f"{self.model} against its dense twin on {self.cluster}")

    def _axes(self, model: Model, service: Service) -> tuple[Axis, Axis]:
        x = axis(self.x, model, service, self.x_from, self.x_to, self.x_points)
        return x, axis(self.y, model, service, self.y_from, self.y_to, self.y_points)

    def _check_links(self, cluster: Cluster, axes: tuple[Axis, Axis]) -> None:
        """Refuse points that would need a link speed that nobody states.

        Raises:
            InputError: naming the device, as for a cluster of that size.
        """
        values = {each.name: each.values for each in axes}
        devices = float(values.get("devices", np.array([float(cluster.devices)])).max())
        domain = float(
            values.get("domain", np.array([float(cluster.accelerator.scale_up_devices)])).min()
        )
        if devices <= domain or "scale_out" in values or self.cluster.endswith(".toml"):
            return
        chip = hardware_facts(re.sub(r"^\s*\d+\s*x\s*", "", self.cluster.lower()))
        if chip.scale_out_bandwidth is None:
            raise InputError(
                f"{chip.name}: no link speed is known between domains, and {devices:g} devices in "
                f"domains of {domain:g}"
                " need one; stay within a domain, or take scale_out as the other axis"
            )

    def _plot(self, found: PhaseMap, path: Path) -> None:
        from qsopt.report.map_plot import Mark, plot_map  # noqa: PLC0415  (matplotlib is slow to import)

        here = {"context": self.context, "devices": float(load_cluster(self.cluster).devices)}
        marks = (
            [Mark(here[self.x], here[self.y], "as given")] if {self.x, self.y} == set(here) else []
        )
        title = (
            f"{self.model} against its dense twin on {self.cluster}, {self.efficiency} efficiencies"
        )
        plot_map(found, title, path, marks)

    def _record(self, found: PhaseMap) -> dict[str, Any]:
        fixed = {"context": self.context, "batch": self.batch, "tpot_ms": self.tpot_ms}
        return {
            "model": self.model,
            "cluster": self.cluster,
            "efficiency": self.efficiency,
            "law": self.law_used,
            **{
                name: value
                for name, value in fixed.items()
                if name.removesuffix("_ms") not in (self.x, self.y)
            },
            "utilization": self.utilization,
            "axes": [
                {"name": each.name, "what": each.kind.what, "values": each.values.tolist()}
                for each in (found.x, found.y)
            ],
            "order": "arrays are [x][y]",
            "verdict": found.verdicts,
            "ratio_dense_over_moe": found.ratio.tolist(),
            "s": found.s.tolist(),
            "q": found.q.tolist(),
            "q_low": None if found.q_low is None else found.q_low.tolist(),
            "q_high": None if found.q_high is None else found.q_high.tolist(),
            "sure": None if found.sure is None else found.sure.tolist(),
            "believed": None if found.believed is None else found.believed.tolist(),
            "moe": _side_record(found.moe, found.layouts[0]),
            "dense": _side_record(found.dense, found.layouts[1]),
        }


def _side_record(side: Optima, layouts: Deployment) -> dict[str, Any]:
    """Throughput, batch and layout of each point; layouts are listed once, and null where nothing
    fits.
    """
    used = sorted(set(side.layout.ravel().tolist()) - {-1})
    place = {index: position for position, index in enumerate(used)} | {-1: None}
    return {
        "throughput_tokens_per_s": side.throughput.tolist(),
        "batch": side.batch.tolist(),
        "layout": [[place[index] for index in column] for column in side.layout.tolist()],
        "layouts": [_layout_record(layouts, index) for index in used],
    }


def _layout_record(layouts: Deployment, index: int) -> dict[str, Any]:
    sizes = {"tp": "tensor", "dp": "data", "pp": "pipeline", "ep": "expert", "etp": "expert_tensor"}
    numbers = {
        short: int(np.asarray(getattr(layouts, name))[index]) for short, name in sizes.items()
    }
    return {**numbers, "way": "dispatched" if np.asarray(layouts.dispatched)[index] else "gathered"}


def _show(found: PhaseMap, title: str) -> None:
    """A map of letters, highest y first, with its legend and shares."""
    letters = {
        "dense wins": "D",
        "moe wins": "m",
        "tie": "=",
        "moe infeasible": "d",
        "dense infeasible": "M",
    }
    out, verdicts = console(), found.verdicts
    out.print(f"[bold]{title}[/bold]")
    columns = range(0, len(verdicts), -(-len(verdicts) // 60))
    for row in range(len(verdicts[0]) - 1, -1, -len(verdicts[0]) // 24):
        text = "".join(letters.get(verdicts[column][row], ".") for column in columns)
        out.print(f"{found.y.values[row]:>12.4g} {text}", highlight=False)
    out.print(
        f"x: {found.x.kind.what}, {found.x.values[0]:.4g} to {found.x.values[-1]:.4g}; y: "
        f"{found.y.kind.what}",
        markup=False,
    )
    out.print("D dense wins, m MoE wins, d only dense fits, M only MoE fits, . neither")
    counts = Counter(outcome for column in verdicts for outcome in column)
    total = sum(counts.values())
    out.print(
        ", ".join(f"{outcome} {count / total:.1%}" for outcome, count in counts.most_common())
    )
    if found.sure is not None:
        out.print(
            f"the winner does not depend on q within its 80% interval at {found.sure.mean():.1%} "
            f"of the points"
        )
