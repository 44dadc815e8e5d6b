"""What architectures are worth on whole requests: each in its best way of serving, exactly."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from qsopt.comparison.contenders import Contender, contender
from qsopt.fitted.power import PACE, shipped_power
from qsopt.physics.energy import PowerLaw
from qsopt.search.architecture import with_architecture
from qsopt.search.problem import DesignProblem
from qsopt.search.request_best import Wanted, best_option
from qsopt.search.variables import row_values
from qsopt.serving.ranking import Option
from qsopt.serving.ways import layouts_of
from qsopt.spec.model import Model

SPEEDS = ("throughput", "cost")
"""Objectives of which a search of serving needs to settle only what beats the best so far."""


class Scored(NamedTuple):
    """An architecture in its best way of serving."""

    row: Float[np.ndarray, " variables"]
    merit: float
    """Log of the objective, the larger the better (see `solution.objective_value`); -inf where
    nothing keeps the limits, or nothing beats what it was to beat.
    """
    option: Option | None


@dataclass
class RequestScorer:
    """Scores architectures of a problem, each once, and counts."""

    problem: DesignProblem
    evaluations: int = 0
    """Candidates of ways of serving looked at, those included that a bound excludes."""
    known: dict[tuple[float, ...], Scored] = field(default_factory=dict)

    @property
    def wanted(self) -> Wanted:
        """By what ways of serving are compared."""
        return Wanted(self.problem.objective, power_of(self.problem))

    def model(self, row: Float[np.ndarray, " variables"]) -> Model:
        """The architecture of a row."""
        values = row_values(self.problem.architecture, row)
        return with_architecture(
            self.problem.reference,
            {name: np.asarray(value) for name, value in values.items()},  # pyright: ignore[reportArgumentType]
        )

    def score(self, row: Float[np.ndarray, " variables"], beat: float = -np.inf) -> Scored:
        """A row in its best way of serving.

        Args:
            row: admissible.
            beat: merit that it must exceed to matter.
        """
        key = tuple(row.tolist())
        if key not in self.known:
            merit, option = self.best(self.model(row), beat)
            self.known[key] = Scored(row, merit, option)
        return self.known[key]

    def best(self, model: Model, beat: float = -np.inf) -> tuple[float, Option | None]:
        """Merit and plan of a model's best way of serving; -inf and None where nothing keeps the
        limits, or beats what it must.
        """
        served = self.contender(model)
        least = float(np.exp(beat)) if self.problem.objective in SPEEDS else 0.0
        self.evaluations += len(served.every.kind)
        here = served.served(self.problem.service)
        option = best_option(here, served.every, served.groups, self.wanted, least)
        merit = -np.inf if option is None else self.wanted.value(here, option.reached)
        return (merit, option) if merit > beat else (-np.inf, None)

    def contender(self, model: Model) -> Contender:
        """A model with all ways of serving it; of any structure that matches have."""
        layouts = layouts_of(model, self.problem.service)
        return contender(model, self.problem.reference, layouts)


def power_of(problem: DesignProblem) -> PowerLaw:
    """The law of what devices draw."""
    return shipped_power(PACE).law if problem.power is None else problem.power
