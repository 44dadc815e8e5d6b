"""`qsopt compare`: an MoE against its quality-matched dense twin."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import numpy as np

from qsopt.cli.options import Case
from qsopt.compare import Comparison, compare, duel, verdict
from qsopt.errors import InputError
from qsopt.model import Model
from qsopt.optimum import Problem
from qsopt.report.records import comparison_record, to_json
from qsopt.report.text import show_comparison


@dataclass(frozen=True)
class Compare(Case):
    """An MoE against the dense model of the same quality, each in its own best legal deployment and batch."""

    law: Literal["geometric"] = "geometric"
    """Which law gives q, the size factor of the dense model of the same quality."""
    q: float | None = None
    """The size factor itself, instead of a law."""
    plot: Path | None = None
    """Write a plot of the ratio over context length to this PNG file."""

    def run(self) -> None:
        """Compare and print."""
        if self.q is not None and not 0 < self.q < np.inf:
            raise InputError(f"q = {self.q:g}: give a positive size factor, such as 4.2")
        loaded = self.load()
        result = compare(*loaded, q=self.q)
        law = self.law if self.q is None else "given"
        record = {
            "model": self.model,
            "cluster": self.cluster,
            "context": self.context,
            **comparison_record(result, loaded[1], loaded[2], self.efficiency, law),
            "by_utilization": [self._at_utilization(loaded, result.dense.model, share) for share in (0.85, 0.9, 0.95)],
        }
        if self.plot is not None:
            self._plot(loaded, self.plot)
        if self.json:
            print(to_json(record))
        else:
            title = f"{self.model} against its dense twin on {self.cluster}, {self.context:,.0f} tokens of context"
            show_comparison(record, title)

    def _at_utilization(self, loaded: tuple, twin: Model, share: float) -> dict[str, Any]:
        """Answers near the memory limit are fragile, so say how they move with it."""
        model, cluster, workload, efficiency = loaded
        problem = Problem(cluster, eqx.tree_at(lambda w: w.utilization, workload, np.asarray(share)), efficiency)
        moe, dense = map(float, duel(model, twin, problem).throughputs)
        ratio = dense / moe if moe and dense else None
        return {"utilization": share, "ratio_dense_over_moe": ratio, "verdict": verdict(moe, dense)}

    def _plot(self, loaded: tuple, path: Path) -> None:
        from qsopt.report.plot import ratio_over_context  # noqa: PLC0415  (matplotlib is slow to import)

        model, cluster, workload, efficiency = loaded
        contexts = 2.0 ** np.arange(10, 20.5, 0.5)

        def at(context: float) -> Comparison:
            return compare(model, cluster, eqx.tree_at(lambda w: w.context, workload, np.asarray(context)), efficiency, self.q)

        title = f"{self.model} on {self.cluster}, {self.efficiency} efficiencies"
        ratio_over_context(contexts, [at(context) for context in contexts], self.context, title, path)
