"""Both sides in their exact best designs at every row of a sweep."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from qsopt.api.places import Q, Question, moved
from qsopt.arrays import scalar
from qsopt.comparison.compare import verdict
from qsopt.comparison.contenders import Contender, RequestDuel, draft_of, request_duel
from qsopt.comparison.dense import dense_match, size_factor
from qsopt.comparison.duel import best_of
from qsopt.comparison.twin import aligned
from qsopt.errors import unknown_name
from qsopt.physics.evaluate import compiled_metrics
from qsopt.precision import in_float64
from qsopt.report.inquiry import Inquiry
from qsopt.report.records.design import deployment_record
from qsopt.serving.metrics import compiled_request_metrics
from qsopt.serving.replica import Served
from qsopt.spec.changes import SIZES, changed
from qsopt.spec.model import Model

DECODE = ("throughput", "per_device", "per_user", "tpot")
"""Metrics of sides by decode alone."""

REQUESTS = (*DECODE, "requests", "ttft", "end_to_end")
"""Metrics of sides on requests."""


@dataclass(frozen=True)
class Best:
    """A side in its best design."""

    numbers: dict[str, float]
    """By metric; zero, and times infinite, where nothing keeps the limits."""
    layout: str
    slopes: dict[str, float]
    """Of the throughput."""


@dataclass(frozen=True)
class PairSweep:
    """Rows of a sweep over both sides."""

    inquiry: Inquiry
    inputs: dict[str, np.ndarray]
    metrics: Sequence[str] | None
    slopes: bool

    def columns(self) -> dict[str, np.ndarray]:
        """The table.

        Raises:
            InputError: if there is no such metric, or a row is no question.
        """
        for name in self.metrics or ():
            if name not in self._every:
                raise unknown_name("metric", name[:60], self._every)
        rows = self._rows()
        found = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        return {**self.inputs, **found}

    @property
    def _requests(self) -> bool:
        return self.inquiry.service.workload.prompt is not None

    @property
    def _every(self) -> Sequence[str]:
        return REQUESTS if self._requests else DECODE

    @in_float64
    def _rows(self) -> list[dict[str, Any]]:
        duels: dict[tuple[float, ...], RequestDuel] = {}
        names, count = list(self.inputs), len(next(iter(self.inputs.values())))
        rows = []
        for place in range(count):
            row = {name: float(self.inputs[name][place]) for name in names}
            rows.append(self._row(row, duels))
        return rows

    def _row(
        self, row: dict[str, float], duels: dict[tuple[float, ...], RequestDuel]
    ) -> dict[str, Any]:
        free = {name: value for name, value in row.items() if name not in (*SIZES, Q)}
        sizes = {name: value for name, value in row.items() if name in SIZES}
        asked = moved(Question(changed(self.inquiry.model, sizes), self.inquiry.service), free)
        asked = jax.tree.map(np.asarray, asked)
        inquiry = replace(self.inquiry, model=asked.model, service=asked.service)
        q = row.get(Q, inquiry.believe().q)
        named = inquiry.named
        match = dense_match(asked.model, scalar(q), inquiry.kind) if named is None else named
        sides = (asked.model, match)
        if self._requests:
            key = tuple(row[name] for name in row if not name.startswith(_DUEL_KEEPS))
            if key not in duels:
                duels[key] = request_duel(asked.model, match, asked.service, inquiry.kind)
            both = [self._served(side, asked, free) for side in (duels[key].moe, duels[key].dense)]
        else:
            both = [self._decoding(side, asked, free) for side in sides]
        q = float(size_factor(asked.model, match)) if named is not None else q
        return {"q": q, **self._joined(both)} if Q not in row else self._joined(both)

    def _joined(self, both: list[Best]) -> dict[str, Any]:
        """Columns of both sides, the ratio and who wins."""
        moe, dense = both
        rates = moe.numbers["throughput"], dense.numbers["throughput"]
        found: dict[str, Any] = {
            "ratio": rates[1] / rates[0] if all(rates) else np.nan,
            "verdict": verdict(*rates),
        }
        for name, side in (("moe", moe), ("dense", dense)):
            for metric in self.metrics or self._every:
                found[f"{name}_{metric}"] = side.numbers[metric]
            found[f"{name}_layout"] = side.layout
            for each, slope in side.slopes.items():
                found[f"slope_{name}_throughput_{each}"] = slope
        return found

    def _decoding(self, model: Model, asked: Question, free: dict[str, float]) -> Best:
        service, side = asked.service, aligned(model, asked.model)
        best = best_of(model, asked.model, service)
        if not float(best.throughput):
            return _nothing(DECODE, free if self.slopes else {})
        layout = best.deployment

        def throughput(numbers: dict[str, Any]) -> Any:
            there = moved(Question(side, service), numbers).service
            return compiled_metrics(side, there, layout).throughput

        reached = compiled_metrics(side, service, layout)
        words = deployment_record(model, service, layout, reached.replicas)["in_words"]
        numbers = {name: float(getattr(reached, name)) for name in DECODE}
        return Best(numbers, words, self._slopes(throughput, free))

    def _served(self, side: Contender, asked: Question, free: dict[str, float]) -> Best:
        service = asked.service
        best = side.side(service).best
        if best is None or not bool(best.reached.feasible):
            return _nothing(REQUESTS, free if self.slopes else {})

        def throughput(numbers: dict[str, Any]) -> Any:
            there = moved(Question(side.aligned, service), numbers).service
            served = Served(side.aligned, there, draft_of(side.model, service))
            return compiled_request_metrics(served, best.plan, best.way).throughput

        numbers = {name: float(getattr(best.reached, name)) for name in REQUESTS}
        layout = best.plan.decode
        words = deployment_record(side.model, service, layout, 1)["in_words"]
        return Best(numbers, f"{best.way}; {words}", self._slopes(throughput, free))

    def _slopes(self, throughput: Any, free: dict[str, float]) -> dict[str, float]:
        """Derivatives by the numbers of the service; those of the model are its own."""
        known = {name: value for name, value in free.items() if not name.startswith("model.")}
        if not self.slopes or not known:
            return {}
        point = {name: scalar(value) for name, value in known.items()}
        found = jax.jacfwd(throughput)(point)
        return {name: float(found[name]) for name in known}


_DUEL_KEEPS = ("prompt", "answer", "cached", "tpot", "ttft", "load", "acceptance", "workload.")
"""Inputs that leave the candidates of both sides as they are."""


def _nothing(metrics: Sequence[str], free: dict[str, float]) -> Best:
    """A side that keeps no limits."""
    late = ("tpot", "ttft", "end_to_end")
    numbers = {name: np.inf if name in late else 0.0 for name in metrics}
    slopes = {name: np.nan for name in free if not name.startswith("model.")}
    return Best(numbers, "", slopes)
