"""`qsopt map`: who wins over two axes, an MoE or its dense twin."""

from dataclasses import dataclass
from pathlib import Path

from qsopt.api.maps import check_links
from qsopt.catalog.accelerators import load_cluster
from qsopt.catalog.models import trained_context
from qsopt.cli.options import Question
from qsopt.cli.quantities import OptionalCount, Tokens, range_end
from qsopt.errors import InputError
from qsopt.maps.axes import Axis, AxisName, axis
from qsopt.maps.phase_map import PhaseMap, phase_map
from qsopt.report.map_text import show_map
from qsopt.report.records import to_json
from qsopt.report.records.maps import map_record
from qsopt.spec.model import Model
from qsopt.spec.service import Service


@dataclass(frozen=True)
class Map(Question):
    """Who wins over two axes, an MoE or its dense twin, each in its own best legal deployment at
    every point.

    Axes: context, batch, devices, bandwidth, capacity, scale_up, scale_out, domain, sparsity, q,
    tpot; in tokens, bytes, byte/s and seconds.
    """

    context: Tokens = 8192.0
    """Tokens in the KV cache of a sequence, unless it is an axis."""
    x: AxisName = "context"
    """What moves to the right. batch: sequences decoding at once in the whole cluster, at most;
    scale_up and scale_out: links inside and between domains; domain: devices of a scale-up domain;
    sparsity: s, by experts per token at fixed total.
    """
    y: AxisName = "devices"
    """What moves upwards."""
    x_from: str | None = None
    """Range of x in units of its axis, such as 1k, 40ms or 3.35TB/s; with --x-to, taken from the
    model and the cluster if left out.
    """
    x_to: str | None = None
    y_from: str | None = None
    y_to: str | None = None
    x_points: int = 50
    """Points along x; whole values that fall together count once."""
    y_points: int = 50
    batch: OptionalCount = None
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
        model, service = self.load()
        axes = self._axes(model, service)
        check_links(service.cluster, axes)
        inquiry = self.inquiry(model, service)
        inquiry.check_one_law()
        kind, named = inquiry.kind, inquiry.named
        found = phase_map(
            model, service, *axes, inquiry.believe, self.batch, kind=kind, named=named
        )
        if self.plot is not None:
            self._plot(found, self.plot)
        if self.json:
            print(to_json(map_record(found, inquiry, self.batch)))
        else:
            title = f"{self.model} against its dense twin on {self.cluster}"
            show_map(found, title, trained_context(self.model))

    def _axes(self, model: Model, service: Service) -> tuple[Axis, Axis]:
        x = range_end(self.x_from, self.x, "x_from"), range_end(self.x_to, self.x, "x_to")
        y = range_end(self.y_from, self.y, "y_from"), range_end(self.y_to, self.y, "y_to")
        return (
            axis(self.x, model, service, *x, self.x_points),
            axis(self.y, model, service, *y, self.y_points),
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
