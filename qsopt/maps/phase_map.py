"""Who wins at every point of two axes, by how much, and how sure that is.

Both sides are at their exact optimum at every point. How sure: the dense match is also deployed at
both ends of the interval of q that its law's error implies; where both ends have the same winner,
the verdict is called sure. Where q is an axis, what is uncertain is not the verdict but where on
the map the model stands.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Bool

from qsopt.arrays import scalar
from qsopt.comparison.dense import NAMED, SAME_BODY, MatchKind, check_q, with_sizes
from qsopt.comparison.shapes import DenseShape
from qsopt.deployments.batches import in_numpy, take
from qsopt.deployments.layouts import layouts_of_any, legal_layouts
from qsopt.errors import InputError
from qsopt.maps.axes import CONSTANT, NO_TREND, Axis
from qsopt.maps.bounds import optima
from qsopt.maps.points import MapPoint, Sparsity, match_shapes, point_grid, with_top_k_factor
from qsopt.maps.sides import MapSide, Optima
from qsopt.maps.winners import Grid, Winners
from qsopt.quality.belief import Belief
from qsopt.record import Result
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service

Believe = Callable[[Model], Belief]
"""A function from a model to its q and how sure that is."""


@dataclass(frozen=True, repr=False)
class PhaseMap(Winners, Result):
    """Both sides at every point; arrays are [x, y]."""

    x: Axis
    """To the right."""
    y: Axis
    """Upwards."""
    s: Grid
    """Active over total parameters of the MoE."""
    q: Grid
    """Size of the dense match over the active parameters of the MoE."""
    q_low: Grid | None
    """Lower end of the law's interval of q; None where q was given."""
    q_high: Grid | None
    """Upper end."""
    moe: Optima
    """The MoE at every point."""
    dense: Optima
    """Its dense match."""
    dense_low: Optima | None
    """The match of `q_low`; None where q was given or is an axis."""
    dense_high: Optima | None
    """The match of `q_high`."""
    layouts: tuple[Deployment, Deployment]
    """Of the MoE and of its match: `layout` of their optima are places in these lists."""
    match: Model | None
    """The dense match where it is the same at all points."""

    @property
    def sure(self) -> Bool[np.ndarray, "x y"] | None:
        """Whether both ends of the interval of q have the same winner; None without them."""
        if self.dense_low is None or self.dense_high is None:
            return None
        return _dense_wins(self.moe, self.dense_low) == _dense_wins(self.moe, self.dense_high)

    @property
    def believed(self) -> Bool[np.ndarray, "x y"] | None:
        """Where q is an axis, whether it lies in the law's interval there; None elsewhere."""
        if "q" not in (self.x.name, self.y.name) or self.q_low is None or self.q_high is None:
            return None
        return (self.q >= self.q_low) & (self.q <= self.q_high)


def _dense_wins(moe: Optima, dense: Optima) -> Bool[np.ndarray, "x y"]:
    return dense.throughput > moe.throughput


def phase_map(
    model: Model,
    service: Service,
    x: Axis,
    y: Axis,
    believe: Believe,
    batch: float | None = None,
    interval: bool = True,
    kind: MatchKind = SAME_BODY,
    named: Model | None = None,
) -> PhaseMap:
    """Both sides at their exact optimum at every point of two axes.

    Args:
        model: the MoE.
        service: everything that the axes do not change.
        x: one axis.
        y: another.
        believe: q of a model; asked at every s where the sparsity is an axis.
        batch: sequences that may decode at once in the whole cluster; as many as fit if left out.
        interval: whether the match is deployed at both ends of the interval of q too.
        kind: which dense match.
        named: the match itself where it is a model that exists.

    Raises:
        InputError: if the axes are the same, the model is dense, or the law has no q or no match
            for a point.
    """
    axes, line = (x, y), Sparsity.from_model(model)
    _check_axes(axes, kind)
    points = _points(service, line, axes, batch)
    factors = np.asarray(points.top_k_factor)
    q, low, high = _q_at(model, factors, axes, believe)
    qs = [q]
    if interval and low is not None and high is not None and "q" not in (x.name, y.name):
        qs += [low, high]
    matches = [_shapes(model, factors, each, kind) for each in qs]
    layouts, match = _layouts(model, service, points, matches, kind, named)
    capped = _is_capped(axes, batch)
    moe = _optima(MapSide(model, service, layouts[0], None, capped), points, axes)
    side = MapSide(model if named is None else named, service, layouts[1], kind, capped)
    dense, *ends = (
        _optima(side, eqx.tree_at(lambda p: p.shape, points, shapes), axes) for shapes in matches
    )
    low_end, high_end = ends or (None, None)
    s = line.at_factor(factors)
    return PhaseMap(x, y, s, q, low, high, moe, dense, low_end, high_end, layouts, match)


def _check_axes(axes: tuple[Axis, Axis], kind: MatchKind) -> None:
    names = [axis.name for axis in axes]
    if names[0] == names[1]:
        raise InputError(f"x and y are both {names[0]}: take two different axes")
    if kind == NAMED and "q" in names:
        raise InputError("q is no axis for a dense model that is named: its size is its own")


def _is_capped(axes: tuple[Axis, Axis], batch: float | None) -> bool:
    """Whether the sequences in the cluster are limited anywhere."""
    return batch is not None or "batch" in [axis.name for axis in axes]


def _shapes(model: Model, top_k_factors: Grid, q: Grid, kind: MatchKind) -> DenseShape:
    """Shapes of the matches at every point; a named one needs none.

    Raises:
        InputError: for a q that leaves a match no feed-forward layers.
    """
    if kind == NAMED:
        zero = np.zeros(q.shape)
        return DenseShape(zero, zero, zero, zero)
    for factor in np.unique(top_k_factors):
        changed = model if factor == 1.0 else with_top_k_factor(model, scalar(factor))
        check_q(changed, q[top_k_factors == factor].min(), kind)
    shapes = match_shapes(model, np.ravel(top_k_factors), np.ravel(q), kind)  # pyright: ignore[reportArgumentType]
    return jax.tree.map(lambda leaf: np.asarray(leaf).reshape(q.shape), shapes)


def _optima(side: MapSide, points: MapPoint, axes: tuple[Axis, Axis]) -> Optima:
    """A side at every point."""
    x, y = (_trend(axis, side.kind, side.capped) for axis in axes)
    return optima(side, points, (x, y))


def _trend(axis: Axis, kind: MatchKind | None, capped: bool) -> int | None:
    """Of a side along an axis; under a cap on the cluster's sequences more replicas may each get a
    worse share of it, and whole layers and heads of a released shape jump.
    """
    if capped and axis.name == "devices":
        return NO_TREND
    if kind == NAMED and axis.name == "sparsity":
        return CONSTANT
    if kind is not None and kind.twin == "released" and axis.name == "q":
        return NO_TREND
    return axis.kind.trend[0 if kind is None else 1]


def _points(
    service: Service, line: Sparsity, axes: tuple[Axis, Axis], batch: float | None
) -> MapPoint:
    """All points, [x, y] each; the width of the twin is still open."""
    grids = np.meshgrid(*(axis.values for axis in axes), indexing="ij")
    changes = [
        (axis.kind.number, line.factors(values) if axis.name == "sparsity" else values)
        for axis, values in zip(axes, grids, strict=True)
    ]
    return point_grid(service, batch, grids[0].shape, changes)


def _q_at(
    model: Model, top_k_factors: Grid, axes: tuple[Axis, Axis], believe: Believe
) -> tuple[Grid, Grid | None, Grid | None]:
    """q and the ends of its interval at every point."""
    factors, where = np.unique(top_k_factors, return_inverse=True)
    where = where.reshape(top_k_factors.shape)
    beliefs = [
        believe(model if factor == 1.0 else with_top_k_factor(model, scalar(factor)))
        for factor in factors
    ]
    q = np.array([belief.q for belief in beliefs])[where]
    for place, axis in enumerate(axes):
        if axis.name == "q":
            along = axis.values[:, None] if place == 0 else axis.values
            q = np.broadcast_to(along, top_k_factors.shape)
    intervals = [belief.interval for belief in beliefs if belief.interval is not None]
    if len(intervals) < len(beliefs):
        return q, None, None
    low, high = (np.array(end)[where] for end in zip(*intervals, strict=True))
    return q, low, high


def _layouts(
    model: Model,
    service: Service,
    points: MapPoint,
    shapes: list[DenseShape],
    kind: MatchKind,
    named: Model | None,
) -> tuple[tuple[Deployment, Deployment], Model | None]:
    """Legal layouts of both sides on the largest cluster; smaller ones have no replica of the
    larger layouts. Where domains differ, points have room for different layouts, so none is left
    out for want of room. Also the dense match where it is the same at all points.
    """
    largest, rules = scalar(np.max(points.cluster.devices)), service.rules
    domains = points.cluster.accelerator.scale_up_devices
    if np.ptp(domains) > 0:
        rules = replace(rules, whole_domains=False)
    cluster = eqx.tree_at(lambda c: c.devices, service.cluster, largest)
    dense = [_match(model, shape, kind, named) for shape in _different(shapes)]
    same = np.ptp(np.ravel(shapes[0].width)) == 0.0 and np.ptp(np.ravel(shapes[0].hidden)) == 0.0
    match = _match(model, take(_flat(shapes[0]), 0), kind, named) if same else None
    both = legal_layouts(model, cluster, rules), layouts_of_any(dense, cluster, rules)
    return both, match


def _match(model: Model, shape: DenseShape, kind: MatchKind, named: Model | None) -> Model:
    return in_numpy(with_sizes(model, shape, kind)) if named is None else named


def _flat(shapes: DenseShape) -> DenseShape:
    return jax.tree.map(np.ravel, shapes)


def _different(shapes: list[DenseShape]) -> list[DenseShape]:
    """One shape for each number of layers and heads."""
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *map(_flat, shapes))
    sizes = np.stack([joined.layers, joined.heads], axis=1)
    return [take(joined, int(index)) for index in np.unique(sizes, axis=0, return_index=True)[1]]
