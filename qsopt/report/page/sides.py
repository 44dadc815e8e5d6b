"""Both sides of a page's question in their exact best ways of serving, whatever is moved."""

from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import numpy as np

from qsopt.comparison.compare import verdict
from qsopt.comparison.contenders import RequestDuel
from qsopt.maps.points import NUMBERS
from qsopt.report.inquiry import Inquiry
from qsopt.report.records.intervals import central_ratio, of_dense, ratio_intervals, speed_errors
from qsopt.report.records.launch import launch_record
from qsopt.report.records.serving import point_record
from qsopt.serving.ranking import Option
from qsopt.spec.service import Service


def moved(service: Service, **numbers: float) -> Service:
    """A service with other numbers, by the names of maps."""
    for name, value in numbers.items():
        service = eqx.tree_at(NUMBERS[name], service, np.asarray(float(value)))
    return service


@dataclass(frozen=True)
class PageSides:
    """Both sides, on requests."""

    inquiry: Inquiry
    """What was asked; its service has a prompt and an answer."""
    duel: RequestDuel

    @property
    def dense(self) -> Inquiry:
        """The question about the dense side."""
        return of_dense(self.inquiry, self.duel.dense.model)

    def at(self, numbers: dict[str, float] | None = None, launch: bool = False) -> dict[str, Any]:
        """Both sides where some numbers of the requests are others: who wins, by how much and with
        which interval, and in which layouts.

        Args:
            numbers: by the names of maps; those of the question if left out.
            launch: whether the commands that launch them are wanted.
        """
        service = moved(self.inquiry.service, **(numbers or {}))
        moe, dense = self.duel.moe.best(service), self.duel.dense.best(service)
        rates = _rate(moe), _rate(dense)
        asked = replace(self.inquiry, service=service), replace(self.dense, service=service)
        ratio = rates[1] / rates[0] if all(rates) else None
        return {
            "verdict": verdict(*rates),
            "ratio": ratio,
            "interval": _interval(asked, (moe, dense), ratio),
            "moe": _side(asked[0], moe, launch),
            "dense": _side(asked[1], dense, launch),
        }


def _rate(best: Option | None) -> float:
    """Output tokens of the cluster, 0 where nothing keeps the limits [tokens/s]."""
    return 0.0 if best is None else float(best.reached.throughput)


def _interval(
    asked: tuple[Inquiry, Inquiry],
    best: tuple[Option | None, Option | None],
    ratio: float | None,
) -> list[float] | None:
    """The central 80 % of the ratio; None without one, or without evidence."""
    (moe, dense), (first, second) = asked, best
    if ratio is None or first is None or second is None:
        return None
    one, other = (moe, first.plan.decode), (dense, second.plan.decode)
    return central_ratio(ratio_intervals(ratio, speed_errors(one, other, requests=True)))


def _side(asked: Inquiry, best: Option | None, launch: bool) -> dict[str, Any] | None:
    """What a side reaches and how; None where nothing keeps the limits."""
    if best is None:
        return None
    point = point_record(best, asked)
    row = {
        "tokens_per_s": _rate(best),
        "tokens_per_s_per_device": point["tokens_per_s_per_device"],
        "ttft_s": point["ttft_s"],
        "tpot_s": point["tpot_s"],
        "layout": layout_words(best, point),
    }
    return row | (launch_record(best, asked) if launch else {})


def layout_words(option: Option, point: dict[str, Any]) -> str:
    """The way and the layouts of a plan, as people say them."""
    writes = point["decode"]["in_words"]
    if option.way == "disaggregated":
        reads = point["prefill"]
        return (
            f"two pools; writes: {writes}; reads, {reads['devices']} devices: {reads['in_words']}"
        )
    return f"{option.way}; {writes}"
