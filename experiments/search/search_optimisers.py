"""Which optimiser descends the relaxed problem best: Adam, other rules of optax, or SLSQP from each
start?

`python -m experiments.search.search_optimisers` writes what every optimiser reached on every
problem into `results/search_optimisers`, and prints the table of docs/search.md.

The rules of optax have the same starts, rounds, steps, rates and constraints (an augmented
Lagrangian); line searches and SLSQP find the length of their steps themselves. What counts is the
best relaxed value that keeps the constraints, everything real, over all starts; its shortfall is
taken from the best that any of them found.
"""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from scipy.optimize import minimize

from experiments.framework import study
from experiments.framework.pieces import Row
from experiments.pages.template import render
from experiments.search import search_tasks
from experiments.search.search_tasks import Task, narrow_tasks
from qsopt.search.evaluator import Evaluator
from qsopt.search.gradient import ADAM, BROKEN, KEPT, SOFTNESS, Optimiser, descend, spread
from qsopt.search.relaxed import Relaxed, joined, relaxed_problem, terms


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Which problems, and how many starts."""

    problems: tuple[int, ...]
    """Narrow problems of the search benchmark, by number."""
    starts: int
    """Of every rule of optax."""
    slsqp_starts: int
    """Of SLSQP, which takes them one after the other."""


def _own_steps(make: Callable[[], optax.GradientTransformation]) -> Optimiser:
    return Optimiser(make, own_steps=True)


def _unit_steps(make: Callable[[], optax.GradientTransformation]) -> Optimiser:
    """A rule whose steps have no scale: their length is set to 1, times the rate."""
    return Optimiser(lambda: optax.chain(make(), optax.normalize_by_update_norm()))


RULES: dict[str, Optimiser] = {
    "Adam (0.8, 0.95)": ADAM,
    "Adam (0.9, 0.999)": Optimiser(optax.scale_by_adam),
    "Nadam": Optimiser(lambda: optax.scale_by_adam(b1=0.8, b2=0.95, nesterov=True)),
    "Lion": Optimiser(lambda: optax.scale_by_lion(b1=0.8, b2=0.95)),
    "RMSprop": Optimiser(lambda: optax.scale_by_rms(decay=0.95)),
    "momentum, steps of one length": _unit_steps(lambda: optax.trace(decay=0.8)),
    "L-BFGS with zoom line search": _own_steps(lambda: optax.lbfgs(memory_size=8)),
}
SLSQP = "SLSQP, no augmented Lagrangian"


def descents(task: Row, starts: int, slsqp_starts: int, seed: int) -> list[Row]:
    """One problem by all optimisers."""
    asked = Task(**task)
    relaxed = relaxed_problem(Evaluator.for_problem(asked.problem()))
    points, ways = spread(starts, len(relaxed.names), seed)
    about = {"problem": asked.name, "load": os.getloadavg()[0]}
    rows = [
        {**about, "optimiser": name, **_ruled(relaxed, points, ways, rule)}
        for name, rule in RULES.items()
    ]
    rows.append({**about, "optimiser": SLSQP, **_slsqp(relaxed, points[:slsqp_starts], ways)})
    best = max(row["reached"] for row in rows if row["reached"] is not None)
    return [
        {**row, "shortfall": None if row["reached"] is None else best - row["reached"]}
        for row in rows
    ]


def _ruled(relaxed: Relaxed, points: np.ndarray, ways: np.ndarray, rule: Optimiser) -> Row:
    inputs = (relaxed, jnp.asarray(points), jnp.asarray(ways), rule)
    began = time.perf_counter()
    merits = np.asarray(descend(*inputs).costs)
    first = time.perf_counter() - began
    began = time.perf_counter()
    jax.block_until_ready(descend(*inputs))
    warm = time.perf_counter() - began
    return {**_reached(merits), "seconds": warm, "compile_s": first - warm}


def _slsqp(relaxed: Relaxed, points: np.ndarray, ways: np.ndarray) -> Row:
    """From some of the starts, one after the other."""
    began, merits = time.perf_counter(), []
    for point, way in zip(points, ways, strict=False):
        known: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

        def at(
            x: np.ndarray, way: float = way, known: dict = known
        ) -> tuple[np.ndarray, np.ndarray]:
            if x.tobytes() not in known:
                known[x.tobytes()] = tuple(
                    map(np.asarray, _terms_and_slopes(relaxed, jnp.asarray(x), jnp.asarray(way)))
                )
            return known[x.tobytes()]

        constraint = {
            "type": "ineq",
            "fun": lambda x, at=at: -at(x)[0][1:],
            "jac": lambda x, at=at: -at(x)[1][1:],
        }
        end = minimize(
            lambda x, at=at: -at(x)[0][0],
            point,
            jac=lambda x, at=at: -at(x)[1][0],
            bounds=[(0.0, 1.0)] * len(point),
            constraints=constraint,
            method="SLSQP",
            options={"maxiter": 200},
        )
        values = at(np.clip(end.x, 0.0, 1.0))[0]
        merits.append(-values[0] if np.all(values[1:] <= KEPT) else BROKEN)
    return {**_reached(np.array(merits)), "seconds": time.perf_counter() - began, "compile_s": None}


@eqx.filter_jit
def _terms_and_slopes(relaxed: Relaxed, point: Array, way: Array) -> tuple[Array, Array]:
    """What is wanted and every log ratio, as smooth as the descent ends, and their derivatives."""

    def outputs(at: Array) -> tuple[Array, Array]:
        together = joined(terms(relaxed, at, way, jnp.asarray(SOFTNESS[1])))
        return together, together

    slopes, values = jax.jacfwd(outputs, has_aux=True)(point)
    return values, slopes


def _reached(merits: np.ndarray) -> Row:
    """The best that keeps the constraints, and the share of starts that do and are within 1 % of
    it.
    """
    best = float(np.min(merits))
    if best >= BROKEN:
        return {"reached": None, "kept": 0.0, "close": 0.0}
    return {
        "reached": -best,
        "kept": float(np.mean(merits < BROKEN)),
        "close": float(np.mean(merits < best + 0.01)),
    }


def medians(rows: list[Row], name: str) -> Row:
    """An optimiser over the problems; without any start that keeps the limits it is infinitely
    short.
    """
    mine = [row for row in rows if row["optimiser"] == name]
    short = np.array([np.inf if row["shortfall"] is None else row["shortfall"] for row in mine])
    compiled = [row["compile_s"] for row in mine if row["compile_s"] is not None]
    return {
        "name": name,
        "median": np.median(short),
        "worst": short.max(),
        "best": np.mean(short <= 1e-3),
        "kept": np.median([row["kept"] for row in mine]),
        "seconds": np.median([row["seconds"] for row in mine]),
        "compile": max(compiled, default=None),
    }


def main(settings: Settings) -> None:
    """All problems by all optimisers."""
    with study.Study("search_optimisers", settings) as run:
        tasks = [narrow_tasks()[index] for index in settings.problems]
        same = {
            "starts": settings.starts,
            "slsqp_starts": settings.slsqp_starts,
            "seed": settings.seed,
        }
        keys = [{"task": asdict(task), **same} for task in tasks]
        rows = [row for piece in run.pieces(keys, descents, (search_tasks,)) for row in piece]
        run.write(rows)
        optimisers = [medians(rows, name) for name in (*RULES, SLSQP)]
        print(render("search-optimisers.md", optimisers=optimisers))


if __name__ == "__main__":
    study.start(main, Settings, "search_optimisers")
