"""`qsopt compare`: an MoE against its quality-matched dense twin."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np

from qsopt.arrays import scalar
from qsopt.cli.options import Question
from qsopt.comparison.compare import Duel, duel, settle, verdict
from qsopt.comparison.odds import odds
from qsopt.comparison.opinions import opinions
from qsopt.errors import InputError
from qsopt.fitted.expected import Expectation
from qsopt.quality import QDistribution
from qsopt.report.records import (
    belief_record,
    comparison_record,
    error_record,
    opinion_records,
    to_json,
)
from qsopt.report.text import show_comparison
from qsopt.spec.model import Model, moe_layers
from qsopt.spec.service import Service


def _is_folder(path: Path) -> bool:
    """Whether a folder can be there: it, or the first of its parents that exists, is one."""
    return path.is_dir() or (not path.exists() and _is_folder(path.parent))


@dataclass(frozen=True)
class Compare(Question):
    """An MoE against the dense model of the same quality, each in its own best legal deployment and
    batch.
    """

    seed: int = 0
    """Of the draws behind the probability that dense wins."""
    plot: Path | None = None
    """Write a plot of the ratio over context length to this PNG file."""

    def run(self) -> None:
        """Compare and print."""
        self._check()
        model, service = self.load()
        if moe_layers(model) is None:
            raise InputError(
                "the model is dense: compare needs a Mixture-of-Experts model; use evaluate for a "
                "dense one"
            )
        held = self.believe(model)
        result, found = settle(model, service, scalar(held.q))
        twin, expected = result.dense.model, self.expectation(model)
        record = {
            "model": self.model,
            "cluster": self.cluster,
            "context": self.context,
            **comparison_record(result, service, self.efficiency),
            **belief_record(held, self.law_used),
            "expected_error": {
                name: error_record(expected, side.metrics, side.deployment)
                if bool(side.feasible)
                else None
                for name, side in (("moe", result.moe), ("dense", result.dense))
            },
            "probability_dense_wins": self._odds(
                model, service, found, held.distribution, expected
            ),
            "probability_dense_wins_at_q": self._odds(model, service, found, held.q, expected),
            "laws": self._opinions(model, service, found),
            "by_utilization": [
                self._at_utilization(service, model, twin, share) for share in (0.85, 0.9, 0.95)
            ],
        }
        if self.plot is not None:
            self._plot(service, model, twin, self.plot)
        if self.json:
            print(to_json(record))
        else:
            title = (
                f"{self.model} against its dense twin on {self.cluster}, {self.context:,.0f} "
                f"tokens of context"
            )
            show_comparison(record, title)

    def _check(self) -> None:
        """Refuse what would fail only after all the computing.

        Raises:
            InputError: if the seed is negative, or no plot can be written to the path.
        """
        if self.seed < 0:
            raise InputError(f"seed = {self.seed}: give a whole number, zero or more")
        if self.plot is not None and (
            self.plot.suffix != ".png" or self.plot.is_dir() or not _is_folder(self.plot.parent)
        ):
            raise InputError(
                f"plot = {self.plot}: give a file that ends in .png, in a folder that can be "
                f"written"
            )

    def _odds(
        self,
        model: Model,
        service: Service,
        found: Duel,
        q: QDistribution | float | None,
        expected: Expectation | None,
    ) -> float | None:
        """Probability that dense wins under the model's own error; without a distribution of q
        there is none.
        """
        spreads = None if expected is None else expected.spreads()
        return (
            None
            if q is None
            else float(odds(model, service, found, q, self.seed, spreads=spreads).dense_wins)
        )

    def _opinions(self, model: Model, service: Service, found: Duel) -> list[dict[str, Any]]:
        """All laws if asked for, else the one in use is all there is to say."""
        if self.law != "all":
            return []
        moe = float(found.throughputs[0])
        return opinion_records(
            opinions(model, self.training_tokens, service, found.layouts[1], moe)
        )

    def _at_utilization(
        self, service: Service, model: Model, twin: Model, share: float
    ) -> dict[str, Any]:
        """Answers near the memory limit are fragile, so say how they move with it."""
        service = eqx.tree_at(lambda p: p.workload.utilization, service, np.asarray(share))
        moe, dense = map(float, duel(model, twin, service).throughputs)
        ratio = dense / moe if moe and dense else None
        return {"utilization": share, "ratio_dense_over_moe": ratio, "verdict": verdict(moe, dense)}

    def _plot(self, service: Service, model: Model, twin: Model, path: Path) -> None:
        from qsopt.report.plot import ratio_over_context  # noqa: PLC0415  (matplotlib is slow to import)

        contexts = 2.0 ** np.arange(10, 20.5, 0.5)

        def at(context: float) -> tuple[float, float]:
            service_there = eqx.tree_at(lambda p: p.workload.context, service, np.asarray(context))
            moe, dense = duel(model, twin, service_there).throughputs
            return float(moe), float(dense)

        title = f"{self.model} on {self.cluster}, {self.efficiency} efficiencies"
        ratio_over_context(
            contexts, [at(context) for context in contexts], self.context, title, path
        )
