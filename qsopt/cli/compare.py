"""`qsopt compare`: an MoE against its quality-matched dense twin."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Float

from qsopt.arrays import scalar
from qsopt.catalog.models import trained_context
from qsopt.cli.options import Question
from qsopt.comparison.compare import COMPARED, settle
from qsopt.comparison.contenders import RequestDuel
from qsopt.comparison.duel import throughput_of
from qsopt.comparison.requests import requests_of_context, settle_requests, who_wins
from qsopt.errors import InputError, check_seed
from qsopt.files import check_plot
from qsopt.report.comparison_text import show_comparison
from qsopt.report.inquiry import ALL
from qsopt.report.records import answer_json
from qsopt.report.records.comparison import compare_record
from qsopt.report.records.requests import compare_requests_record
from qsopt.report.records.serving import workload_record
from qsopt.report.requests_text import show_request_comparison, show_requests_beside
from qsopt.report.style import tokens_text
from qsopt.spec.model import Model, routed_layers
from qsopt.spec.service import Service


class Lengths(NamedTuple):
    """What a plot goes along."""

    what: str
    """Context or answer."""
    own: float
    """Of the question [tokens]."""
    values: Float[np.ndarray, " points"]
    """Along the plot [tokens]."""
    reached: Callable[[float], tuple[float, float]]
    """Throughputs of the MoE and of its match at a length, 0 where infeasible [tokens/s]."""


@dataclass(frozen=True)
class Compare(Question):
    """An MoE against the dense model of the same quality, each in its own best legal deployment and
    batch; with prompt and answer, each in its own best way of serving whole requests.
    """

    takes_requests: ClassVar[bool] = True
    seed: int = 0
    """Of the draws behind the probability that dense wins."""
    plot: Path | None = None
    """Write a plot of the ratio over the length of context, or of the answer, and of the penalties
    that make it, to this PNG, SVG or PDF file, and its numbers to a CSV file beside it.
    """

    def run(self) -> None:
        """Compare and print."""
        self._check()
        model, service = self.load()
        routed_layers(model, COMPARED)
        if self.on_requests:
            self._of_requests(model, service)
            return
        inquiry = self.inquiry(model, service)
        q, kind = scalar(inquiry.believe().q), inquiry.kind
        result, duel = settle(model, service, q, kind, inquiry.named)
        record = compare_record(result, inquiry, duel, self.seed)
        self._plot(_contexts(service, model, result.dense.model), record)
        if self.json:
            print(answer_json(record))
        else:
            title = (
                f"{self.model} against its dense twin on {self.cluster}, {self.context:,.0f} "
                f"tokens of context"
            )
            show_comparison(record, title)
            asked = requests_of_context(service)
            who = who_wins(model, result.dense.model, asked, kind)
            if who is not None:
                show_requests_beside(workload_record(asked.workload), who.verdict, who.ratio)

    def _of_requests(self, model: Model, service: Service) -> None:
        """Compare on whole requests and print."""
        inquiry = self.inquiry(model, service)
        q, kind = scalar(inquiry.believe().q), inquiry.kind
        result, duel = settle_requests(model, service, q, kind, inquiry.named)
        record = compare_requests_record(result, inquiry, duel)
        self._plot(_answers(service, duel), record)
        if self.json:
            print(answer_json(record))
        else:
            title = f"{self.model} against its dense match on {self.cluster}: "
            show_request_comparison(record, title + self.asked_in_words())

    def _check(self) -> None:
        """Refuse what would fail only after all the computing.

        Raises:
            InputError: if the seed is negative, no plot can be written to the path, or an option
                has no meaning for requests.
        """
        if self.on_requests and self.law == ALL:
            raise InputError(
                "law = all: a comparison on requests rests on one law; give one, such as power, or "
                "see all side by side with --context"
            )
        check_seed(self.seed)
        check_plot(self.plot)

    def _plot(self, lengths: Lengths, record: dict[str, Any]) -> None:
        """The ratio along a length, and what makes it at the length that was asked about."""
        if self.plot is None:
            return
        from qsopt.report.plot import comparison_plot  # noqa: PLC0415  (matplotlib is slow to import)

        reached = [lengths.reached(value) for value in lengths.values]
        penalties = record["penalties"]
        comparison_plot(
            lengths.values,
            reached,
            lengths.own,
            penalties,
            self._title(record["q"]),
            self.plot,
            lengths.what,
            self._made_for(),
        )

    def _title(self, q: float) -> str:
        """Of the plot: who is compared, what is asked, and how."""
        match = self.dense or f"dense match ({self.twin})"
        asked = "decode alone"
        if self.on_requests:
            asked = f"whole requests, {tokens_text(self.prompt or 0.0)} of prompt"
        limit = "" if self.tpot_ms is None else f", a token within {self.tpot_ms:g} ms"
        sides = f"{match} over {self.model} on {self.cluster}"
        weights = self.weight_dtype or "own formats"
        return (
            f"{sides}: {asked}{limit}, q = {q:.2f},\n{weights}, best layouts and batches, "
            f"{self.utilization:.0%} of memory, {self.efficiency} efficiencies"
        )

    def _made_for(self) -> float:
        """The longest context or answer that the config of the MoE speaks of [tokens]."""
        trained = trained_context(self.model)
        return np.inf if trained is None else trained - (self.prompt or 0.0)


def _contexts(service: Service, model: Model, match: Model) -> Lengths:
    def reached(context: float) -> tuple[float, float]:
        there = eqx.tree_at(lambda s: s.workload.context, service, np.asarray(context))
        moe, dense = (throughput_of(side, model, there) for side in (model, match))
        return moe, dense

    return Lengths(
        "context", float(service.workload.context), 2.0 ** np.arange(10, 20.5, 0.5), reached
    )


def _answers(service: Service, duel: RequestDuel) -> Lengths:
    def reached(answer: float) -> tuple[float, float]:
        there = eqx.tree_at(lambda s: s.workload.answer, service, np.asarray(answer))
        return duel.moe.throughput(there), duel.dense.throughput(there)

    own = float(np.asarray(service.workload.answer))
    return Lengths("answer", own, 2.0 ** np.arange(4, 16.5), reached)
