"""`qsopt map`: who wins over two axes, an MoE or its dense twin."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from qsopt.api.maps import check_links
from qsopt.catalog.accelerators import load_cluster
from qsopt.catalog.models import trained_context
from qsopt.cli.options import Question
from qsopt.cli.quantities import OptionalCount, range_end
from qsopt.errors import InputError, exactly
from qsopt.files import check_plot
from qsopt.maps.axes import Axis, AxisName, axis
from qsopt.maps.pair import MatchedPair
from qsopt.maps.phase_map import PhaseMap, phase_map
from qsopt.maps.request_map import RequestMap, request_map
from qsopt.report.inquiry import Inquiry
from qsopt.report.map_text import show_map, show_ways
from qsopt.report.records import answer_json
from qsopt.report.records.maps import map_record, request_map_record
from qsopt.report.text import say_hardware
from qsopt.spec.model import Model
from qsopt.spec.service import Service


@dataclass(frozen=True)
class Map(Question):
    """Who wins over two axes, an MoE or its dense twin, each in its own best legal deployment at
    every point.

    Axes: context, batch, devices, bandwidth, capacity, scale_up, scale_out, domain, sparsity, q,
    tpot; with prompt and answer: prompt, answer, cached, ttft, tpot, load, acceptance, bandwidth,
    capacity, scale_up, scale_out; in tokens, bytes, byte/s and seconds.
    """

    takes_requests: ClassVar[bool] = True
    usual_context: ClassVar[float | None] = 8192.0
    x: AxisName | None = None
    """What moves to the right: context, or of requests the prompt, if left out. batch: sequences
    decoding at once in the whole cluster, at most; scale_up and scale_out: links inside and between
    domains; domain: devices of a scale-up domain; sparsity: s, by experts per token at fixed total.
    """
    y: AxisName | None = None
    """What moves upwards: devices, or of requests the answer, if left out."""
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
    """Write the map to this PNG, SVG or PDF file, and its numbers to a CSV file beside it."""

    def run(self) -> None:
        """Make the map and print."""
        check_plot(self.plot)
        self._check_batch()
        model, service = self.load()
        axes = self._axes(model, service)
        check_links(service.cluster, axes)
        inquiry = self.inquiry(model, service)
        inquiry.check_one_law()
        found = (self._of_requests if self.on_requests else self._of_steps)(inquiry, axes)
        if self.plot is not None:
            self._plot(found, self.plot)
        if self.json:
            print(answer_json(self._record(found, inquiry)))
            return
        show_map(found, self._title(), trained_context(self.model))
        say_hardware(inquiry.hardware_notes)
        if isinstance(found, RequestMap):
            show_ways(found)

    def _check_batch(self) -> None:
        if self.batch is None:
            return
        if self.on_requests:
            raise InputError("batch is about decode alone: of requests the best is taken")
        if not self.batch >= 1 or "batch" in self._names():
            raise InputError(
                f"batch = {exactly(self.batch)}: give 1 or more sequences, and none where "
                "batch is an axis"
            )

    def _of_steps(self, inquiry: Inquiry, axes: tuple[Axis, Axis]) -> PhaseMap:
        kind, named = inquiry.kind, inquiry.named
        model, service = inquiry.model, inquiry.service
        return phase_map(model, service, *axes, inquiry.believe, self.batch, kind=kind, named=named)

    def _of_requests(self, inquiry: Inquiry, axes: tuple[Axis, Axis]) -> RequestMap:
        q = inquiry.believe().q
        pair = MatchedPair(inquiry.model, inquiry.service, q, inquiry.kind, inquiry.named)
        return request_map(pair, *axes)

    def _record(self, found: PhaseMap | RequestMap, inquiry: Inquiry) -> dict[str, Any]:
        if isinstance(found, RequestMap):
            return request_map_record(found, inquiry)
        return map_record(found, inquiry, self.batch)

    def _title(self) -> str:
        return f"{self.model} against its dense twin on {self.cluster}"

    def _names(self) -> tuple[AxisName, AxisName]:
        if self.on_requests:
            return self.x or "prompt", self.y or "answer"
        return self.x or "context", self.y or "devices"

    def _axes(self, model: Model, service: Service) -> tuple[Axis, Axis]:
        first, second = self._names()
        x = range_end(self.x_from, first, "x_from"), range_end(self.x_to, first, "x_to")
        y = range_end(self.y_from, second, "y_from"), range_end(self.y_to, second, "y_to")
        return (
            axis(first, model, service, *x, self.x_points),
            axis(second, model, service, *y, self.y_points),
        )

    def _plot(self, found: PhaseMap | RequestMap, path: Path) -> None:
        from qsopt.report.map_plot import Mark, plot_map  # noqa: PLC0415  (matplotlib is slow to import)

        here = self._as_given()
        marks = [Mark(here[0], here[1], "as given")] if here else []
        plot_map(found, f"{self._title()}, {self.efficiency} efficiencies", path, marks)

    def _as_given(self) -> tuple[float, float] | None:
        """The numbers of the question along both axes; None where one has none."""
        known = (
            {"prompt": self.prompt, "answer": self.answer, "cached": self.cached or None}
            if self.on_requests
            else {
                "context": self.context or self.usual_context,
                "devices": float(load_cluster(self.cluster).devices),
            }
        )
        x, y = (known.get(name) for name in self._names())
        return None if x is None or y is None else (x, y)
