"""The relaxed problem: every variable real, a design from any point of the unit cube, what it is
worth, and what it breaks.

The same formulas as the exact model, with reals for whole numbers and smooth maxima where asked.
For an advantage the dense side is a curve of its exact optima over the size of the match.
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
from qsopt.search.architecture import matched_sizes, with_architecture
from qsopt.search.constraints import Ceilings, architecture_ratios, deployment_ratios
from qsopt.search.dense import Curve
from qsopt.search.evaluator import Evaluator
from qsopt.search.problem import deployment_of
from qsopt.search.variables import ARCHITECTURE
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service

UNLIMITED = 1e18
"""A ceiling that nothing reaches."""

UNTRAINED = 1e36
"""The same of operations of training [FLOP]."""


class Relaxed(eqx.Module):
    """A relaxed problem: how a point of the unit cube becomes a design."""

    reference: Model
    """What does not vary is its own."""
    service: Service
    """Cluster, workload and efficiencies."""
    law: QualityLaw
    """How quality is compared."""
    ceilings: Ceilings
    """Limits on the model."""
    curve: Curve | None
    """The dense side's optimum, where the advantage is wanted."""
    tokens: Scalar
    """Training tokens."""
    correction: Scalar | None
    """Of the calibrated law (see `architecture.matched_sizes`)."""
    fixed: dict[str, Scalar]
    """Values of variables that are not free."""
    low: Float[Array, " free"]
    """Logs of the lower bounds."""
    high: Float[Array, " free"]
    """Logs of the upper bounds."""
    is_architecture: Bool[Array, " free"]
    """Whether a free variable belongs to the model."""
    names: tuple[str, ...] = eqx.field(static=True)
    """Free variables."""
    per_user: bool = eqx.field(static=True)
    """Whether tokens/s of one sequence counts, not that of the cluster."""
    sense: Scalar = eqx.field()
    """1 if architecture variables make the best of it, -1 if the worst."""

    def values(self, point: Float[Array, " free"]) -> dict[str, Scalar]:
        """Values of all variables at a point of the unit cube."""
        logs = jnp.asarray(self.low) + point * (self.high - self.low)
        return {**self.fixed, **dict(zip(self.names, jnp.unstack(jnp.exp(logs)), strict=True))}

    def named(self, point: ArrayLike) -> dict[str, float]:
        """The same for a concrete point, without compiling anything."""
        logs = np.asarray(self.low) + np.asarray(point) * (
            np.asarray(self.high) - np.asarray(self.low)
        )
        fixed = {name: float(value) for name, value in self.fixed.items()}
        return {**fixed, **dict(zip(self.names, map(float, np.exp(logs)), strict=True))}


class Terms(NamedTuple):
    """What a point is worth, and what it breaks."""

    log_objective: Scalar
    """Log of the throughput that the objective means, less that of the dense side for an
    advantage.
    """
    deployment: Float[Array, " limits"]
    """Log ratios of the deployment constraints."""
    architecture: Float[Array, " limits"]
    """Log ratios of the architecture constraints."""


def joined(at: Terms) -> Float[Array, " all"]:
    """The log objective and all log ratios, in one array."""
    return jnp.concatenate([at.log_objective[None], at.deployment, at.architecture])


def terms(
    relaxed: Relaxed, point: Float[Array, " free"], dispatched: Scalar, softness: Scalar
) -> Terms:
    """The relaxed model at one point, with one of the ways of communication."""
    layout = Deployment(dispatched=dispatched)
    return terms_of(relaxed, relaxed.values(point), layout, softness)


def terms_of(
    relaxed: Relaxed, values: Mapping[str, Scalar], layout: Deployment, softness: Scalar
) -> Terms:
    """The relaxed model at values of all variables; what is none of them is that of a layout."""
    model = with_architecture(
        relaxed.reference, {name: values[name] for name in values if name in ARCHITECTURE}
    )
    deployment = deployment_of(values, layout)
    service = relaxed.service
    time = timing(model, service, deployment, softness=softness)
    sizes = matched_sizes(model, relaxed.law, relaxed.tokens, relaxed.correction)
    log_objective = -jnp.log(time.tpot) if relaxed.per_user else jnp.log(time.throughput)
    if relaxed.curve is not None:
        log_objective = log_objective - relaxed.curve.at(sizes.match)
    return Terms(
        log_objective,
        deployment_ratios(model, service, deployment, time, softness),
        architecture_ratios(model, sizes, relaxed.ceilings),
    )


def relaxed_problem(evaluator: Evaluator) -> Relaxed:
    """The relaxation of an evaluator's problem; the evaluator keeps the dense side's curve."""
    problem = evaluator.problem
    curve = _curve(evaluator) if problem.objective == "advantage" else None
    evaluator.curve = curve
    free = [variable for variable in problem.variables if variable.free]
    bounds = np.array([variable.range for variable in free]).reshape(-1, 2)
    return Relaxed(
        reference=problem.reference,
        service=problem.service,
        law=problem.law,
        ceilings=Ceilings(
            quality=evaluator.admission.least_size,
            total=min(problem.most_total, UNLIMITED),
            active=min(problem.most_active, UNLIMITED),
            twin=UNLIMITED if curve is None else curve.largest,
            training=min(problem.budgets.training_flops, UNTRAINED),
        ),
        curve=curve,
        tokens=np.asarray(float(problem.tokens)),
        correction=problem.correction,
        fixed={
            variable.name: np.asarray(variable.low)
            for variable in problem.variables
            if not variable.free
        },
        low=bounds[:, 0],  # pyright: ignore[reportArgumentType]
        high=bounds[:, 1],  # pyright: ignore[reportArgumentType]
        is_architecture=np.array([variable.name in ARCHITECTURE for variable in free]),  # pyright: ignore[reportArgumentType]
        names=tuple(variable.name for variable in free),
        per_user=problem.objective == "per_user",
        sense=np.asarray(-1.0 if problem.minimize else 1.0),
    )


def _curve(evaluator: Evaluator) -> Curve:
    """The dense side's optimum over the sizes that admissible matches can have."""
    admission = evaluator.admission
    rows = admission.narrowest(admission.thinned_grid())
    sizes = admission.sizes(rows).match if len(rows) else np.array([admission.reference_size])
    return evaluator.dense.curve(float(np.min(sizes)), float(np.max(sizes)))
