"""Does gradient search find the true optimum, and does it get there sooner than black-box search?

`python -m experiments.search.search_benchmark` writes what every method reached on every problem,
and when, with a figure, into `results/search_benchmark`, and docs/search-benchmark.md.

Narrow problems are solved by the gradient search and by enumeration of their whole grid, and every
method is timed until it is within 1 % of the optimum, on the same exact model, in the same run. On
wide problems, with twelve free variables and more, nothing can be enumerated: there every method
has the same seconds. Methods run when what they need is compiled.
"""

import os
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from experiments.framework import study
from experiments.framework.pieces import Row
from experiments.search import search_report, search_rivals, search_tasks
from experiments.search.search_rivals import METHODS, DesignBox, race
from experiments.search.search_tasks import Task, narrow_tasks, wide_tasks
from qsopt.files import write_text
from qsopt.search.admission import Admission
from qsopt.search.evaluator import Designs, Evaluator
from qsopt.search.exact import Scorer
from qsopt.search.optimize import STARTS, Solution, optimize, search_relaxed
from qsopt.search.refine import refine

CLOSE = 0.01
"""Distance from the optimum that counts as there: of logs, for an advantage itself."""

GRADIENT = "gradient"


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Which problems, and how long."""

    narrow: tuple[int, ...] = (0, 40)
    """Narrow problems from the first number to before the second."""
    wide: tuple[int, ...] = (0, 6)
    """Wide ones."""
    narrow_seconds: float
    """Budget of a black-box method on a narrow problem."""
    wide_seconds: float
    """Budget of every method on a wide problem."""
    certify: float
    """Designs that may be enumerated."""
    page: str = ""
    """Where the tables are written; nowhere if left out."""


def narrow_rows(task: Row, seconds: float, certify: float, seed: int) -> list[Row]:
    """One narrow problem by all methods."""
    asked = Task(**task)
    solution = optimize(asked.problem(), seed, certify=certify)
    about = {"problem": asked.name, **task, "load": os.getloadavg()[0]}
    certificate = solution.certificate
    if solution.best is None or certificate is None:
        conflicts = ", ".join(conflict.constraint for conflict in solution.conflicts)
        return [{**about, "feasible": False, "conflicts": conflicts}]
    merit = _log(asked, certificate.exact_optimum)
    hits, whole = _gradient(asked, seed, merit - CLOSE)
    row = {
        **about,
        "feasible": True,
        "optimum": certificate.exact_optimum,
        "gap": certificate.gap,
        "relaxed": _log(asked, solution.relaxed_value) - merit,
        "all_real": _log(asked, solution.all_real_value) - merit,
        "grid": certificate.enumerated,
        "complete": certificate.complete,
        "certify_s": solution.seconds["certify"],
        "search_s": whole,
        f"{GRADIENT}_s": hits[0],
        f"{GRADIENT}_evaluations": hits[1],
    }
    evaluator = _prepared(asked)
    for name in METHODS:
        box = race(name, partial(DesignBox, evaluator, seconds), seed)
        spent, count = box.time_to(merit - CLOSE) or (None, None)
        row |= {f"{name}_s": spent, f"{name}_evaluations": count, f"{name}_gap": merit - box.best}
    return [row]


def _prepared(task: Task) -> Evaluator:
    """What black boxes are scored by; the dense optima that an advantage needs are known before
    they start.
    """
    problem = task.problem()
    evaluator = Evaluator.for_problem(problem)
    if task.objective == "advantage":
        values = [variable.legal() for variable in problem.architecture]
        sizes = evaluator.admission.sizes(evaluator.admission.candidates(values))
        evaluator.dense.exact_throughputs(sizes.match)
    return evaluator


@dataclass
class _Watched(Evaluator):
    """An evaluator that notes when a design came close to the optimum."""

    target: float = np.inf
    began: float = 0.0
    hit: tuple[float, int] | None = None

    def designs(self, rows, layouts=None) -> Designs:
        """As always; a rough judgment, with the dense side from its curve, does not count."""
        found = super().designs(rows, layouts)
        exact = layouts is None or self.problem.objective != "advantage"
        if self.hit is None and exact and len(found.merits) and found.merits.max() >= self.target:
            self.hit = (time.perf_counter() - self.began, self.evaluations)
        return found


def _gradient(
    task: Task, seed: int, target: float
) -> tuple[tuple[float | None, int | None], float]:
    """Seconds and exact evaluations until the gradient search came close, and seconds of the whole
    of it, both warm.
    """
    problem = task.problem()
    evaluator = _Watched(
        problem,
        Admission(problem),
        Scorer.for_problem(problem),
        target=target,
        began=time.perf_counter(),
    )
    found, relaxed = search_relaxed(evaluator, seed, STARTS)
    refine(evaluator, relaxed, found)
    hit = (None, None) if evaluator.hit is None else evaluator.hit
    return hit, time.perf_counter() - evaluator.began


def wide_rows(task: Row, seconds: float, seed: int) -> list[Row]:
    """One wide problem by all methods, all with the same seconds."""
    asked = Task(**task)
    problem = asked.problem()
    first = optimize(problem, seed, certify=0)
    began, tries = time.perf_counter(), []
    while time.perf_counter() - began < seconds and (not tries or tries[-1].best is not None):
        tries.append(optimize(problem, seed + len(tries), certify=0))
    best = max(_log(asked, one.value) for one in tries)
    row = {
        "problem": asked.name,
        **task,
        "load": os.getloadavg()[0],
        "free": sum(variable.free for variable in problem.variables) + 1,
        "designs": _designs(first, Evaluator.for_problem(problem)),
        "seconds": seconds,
        "search_s": tries[0].seconds["search"],
        "searches": len(tries),
        "gradient_first": _log(asked, tries[0].value),
        "gradient": best,
        "value": max(one.value for one in tries),
        "relaxed": max(_log(asked, one.relaxed_value) for one in tries) - best,
    }
    evaluator = Evaluator.for_problem(problem)
    for name in METHODS:
        box = race(name, partial(DesignBox, evaluator, seconds), seed)
        row |= {name: box.best if np.isfinite(box.best) else None, f"{name}_evaluations": box.count}
    return [row]


def _designs(solution: Solution, evaluator: Evaluator) -> float:
    """Architectures times layouts of the grid, batches not counted."""
    assert solution.best is not None
    sizes = [float(variable.legal().size) for variable in evaluator.problem.architecture]
    return float(np.prod(sizes)) * evaluator.scorer.layouts.tensor.shape[0]


def _log(task: Task, value: float) -> float:
    return value if task.objective == "advantage" else float(np.log(value))


def main(settings: Settings) -> None:
    """Both kinds of problem, their tables and the figure."""
    with study.Study("search_benchmark", settings) as run:
        helpers = (search_rivals, search_tasks)
        budget = {
            "seconds": settings.narrow_seconds,
            "certify": settings.certify,
            "seed": settings.seed,
        }
        narrow = [
            {"task": asdict(task), **budget} for task in narrow_tasks()[slice(*settings.narrow)]
        ]
        budget = {"seconds": settings.wide_seconds, "seed": settings.seed}
        wide = [{"task": asdict(task), **budget} for task in wide_tasks()[slice(*settings.wide)]]
        rows = [row for piece in run.pieces(narrow, narrow_rows, helpers) for row in piece]
        wider = [row for piece in run.pieces(wide, wide_rows, helpers) for row in piece]
        summary = search_report.summary(rows, wider, CLOSE, settings.narrow_seconds)
        run.write(
            [*rows, *wider],
            lambda _: search_report.draw(rows, settings.narrow_seconds),
            summary=summary,
        )
        if settings.page:
            write_text(
                Path(settings.page), search_report.page(rows, wider, summary, asdict(settings))
            )


if __name__ == "__main__":
    study.start(main, Settings, "search_benchmark")
