"""Black-box search on the exact model that the gradient search is scored by, made as easy as is
fair.

A point of the unit cube becomes a design: every variable its nearest legal value, parallel sizes
and way the nearest legal layout, the batch a multiple of pipeline * data. A design that breaks
limits is worth less the more it breaks them. Many points are evaluated at once where the method has
many, the dense optima that an advantage needs are known beforehand, and compiling is not counted.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress

import cma
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optuna
from jaxtyping import Array, Float
from scipy.optimize import differential_evolution

from qsopt.arrays import Scalar
from qsopt.deployments.legality import is_legal, with_places
from qsopt.search.architecture import with_architecture
from qsopt.search.evaluator import Evaluator
from qsopt.search.polish import KEPT
from qsopt.search.relaxed import Relaxed, relaxed_problem, terms_of
from qsopt.search.variables import ARCHITECTURE, DEPLOYMENT, SEARCHED_SIZES, Variable
from qsopt.spec.deployment import Deployment

Points = Float[np.ndarray, "n variables"]

WORTHLESS = -100.0
"""Of a design that breaks limits, less the logs of its excesses."""


class OutOfTime(Exception):
    """The budget is spent."""


class BlackBox(ABC):
    """An exact objective over the unit cube, with a clock that starts when everything is
    compiled.
    """

    clock: Callable[[], float] = staticmethod(time.perf_counter)

    def __init__(self, dimensions: int, seconds: float, together: int) -> None:
        self.dimensions, self.seconds, self.together = dimensions, seconds, together
        self.count, self.history = 0, []
        self._merits(np.full((1, self.dimensions), 0.5))
        self.began = self.clock()

    @abstractmethod
    def _merits(self, points: Points) -> Float[np.ndarray, " n"]:
        """Merits of at most as many points as are evaluated together."""

    def __call__(self, points: Points) -> Float[np.ndarray, " n"]:
        """Merits of some points: the log of what is wanted, far below where a limit is broken.

        Raises:
            OutOfTime: when the budget is spent.
        """
        parts = [
            self._merits(points[at : at + self.together])
            for at in range(0, len(points), self.together)
        ]
        found = np.concatenate(parts)
        spent, best = self.clock() - self.began, float(found.max())
        self.count += len(points)
        if not self.history or best > self.history[-1][0]:
            self.history.append((best, spent, self.count))
        if spent > self.seconds:
            raise OutOfTime
        return found

    @property
    def best(self) -> float:
        """The best merit so far; -inf if every design broke a limit."""
        best = self.history[-1][0] if self.history else WORTHLESS
        return best if best > WORTHLESS / 2 else -np.inf

    def best_after(self, seconds: float) -> float:
        """The best merit within some time; -inf if every design broke a limit."""
        within = [best for best, spent, _ in self.history if spent <= seconds]
        return within[-1] if within and within[-1] > WORTHLESS / 2 else -np.inf

    def time_to(self, merit: float) -> tuple[float, int] | None:
        """Seconds and evaluations after which the best was at least so good; None if it never
        was.
        """
        return next(((spent, count) for best, spent, count in self.history if best >= merit), None)


class DesignBox(BlackBox):
    """Designs of a problem of `optimize`."""

    def __init__(self, evaluator: Evaluator, seconds: float, together: int) -> None:
        self.evaluator = evaluator
        self.relaxed = relaxed_problem(evaluator)
        self.architecture, self.layouts = evaluator.problem.architecture, evaluator.scorer.layouts
        self.legal = np.log(
            np.stack([getattr(self.layouts, DEPLOYMENT[name]) for name in SEARCHED_SIZES], axis=1)
        )
        super().__init__(len(self.architecture) + len(SEARCHED_SIZES) + 2, seconds, together)

    def _merits(self, points: Points) -> Float[np.ndarray, " n"]:
        filled = np.clip(
            np.concatenate([points, np.repeat(points[-1:], self.together - len(points), axis=0)]),
            0.0,
            1.0,
        )
        free = len(self.architecture)
        values = {
            each.name: nearest_legal(each, x)
            for each, x in zip(self.architecture, filled[:, :free].T, strict=True)
        }
        layouts = self._layouts(filled[:, free:])
        merits = np.array(_scores(self.relaxed, values, layouts))  # pyright: ignore[reportArgumentType]
        kept = merits > WORTHLESS / 2
        if (
            self.relaxed.curve is not None and kept.any()
        ):  # the dense side exactly, not by its curve
            rows = np.stack([values[each.name] for each in self.architecture], axis=1)[kept]
            sizes = self.evaluator.admission.sizes(rows).match
            dense = self.evaluator.dense.exact_throughputs(sizes)
            curve = np.asarray(self.relaxed.curve.at(jnp.asarray(sizes)))
            merits[kept] += curve - np.log(np.where(dense > 0, dense, np.inf))
        return merits[: len(points)]

    def _layouts(self, points: Points) -> Deployment:
        """The nearest legal layouts, with the way and the batch."""
        variables = [self.evaluator.problem.variable(name) for name in (*SEARCHED_SIZES, "batch")]
        low, high = np.array([each.range for each in variables]).T
        logs = low + points[:, :-1] * (high - low)
        distance = np.abs(self.legal[None] - logs[:, None, :-1]).sum(axis=2)
        distance = distance + 0.1 * np.abs(
            np.asarray(self.layouts.dispatched) - np.round(points[:, -1:])
        )
        nearest = jax.tree.map(
            lambda leaf: np.asarray(leaf)[np.argmin(distance, axis=1)], self.layouts
        )
        unit = nearest.pipeline * nearest.data
        return eqx.tree_at(
            lambda d: d.batch, nearest, np.maximum(np.round(np.exp(logs[:, -1]) / unit), 1.0) * unit
        )


def nearest_legal(variable: Variable, x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The legal values nearest in log to places between the bounds."""
    low, high = variable.range
    legal = np.log(variable.legal())
    wanted = low + x * (high - low)
    above = np.clip(np.searchsorted(legal, wanted), 0, legal.size - 1)
    below = np.maximum(above - 1, 0)
    return variable.legal()[np.where(wanted - legal[below] < legal[above] - wanted, below, above)]


@eqx.filter_jit
def _scores(
    relaxed: Relaxed, values: Mapping[str, Array], layouts: Deployment
) -> Float[Array, " n"]:
    """What is wanted of whole designs, or how much they break."""

    def one(row: Mapping[str, Scalar], listed: Deployment) -> Scalar:
        service = relaxed.service
        sizes = {name: value for name, value in row.items() if name in ARCHITECTURE}
        model = with_architecture(relaxed.reference, sizes)
        layout = with_places(model, listed, service.rules)
        named = {**row, **{name: getattr(layout, field) for name, field in DEPLOYMENT.items()}}
        at = terms_of(relaxed, {**relaxed.fixed, **named}, layout, jnp.zeros(()))
        ratios = jnp.concatenate([at.deployment, at.architecture])
        legal = is_legal(model, service.cluster, layout, service.rules)
        excess = jnp.sum(jnp.maximum(ratios, 0.0)) + jnp.where(legal, 0.0, 1.0)
        return jnp.where(excess <= KEPT, at.log_objective, WORTHLESS - jnp.minimum(excess, 1e6))

    return jax.vmap(one)(values, layouts)


# ---- methods -------------------------------------------------------------------------------------


def _random(box: BlackBox, seed: int) -> None:
    draw = np.random.default_rng(seed)
    while True:
        box(draw.random((box.together, box.dimensions)))


def _tpe(box: BlackBox, seed: int) -> None:
    """Optuna's default sampler, one design at a time as it is made for."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))

    def objective(trial: optuna.Trial) -> float:
        point = [trial.suggest_float(f"x{index}", 0.0, 1.0) for index in range(box.dimensions)]
        return float(box(np.array([point]))[0])

    study.optimize(objective)


def _cma_es(box: BlackBox, seed: int) -> None:
    """CMA-ES, with the population of one call, begun again from another place when it converges."""
    draw = np.random.default_rng(seed)
    while True:
        options = {
            "bounds": [0, 1],
            "verbose": -9,
            "seed": int(draw.integers(1, 2**31)),
            "popsize": box.together,
        }
        strategy = cma.CMAEvolutionStrategy(draw.random(box.dimensions), 0.3, options)
        while not strategy.stop():
            points = strategy.ask()
            strategy.tell(points, list(-box(np.array(points))))


def _evolution(box: BlackBox, seed: int) -> None:
    """SciPy's differential evolution, a generation at a time."""
    while True:
        differential_evolution(
            lambda points: -box(points.T),
            [(0.0, 1.0)] * box.dimensions,
            rng=seed,
            popsize=max(5, box.together // box.dimensions),
            maxiter=10_000,
            vectorized=True,
            updating="deferred",
            polish=False,
        )
        seed += 1


METHODS: dict[str, tuple[Callable[[BlackBox, int], None], int]] = {
    "random": (_random, 1024),
    "TPE": (_tpe, 1),
    "CMA-ES": (_cma_es, 64),
    "differential evolution": (_evolution, 128),
}
"""Methods, and how many points each has evaluated at once."""


def race(name: str, box_of: Callable[[int], BlackBox], seed: int) -> BlackBox:
    """A method's box after its budget is spent.

    Args:
        name: of the method.
        box_of: the box for so many points at once.
        seed: of the method.
    """
    method, together = METHODS[name]
    box = box_of(together)
    with suppress(OutOfTime):
        method(box, seed)
    return box
