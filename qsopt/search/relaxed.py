"""The relaxed problem: every variable real, a design from any point of a cube, and what it is worth
and breaks.

The same formulas as the exact model, with reals for whole numbers and smooth maxima where asked.
For an advantage the dense side is a curve of its exact optima over the width of the twin.
"""

from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float

from qsopt.arrays import Scalar
from qsopt.physics.evaluate import timing
from qsopt.quality import QualityLaw
from qsopt.search.architecture import matched, with_architecture
from qsopt.search.conflicts import coarse
from qsopt.search.constraints import Ceilings, architecture_ratios, deployment_ratios
from qsopt.search.dense import Curve
from qsopt.search.judge import Judge
from qsopt.search.problem import deployment_of
from qsopt.search.variables import ARCHITECTURE
from qsopt.spec.model import Model
from qsopt.spec.service import Service

UNLIMITED = 1e18
"""A ceiling that nothing reaches."""


class Relaxed(eqx.Module):
    """A relaxed problem: how a point of the unit cube becomes a design."""

    reference: Model
    service: Service
    law: QualityLaw
    ceilings: Ceilings
    curve: Curve | None
    """The dense side's optimum, where the advantage is wanted."""
    tokens: Scalar
    fixed: dict[str, Scalar]
    """Values of variables that are not free."""
    low: Float[Array, " free"]
    """Logs of the bounds."""
    high: Float[Array, " free"]
    is_architecture: Bool[Array, " free"]
    names: tuple[str, ...] = eqx.field(static=True)
    """Free variables."""
    per_user: bool = eqx.field(static=True)
    sense: Scalar = eqx.field()
    """1 if architecture variables make the best of it, -1 if the worst."""

    def values(self, point: Float[Array, " free"]) -> dict[str, Scalar]:
        """Values of all variables at a point of the unit cube."""
        logs = jnp.asarray(self.low) + point * (self.high - self.low)
        return {
            **self.fixed,
            **{name: jnp.exp(logs[index]) for index, name in enumerate(self.names)},
        }

    def named(self, point: ArrayLike) -> dict[str, float]:
        """The same for a concrete point, without compiling anything."""
        logs = np.asarray(self.low) + np.asarray(point) * (
            np.asarray(self.high) - np.asarray(self.low)
        )
        fixed = {name: float(value) for name, value in self.fixed.items()}
        return {**fixed, **dict(zip(self.names, map(float, np.exp(logs)), strict=True))}


class Terms(NamedTuple):
    """What a point is worth, and what it breaks."""

    wanted: Scalar
    """Log of what is wanted, less that of the dense side for an advantage."""
    deployment: Float[Array, " limits"]
    """Log ratios."""
    architecture: Float[Array, " limits"]


def terms(
    relaxed: Relaxed, point: Float[Array, " free"], dispatched: Scalar, softness: Scalar
) -> Terms:
    """The relaxed model at one point."""
    return terms_of(relaxed, relaxed.values(point), dispatched, softness)


def terms_of(
    relaxed: Relaxed, values: Mapping[str, Scalar], dispatched: Scalar, softness: Scalar
) -> Terms:
    """The relaxed model at values of all variables."""
    model = with_architecture(
        relaxed.reference, {name: values[name] for name in values if name in ARCHITECTURE}
    )
    deployment = deployment_of(values, dispatched)
    service = relaxed.service
    time = timing(model, service, deployment, softness=softness)
    sizes = matched(model, relaxed.law, relaxed.tokens)
    wanted = -jnp.log(time.tpot) if relaxed.per_user else jnp.log(time.throughput)
    if relaxed.curve is not None:
        wanted = wanted - relaxed.curve.at(sizes[4])
    return Terms(
        wanted,
        deployment_ratios(model, service, deployment, time, softness),
        architecture_ratios(model, sizes[0], sizes[4], relaxed.ceilings),
    )


def relaxed_problem(judge: Judge) -> Relaxed:
    """The relaxation of a judge's problem; the judge keeps the dense side's curve."""
    problem = judge.problem
    judge.curve = _curve(judge) if problem.objective == "advantage" else None
    free = [each for each in problem.variables if each.free]
    bounds = np.array([each.range for each in free]).reshape(-1, 2)
    widest = UNLIMITED if judge.curve is None else judge.curve.widest
    ceilings = (
        judge.admission.least_size,
        min(problem.most_total, UNLIMITED),
        min(problem.most_active, UNLIMITED),
        widest,
    )
    return Relaxed(
        reference=problem.reference,
        service=problem.service,
        law=problem.law,
        ceilings=Ceilings(*ceilings),
        curve=judge.curve,
        tokens=np.asarray(float(problem.tokens)),
        fixed={each.name: np.asarray(each.low) for each in problem.variables if not each.free},
        low=bounds[:, 0],  # pyright: ignore[reportArgumentType]
        high=bounds[:, 1],  # pyright: ignore[reportArgumentType]
        is_architecture=np.array([each.name in ARCHITECTURE for each in free]),  # pyright: ignore[reportArgumentType]
        names=tuple(each.name for each in free),
        per_user=problem.objective == "per_user",
        sense=np.asarray(-1.0 if problem.minimize else 1.0),
    )


def _curve(judge: Judge) -> Curve:
    """The dense side's optimum over the widths that admissible twins can have."""
    rows = judge.admission.narrowest(coarse(judge.admission))
    widths = judge.admission.sizes(rows)[:, 4] if len(rows) else np.array([128.0])
    return judge.dense.curve(float(widths.min()), float(widths.max()))
