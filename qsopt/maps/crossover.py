"""Where the verdict flips: every sign change of log(dense/moe) over one input, each side in its own
exact optimum.

A log grid is evaluated, made finer where the ratio comes near 1, and every interval whose ends
differ is divided until it is as narrow as the input can be told: all sign changes that the grid
separates are found, not only the first. Whole batches make the ratio jump, so a smooth crossing may
come as several close together.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qsopt.arrays import Scalar, scalar
from qsopt.comparison.compare import verdict
from qsopt.comparison.twin import aligned, dense_twin
from qsopt.deployments.capped import ServedModel, best_throughputs
from qsopt.deployments.layouts import legal_layouts
from qsopt.deployments.optimum import repeated, same_length
from qsopt.errors import InputError
from qsopt.record import Result
from qsopt.spec.model import Model, moe_layers
from qsopt.spec.service import Service

Input = Literal["context", "batch", "devices", "q", "bandwidth"]
"""What may be moved; batch is the sequences that decode at once in the whole cluster, at most."""

WHOLE = ("batch", "devices")
"""Inputs that are whole numbers."""

POINTS = 97
"""Of the first grid."""

FINER = 8
"""Parts that an interval is divided into."""

WIDTH = 1e-7
"""Relative width at which a crossing counts as found."""

_ROUNDS = 60


@dataclass(frozen=True)
class Crossing:
    """A flip of the verdict between two sides that both fit."""

    value: float
    """Of the input; of a whole one, the first with the new verdict."""
    direction: str
    """Who wins above it: `to dense` or `to moe`."""


@dataclass(frozen=True)
class Edge:
    """Where a side stops or starts to fit."""

    value: float
    below: str
    """Verdict below the value."""
    above: str


@dataclass(frozen=True)
class End:
    """The comparison at one end of the range."""

    value: float
    ratio: float | None
    """Throughput of dense over MoE; None where a side is infeasible."""
    verdict: str


@dataclass(frozen=True, repr=False)
class Crossovers(Result):
    """All flips in a range."""

    crossings: tuple[Crossing, ...]
    edges: tuple[Edge, ...]
    at_low: End
    at_high: End
    evaluated: int
    """Values of the input at which both optima were found."""


@dataclass(frozen=True)
class Duellists:
    """An MoE and the q of its twin, and what both are deployed for."""

    model: Model
    service: Service
    q: float


def crossovers(sides: Duellists, over: Input, low: float, high: float) -> Crossovers:
    """All values of an input in [low, high] at which the verdict flips.

    Raises:
        InputError: if the model is dense, the range is not one, or q leaves the twin no
            feed-forward layers.
    """
    _check(sides, over, low, high)
    whole = over in WHOLE
    measure = _measure(sides, over, high)
    samples: dict[float, tuple[float, float]] = {}
    new = _grid(low, high, POINTS, whole)
    for _ in range(_ROUNDS):
        if not new:
            break
        samples |= measure(new)
        new = [
            value
            for value in _wanted(samples, whole, np.log(high / low) / POINTS)
            if value not in samples
        ]
    return _read(samples, whole)


def _check(sides: Duellists, over: Input, low: float, high: float) -> None:
    if moe_layers(sides.model) is None:
        raise InputError("the model is dense: a crossover needs a Mixture-of-Experts model")
    if over not in get_args(Input):
        raise InputError(f"over = {over}: take one of {', '.join(get_args(Input))}")
    if not 0 < low < high < np.inf:
        raise InputError(
            f"from = {low:g}, to = {high:g}: give a range of positive numbers, the smaller first"
        )
    dense_twin(sides.model, low if over == "q" else sides.q)


# ---- both optima at many values ------------------------------------------------------------------


def _measure(
    sides: Duellists, over: Input, high: float
) -> Callable[[list[float]], dict[float, tuple[float, float]]]:
    """A function from values of the input to the throughputs of MoE and dense."""
    cluster = sides.service.cluster
    if (
        over == "devices"
    ):  # legal layouts of the largest cluster; smaller ones have no replica of the larger layouts
        cluster = eqx.tree_at(lambda c: c.devices, cluster, scalar(np.floor(high)))
    twin = dense_twin(sides.model, high if over == "q" else sides.q)
    layouts = same_length(
        legal_layouts(sides.model, cluster, sides.service.rules),
        legal_layouts(twin, cluster, sides.service.rules),
    )

    def measured(values: list[float]) -> dict[float, tuple[float, float]]:
        both = _cases(sides, twin, over, np.array(values))
        reached = [
            best_throughputs(case, layout) for case, layout in zip(both, layouts, strict=True)
        ]
        return {
            value: (float(moe), float(dense))
            for value, moe, dense in zip(values, *reached, strict=True)
        }

    return measured


def _cases(
    sides: Duellists, twin: Model, over: Input, values: Float[np.ndarray, " n"]
) -> tuple[ServedModel, ServedModel]:
    """Batches of cases of the MoE and of its twin."""
    models = (aligned(sides.model, sides.model), aligned(twin, sides.model))
    moe, dense = (repeated(ServedModel(model, sides.service), len(values)) for model in models)
    if over == "q":
        return moe, eqx.tree_at(
            lambda c: c.model, dense, jax.tree.map(np.asarray, _twins(sides.model, values))
        )
    leaf = _LEAF[over]
    return eqx.tree_at(leaf, moe, values), eqx.tree_at(leaf, dense, values)


_LEAF: dict[str, Callable[[ServedModel], Scalar]] = {
    "context": lambda case: case.service.workload.context,
    "batch": lambda case: case.cap,
    "devices": lambda case: case.service.cluster.devices,
    "bandwidth": lambda case: case.service.cluster.accelerator.bandwidth,
}


@jax.jit
def _twins(model: Model, qs: Float[Array, " n"]) -> Model:
    """Exact twins of several q, in the structure of the MoE."""
    return jax.vmap(lambda q: aligned(dense_twin(model, q), model))(jnp.asarray(qs))


# ---- where to look -------------------------------------------------------------------------------


def _grid(low: float, high: float, points: int, whole: bool) -> list[float]:
    """Values between two ends, both included, evenly spaced in log."""
    values = np.geomspace(low, high, points)
    values[0], values[-1] = low, high
    if whole:
        values = np.unique(np.clip(np.round(values), np.ceil(low), np.floor(high)))
    return [float(value) for value in values]


def _wanted(samples: dict[float, tuple[float, float]], whole: bool, spacing: float) -> list[float]:
    """Values inside the intervals that hide a flip, or may hide two."""
    kept = [value for value in sorted(samples) if verdict(*samples[value]) != "tie"]
    found = []
    for low, high in itertools.pairwise(kept):
        resolved = high - low <= 1.0 if whole else high <= low * (1.0 + WIDTH)
        coarse = np.log(high / low) > 0.5 * spacing
        flips = verdict(*samples[low]) != verdict(*samples[high])
        if not resolved and (flips or (coarse and _near(samples[low], samples[high]))):
            found += _grid(low, high, FINER + 1, whole)
    return found


def _near(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether the log ratio is as close to 0 as it moves within the interval, so that it may touch
    it inside.
    """
    if not (all(one) and all(other)):
        return False
    first, second = np.log(one[1] / one[0]), np.log(other[1] / other[0])
    return min(abs(first), abs(second)) <= 2.0 * abs(first - second)


def _read(samples: dict[float, tuple[float, float]], whole: bool) -> Crossovers:
    """Crossings and edges between neighbours that differ."""
    kept = [value for value in sorted(samples) if verdict(*samples[value]) != "tie"]
    crossings, edges = [], []
    for low, high in itertools.pairwise(kept):
        below, above = verdict(*samples[low]), verdict(*samples[high])
        if below == above:
            continue
        value = high if whole else float(np.sqrt(low * high))
        if all(samples[low]) and all(samples[high]):
            crossings.append(Crossing(value, f"to {above.removesuffix(' wins')}"))
        else:
            edges.append(Edge(value, below, above))
    ends = (_end(value, *samples[value]) for value in (min(samples), max(samples)))
    return Crossovers(tuple(crossings), tuple(edges), *ends, evaluated=len(samples))


def _end(value: float, moe: float, dense: float) -> End:
    return End(value, dense / moe if moe and dense else None, verdict(moe, dense))
