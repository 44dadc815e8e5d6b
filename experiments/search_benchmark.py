"""Does gradient search find the true optimum, and does it get there sooner than black-box search?

Every problem is solved twice: by `optimize`, and by enumeration of its whole grid (the certificate). With --black-box also by
Optuna's TPE, CMA-ES and random search on the same exact model, until they are within 1 % of the optimum or out of budget.
Prints one Markdown row a problem, and a summary. Run: python experiments/search_benchmark.py [--problems 0:40] [--black-box]
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from qsopt import Workload, load_cluster, load_efficiency, load_model
from qsopt.deployment import Deployment
from qsopt.evaluate import metrics
from qsopt.layouts import layout_batch
from qsopt.optimum import Problem
from qsopt.search.architecture import reference_value, with_architecture
from qsopt.search.exact import is_legal
from qsopt.search.judge import Judge
from qsopt.search.optimize import Solution, optimize
from qsopt.search.problem import DesignProblem, design_problem
from qsopt.search.variables import Variable
from qsopt.workload import NO_LIMIT

MODELS = ("mixtral-8x7b", "qwen3-30b-a3b", "gpt-oss-120b", "qwen3-235b-a22b", "deepseek-v3")
CLUSTERS = ("8xh100", "16xh200", "64xmi300x", "512xb200")
CONTEXTS = (1024.0, 8192.0, 32768.0, 131072.0, 1048576.0)
TPOT = (None, 0.05)
CLOSE = 0.01
SECONDS = 20.0
"""What a black-box search may use, many times what the gradient search takes."""


@dataclass(frozen=True)
class Task:
    """One row of the benchmark."""

    model: str
    cluster: str
    context: float
    tpot: float | None
    objective: str

    def problem(self) -> DesignProblem:
        """The question, on a grid that can be enumerated."""
        reference = load_model(self.model)
        workload = Workload(context=self.context, tpot_limit=self.tpot or NO_LIMIT)
        service = Problem(load_cluster(self.cluster), workload, load_efficiency("fitted"))
        experts, top_k, width = (reference_value(reference, name) for name in ("experts", "top_k", "expert_width"))
        large = self.cluster.startswith("512")
        bounds = {"experts": Variable("experts", max(1.0, experts / 4), 4 * experts, "power_of_two")}
        if large or self.objective == "advantage":
            bounds["top_k"] = Variable("top_k", 1.0, 4 * top_k, "power_of_two")
        if self.objective == "advantage":
            bounds["expert_width"] = Variable("expert_width", width / 4, 4 * width, step=width / 4)
        if not large and self.objective == "throughput":
            del bounds["experts"]
        return design_problem(reference, service, bounds=bounds, objective=self.objective)


def tasks() -> list[Task]:
    """Five families on four kinds of cluster, contexts, limits and objectives taking turns."""
    found = []
    for index, (model, cluster) in enumerate((m, c) for m in MODELS for c in CLUSTERS):
        for turn, objective in enumerate(("throughput", "advantage")):
            context = CONTEXTS[(index + 2 * turn + index // 4) % len(CONTEXTS)]
            found.append(Task(model, cluster, context, TPOT[(index + turn + index // 4) % 2], objective))
    return found


# ---- black box -------------------------------------------------------------------------------------------------------


class OneByOne:
    """The exact objective of one design at a time, over the unit cube, as a black-box search sees it."""

    def __init__(self, problem: DesignProblem, optimum: float) -> None:
        self.problem, self.judge = problem, Judge.of(problem)
        self.free = [each for each in problem.variables if each.free]
        self.target, self.count, self.began, self.reached = optimum, 0, time.perf_counter(), None
        self.score = _one_design(problem)
        self.rows = set()

    @property
    def done(self) -> bool:
        """Whether it came close, or the budget is spent."""
        return self.reached is not None or time.perf_counter() - self.began > SECONDS

    def __call__(self, point: np.ndarray) -> float:
        """Merit, or a large negative number where a constraint is broken."""
        self.count += 1
        values = {each.name: self._legal(each, x) for each, x in zip(self.free, point, strict=False)}
        row = np.array([[values[each.name] for each in self.problem.architecture]])
        batch = max(1.0, values["batch"] // (values["dp"] * values["pp"])) * values["dp"] * values["pp"]
        sizes = tuple(values[name] for name in ("tp", "dp", "pp", "ep"))
        merit = -50.0
        if sizes[0] * sizes[1] % sizes[3] == 0 and self.judge.admission.is_admissible(row)[0]:
            merit = self._merit(row, sizes, batch, 1.0 if point[-1] > 0.5 and sizes[3] > 1 else 0.0)
        close = merit >= self.target + (np.log1p(-CLOSE) if self.problem.objective != "advantage" else -CLOSE)
        if close and self.reached is None:
            self.reached = (self.count, time.perf_counter() - self.began)
        return merit

    def _merit(self, row: np.ndarray, sizes: tuple[float, ...], batch: float, way: float) -> float:
        layout = jax.tree.map(lambda leaf: np.asarray(leaf)[0], layout_batch([(*sizes, way)]))
        names = [each.name for each in self.problem.architecture]
        reached = float(self.score(dict(zip(names, row[0], strict=True)), layout, batch))
        if reached <= 0:
            return -50.0
        if self.problem.objective != "advantage":
            return float(np.log(reached))
        dense = self.judge.dense.of_exact(self.judge.admission.sizes(row)[:, 4])[0]
        return float(np.log(reached / dense)) if dense > 0 else -50.0

    @staticmethod
    def _legal(variable: Variable, x: float) -> float:
        low, high = variable.range
        value = float(np.exp(low + min(max(x, 0.0), 1.0) * (high - low)))
        if variable.name == "batch":
            return round(value)
        legal = variable.legal()
        return float(legal[np.argmin(np.abs(np.log(legal / value)))])


def _one_design(problem: DesignProblem) -> Callable:
    service = problem.service
    heads = min(float(group.kind.heads) for group in problem.reference.decoder.attention)

    @jax.jit
    def score(values: dict, layout: Deployment, batch: float):
        model = with_architecture(problem.reference, values)
        deployment = Deployment(layout.tensor, layout.data, layout.pipeline, layout.expert, batch, layout.dispatched)
        reached = metrics(model, service.cluster, service.workload, deployment, service.efficiency)
        legal = reached.feasible & is_legal(model, layout) & (jax.numpy.mod(heads, layout.tensor) == 0)
        return jax.numpy.where(legal, reached.throughput, 0.0)

    return score


def random_search(box: OneByOne, dimensions: int) -> None:
    draw = np.random.default_rng(0)
    while not box.done:
        box(draw.random(dimensions))


def tpe(box: OneByOne, dimensions: int) -> None:
    import optuna  # noqa: PLC0415  # pyright: ignore[reportMissingImports]

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))

    def objective(trial: Any) -> float:
        return box(np.array([trial.suggest_float(f"x{index}", 0.0, 1.0) for index in range(dimensions)]))

    study.optimize(objective, callbacks=[lambda study, _: study.stop() if box.done else None])


def cma_es(box: OneByOne, dimensions: int) -> None:
    import cma  # noqa: PLC0415  # pyright: ignore[reportMissingImports]

    seed = 1
    while not box.done:  # restarts until the budget is spent
        options = {"bounds": [0, 1], "verbose": -9, "seed": seed}
        strategy = cma.CMAEvolutionStrategy(np.full(dimensions, 0.5), 0.3, options)
        while not (strategy.stop() or box.done):
            points = strategy.ask()
            strategy.tell(points, [-box(point) for point in points])
        seed += 1


METHODS = {"tpe": tpe, "cma": cma_es, "random": random_search}


def rivals(problem: DesignProblem, optimum: float) -> Iterator[str]:
    """Evaluations and seconds of each method to come within 1 % of the optimum."""
    for name, method in METHODS.items():
        box = OneByOne(problem, optimum)
        box(np.full(len(box.free) + 1, 0.5))  # compiled before the clock starts
        box.count, box.began = 0, time.perf_counter()
        try:
            method(box, len(box.free) + 1)
        except ImportError as error:
            yield f"{name}: {error.name} is not installed (pip install optuna cma)"
            continue
        spent = time.perf_counter() - box.began
        yield (
            f"{name}: {box.reached[0]} in {box.reached[1]:.1f} s"
            if box.reached
            else f"{name}: not in {box.count}, {spent:.0f} s"
        )


# ---- report ----------------------------------------------------------------------------------------------------------


def solved(problem: DesignProblem) -> tuple[Solution, Solution]:
    """The problem certified, and once more when everything is compiled."""
    first = optimize(problem, certify=1e9)
    return first, optimize(problem, certify=0)


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", default="0:40", help="a slice of the list")
    parser.add_argument("--black-box", action="store_true")
    asked = parser.parse_args()
    start, stop = (int(part) for part in asked.problems.split(":"))
    print("| problem | optimum | search | gap | relaxed / optimum | grid | search warm [s] | certify [s] | black box |")
    print("|---|---|---|---|---|---|---|---|---|")
    gaps, relaxed = [], []
    for task in tasks()[start:stop]:
        problem = task.problem()
        first, again = solved(problem)
        limit = "" if task.tpot is None else f", {task.tpot * 1e3:g} ms"
        name = f"{task.model} {task.cluster} {task.context:g}{limit} {task.objective}"
        if first.best is None or first.certificate is None:
            print(
                f"| {name} | infeasible: {', '.join(each.constraint for each in first.conflicts)} | | | | | | | |", flush=True
            )
            continue
        held, advantage = first.certificate, task.objective == "advantage"
        nearness = first.relaxed_value - held.exact_optimum if advantage else np.log(first.relaxed_value / held.exact_optimum)
        gaps.append(held.gap)
        relaxed.append(nearness)
        merit = held.exact_optimum if advantage else float(np.log(held.exact_optimum))
        others = "; ".join(rivals(problem, merit)) if asked.black_box else ""
        part = "" if held.complete else " of more"
        print(
            f"| {name} | {held.exact_optimum:.6g} | {again.value:.6g} | {held.gap:.3%} | {nearness:+.2%} "
            f"| {held.enumerated:.3g}{part} | {again.seconds['search']:.2f} | {first.seconds['certify']:.1f} | {others} |",
            flush=True,
        )
    found = np.array(gaps)
    print(
        f"\n{len(found)} feasible problems: exact on {np.mean(found < 1e-9):.1%}, within 1 % on {np.mean(found < CLOSE):.1%}, ",
        end="",
    )
    print(f"worst gap {found.max():.2%}; relaxed within 5 % on {np.mean(np.abs(relaxed) < 0.05):.1%}")


if __name__ == "__main__":
    main()
