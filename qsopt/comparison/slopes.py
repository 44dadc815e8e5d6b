"""How both sides of a comparison, and their ratio, answer to what they share and to the sizes of
the MoE.

Each side stands in its own best layout at the real batch that fills the limit that binds, memory or
time per token, and the batch follows that limit (see `slopes.sensitivity`). q is kept as experts
and top_k move, so the dense match follows the active parameters.

Throughput in a layout is the smaller of what its limits allow, and the optimum is the largest over
layouts. Where two limits meet, or another layout is as fast, the slope differs from side to side:
with more of x it is the least over the limits and the most over the layouts, with less of x the
other way around.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qsopt.arrays import Scalar
from qsopt.comparison.compare import Comparison
from qsopt.comparison.dense import NAMED, MatchKind, dense_match
from qsopt.comparison.duel import Duel, Optima
from qsopt.comparison.twin import aligned
from qsopt.deployments.batches import take
from qsopt.programs import compiled
from qsopt.slopes.inputs import Design, named_inputs, scaled
from qsopt.slopes.sensitivity import LIMIT_ROWS, at_batch, limit_batches, log_outputs
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service
from qsopt.spec.workload import NO_LIMIT

NAMES = (
    "context",
    "capacity",
    "bandwidth",
    "scale_up_bandwidth",
    "scale_out_bandwidth",
    "tpot_limit",
    "experts",
    "top_k",
)
"""Inputs of a comparison beside q."""

NEAR = 0.005
"""Relative difference of throughputs of layouts, or of the batches of limits, below which the
slopes of both count.
"""

CONSIDERED = 4
"""Layouts whose slopes may count, the fastest."""

Elasticities = dict[str, float]
"""d log throughput, or d log ratio, over d log of each input."""

Tables = Float[np.ndarray, "outputs inputs"]


@dataclass(frozen=True)
class SideSlopes:
    """Of one side, or of the ratio."""

    elasticity: Elasticities
    left: Elasticities
    """With less of each input, where that differs from `right`."""
    right: Elasticities
    """With more of it."""
    binding: str | None = None
    """The limit that sets the batch of a side: memory, or tpot."""
    batch: float | None = None
    """Real batch of a replica that fills it [sequences]."""
    kinks: tuple[str, ...] = ()
    """Why slopes differ, in words."""


@dataclass(frozen=True)
class ComparisonSlopes:
    """Of both sides and of the ratio of dense over MoE; None where a side is infeasible."""

    moe: SideSlopes | None
    dense: SideSlopes | None
    ratio: SideSlopes | None


def comparison_slopes(
    result: Comparison, duel: Duel, service: Service, named: Model | None = None
) -> ComparisonSlopes:
    """Elasticities of a concrete comparison.

    Args:
        result: the comparison.
        duel: the duel behind it.
        service: what both sides are deployed for.
        named: the dense model where it is one that exists.
    """
    asked = _Asked(result.moe.model, named, result.numbers.q, service.priced)
    moe = _side(asked, None, duel.moe, result.moe.deployment) if result.moe.feasible else None
    dense = (
        _side(asked, duel.kind, duel.dense, result.dense.deployment)
        if result.dense.feasible
        else None
    )
    both = None if moe is None or dense is None else _ratio(moe, dense)
    return ComparisonSlopes(moe, dense, both)


class _Asked(eqx.Module):
    """What both sides are made of."""

    moe: Model
    named: Model | None
    q: Scalar
    service: Service


@dataclass(frozen=True)
class _Piece:
    """A layout at the real batch of its binding limit."""

    throughput: float
    binding: str
    batch: float
    slopes: dict[str, Float[np.ndarray, " inputs"]]
    """By every limit that binds, or nearly."""


def _side(
    asked: _Asked, kind: MatchKind | None, optima: Optima, deployment: Deployment
) -> SideSlopes | None:
    """None where the deployment fills its limit but for rounding, so that no batch is left."""
    own = _piece(asked, kind, optima.model, deployment)
    if own is None:
        return None
    others = [
        piece
        for layout in _near_layouts(optima, deployment)
        if (piece := _piece(asked, kind, optima.model, layout)) is not None
        and abs(np.log(piece.throughput / own.throughput)) < NEAR
    ]
    pieces = [own, *others]
    least = np.array([np.min(list(piece.slopes.values()), axis=0) for piece in pieces])
    most = np.array([np.max(list(piece.slopes.values()), axis=0) for piece in pieces])
    left, right = _named(most.min(axis=0), asked), _named(least.max(axis=0), asked)
    elasticity = _named(own.slopes[own.binding], asked)
    differing = [name for name in elasticity if abs(left[name] - right[name]) > 1e-6]
    return SideSlopes(
        elasticity,
        {name: left[name] for name in differing},
        {name: right[name] for name in differing},
        own.binding,
        own.batch,
        _kinks(own, others) if differing else (),
    )


def _near_layouts(optima: Optima, deployment: Deployment) -> list[Deployment]:
    """The next fastest layouts at their whole batches, each once."""
    reached = np.asarray(optima.throughputs)
    near: dict[tuple[float, ...], Deployment] = {}
    for index in np.argsort(-reached, kind="stable")[: 4 * CONSIDERED]:
        layout = take(optima.layouts, int(index))
        if reached[index] > 0.0 and _sizes(layout) != _sizes(deployment):
            near.setdefault(_sizes(layout), layout)
    return list(near.values())[: CONSIDERED - 1]


def _sizes(layout: Deployment) -> tuple[float, ...]:
    fields = ("tensor", "data", "pipeline", "expert", "dispatched", "dcp", "expert_slots")
    return tuple(float(getattr(layout, field)) for field in fields)


def _piece(
    asked: _Asked, kind: MatchKind | None, model: Model, layout: Deployment
) -> _Piece | None:
    """A layout of a side; None where nothing fits in it."""
    design = Design(model, asked.service, layout)
    batches = limit_batches(design)
    binding = min(batches, key=lambda name: batches[name])
    batch = batches[binding]
    if not 0.0 < batch < np.inf:
        return None
    filled = at_batch(design, batch).deployment
    logs, slopes = (np.asarray(table) for table in _tables(asked, filled, kind))
    tied = [name for name, other in batches.items() if other <= batch * np.exp(NEAR)]
    followed = {name: _following(slopes, LIMIT_ROWS[name]) for name in tied}
    return _Piece(float(np.exp(logs[0])), binding, batch, followed)


def _following(slopes: Tables, row: int) -> Float[np.ndarray, " inputs"]:
    """Slopes of the log throughput where the batch, last of the inputs, keeps a limit filled."""
    return slopes[0, :-1] - slopes[0, -1] * slopes[row, :-1] / slopes[row, -1]


@partial(compiled, static=("kind",))
def _tables(
    asked: _Asked, deployment: Deployment, kind: MatchKind | None
) -> tuple[Float[Array, " outputs"], Float[Array, "outputs inputs"]]:
    """Log throughput and log of used over limit of a side, and their derivatives in the logs of
    `NAMES`, q and the batch.
    """
    inputs = named_inputs(NAMES)

    def outputs(logs: Float[Array, " inputs"]) -> tuple[Array, Array]:
        moved = scaled(Design(asked.moe, asked.service, deployment), inputs, logs[:-2])
        side = _made(moved.model, asked.named, asked.q * jnp.exp(logs[-2]), kind)
        batch = deployment.batch * jnp.exp(logs[-1])
        at = eqx.tree_at(lambda d: d.batch, deployment, batch)
        reached = log_outputs(Design(aligned(side, asked.moe), moved.service, at))
        return reached, reached

    slopes, values = jax.jacfwd(outputs, has_aux=True)(jnp.zeros(len(inputs) + 2))
    return values, slopes


def _made(moe: Model, named: Model | None, q: Scalar, kind: MatchKind | None) -> Model:
    """A side: the MoE, the named model, or the match of whole sizes with the derivative of that of
    real ones.
    """
    if kind is None:
        return moe
    if kind == NAMED:
        assert named is not None
        return named
    return dense_match(moe, q, kind)


def _named(values: Float[np.ndarray, " inputs"], asked: _Asked) -> Elasticities:
    """By name; without a limit that nobody set."""
    named: Elasticities = dict(zip((*NAMES, "q"), map(float, values), strict=True))
    if float(asked.service.workload.tpot_limit) >= NO_LIMIT:
        del named["tpot_limit"]
    return named


def _kinks(own: _Piece, others: Sequence[_Piece]) -> tuple[str, ...]:
    words = []
    if len(own.slopes) > 1:
        words.append("memory and time per token bind at once")
    if others:
        words.append(f"another layout is as fast within {NEAR:.1%}")
    return tuple(words)


def _ratio(moe: SideSlopes, dense: SideSlopes) -> SideSlopes:
    """Of the ratio of dense over MoE."""

    def difference(way: str) -> Elasticities:
        first, second = getattr(dense, way), getattr(moe, way)
        names = [name for name in moe.elasticity if name in {**dense.left, **moe.left}]
        return {
            name: first.get(name, dense.elasticity[name]) - second.get(name, moe.elasticity[name])
            for name in names
        }

    elasticity = {name: dense.elasticity[name] - slope for name, slope in moe.elasticity.items()}
    sides = (("MoE", moe), ("dense", dense))
    kinks = tuple(f"{name}: {words}" for name, side in sides for words in side.kinks)
    return SideSlopes(elasticity, difference("left"), difference("right"), kinks=kinks)
