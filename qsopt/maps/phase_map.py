"""Who wins at every point of two axes, by how much, and how sure that is.

Both sides are at their exact optimum at every point. How sure: the twin is also deployed at both
ends of the interval of q that its law's error implies; where both ends have the same winner, the
verdict is called sure. Where q is an axis, what is uncertain is not the verdict but where on the
map the model stands.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float

from qsopt.arrays import scalar
from qsopt.comparison.compare import verdict
from qsopt.comparison.twin import dense_twin
from qsopt.deployments.layouts import legal_layouts
from qsopt.errors import InputError
from qsopt.maps.axes import NO_TREND, Axis
from qsopt.maps.bounds import MapSide, Optima, optima
from qsopt.maps.points import MapPoint, Sparsity, point_grid, twin_widths, with_top_k_factor
from qsopt.quality.belief import Belief
from qsopt.record import Result
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service

Believe = Callable[[Model], Belief]
"""A function from a model to its q and how sure that is."""

Grid = Float[np.ndarray, "x y"]


@dataclass(frozen=True, repr=False)
class PhaseMap(Result):
    """Both sides at every point; arrays are [x, y]."""

    x: Axis
    """To the right."""
    y: Axis
    """Upwards."""
    s: Grid
    """Active over total parameters of the MoE."""
    q: Grid
    """Size of the twin over the active parameters of the MoE."""
    q_low: Grid | None
    """Lower end of the law's interval of q; None where q was given."""
    q_high: Grid | None
    """Upper end."""
    moe: Optima
    """The MoE at every point."""
    dense: Optima
    """Its twin."""
    dense_low: Optima | None
    """The twin of `q_low`; None where q was given or is an axis."""
    dense_high: Optima | None
    """The twin of `q_high`."""
    layouts: tuple[Deployment, Deployment]
    """Of the MoE and of its twin: `layout` of their optima are places in these lists."""

    @property
    def ratio(self) -> Grid:
        """Throughput of dense over MoE, NaN where a side is infeasible."""
        return ratio_of(self.moe, self.dense)

    @property
    def qs(self) -> Grid:
        """Size of the twin over the MoE's total."""
        return self.q * self.s

    @property
    def verdicts(self) -> list[list[str]]:
        """Who wins at every point."""
        pairs = zip(self.moe.throughput, self.dense.throughput, strict=True)
        return [
            [verdict(*map(float, pair)) for pair in zip(*column, strict=True)] for column in pairs
        ]

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


def ratio_of(moe: Optima, dense: Optima) -> Grid:
    """Throughput of dense over MoE, NaN where a side is infeasible."""
    both = (moe.throughput > 0.0) & (dense.throughput > 0.0)
    return np.where(both, dense.throughput / np.where(both, moe.throughput, 1.0), np.nan)


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
) -> PhaseMap:
    """Both sides at their exact optimum at every point of two axes.

    Args:
        model: the MoE.
        service: everything that the axes do not change.
        x: one axis.
        y: another.
        believe: q of a model; asked at every s where the sparsity is an axis.
        batch: sequences that may decode at once in the whole cluster; as many as fit if left out.
        interval: whether the twin is deployed at both ends of the interval of q too.

    Raises:
        InputError: if the axes are the same, the model is dense, or the law has no q or no twin for
            a point.
    """
    if x.name == y.name:
        raise InputError(f"x and y are both {x.name}: take two different axes")
    axes, line = (x, y), Sparsity.from_model(model)
    points = _points(service, line, axes, batch)
    factors = np.asarray(points.top_k_factor)
    q, low, high = _q_at(model, factors, axes, believe)
    _check_twins(model, factors, q)
    layouts = _layouts(model, service, points, float(q.flat[0]))
    moe, dense = (
        MapSide(model, service, layouts[side], dense=bool(side), capped=_is_capped(axes, batch))
        for side in (0, 1)
    )
    ends: tuple[Optima | None, Optima | None] = (None, None)
    if interval and low is not None and high is not None and "q" not in (x.name, y.name):
        ends = _optima(dense, points, axes, low), _optima(dense, points, axes, high)
    sides = _optima(moe, points, axes), _optima(dense, points, axes, q)
    return PhaseMap(x, y, line.at_factor(factors), q, low, high, *sides, *ends, layouts)


def _is_capped(axes: tuple[Axis, Axis], batch: float | None) -> bool:
    """Whether the sequences in the cluster are limited anywhere."""
    return batch is not None or "batch" in [axis.name for axis in axes]


def _optima(
    side: MapSide, points: MapPoint, axes: tuple[Axis, Axis], q: Grid | None = None
) -> Optima:
    """A side at every point; the dense one is the twin of q there."""
    if q is not None:
        factors = np.ravel(points.top_k_factor)
        widths = np.asarray(twin_widths(side.model, factors, q.ravel())).reshape(q.shape)  # pyright: ignore[reportArgumentType]
        points = eqx.tree_at(lambda p: p.twin_width, points, widths)
    x, y = (_trend(axis, int(side.dense), side.capped) for axis in axes)
    return optima(side, points, (x, y))


def _trend(axis: Axis, side: int, capped: bool) -> int | None:
    """Of a side along an axis; under a cap on the cluster's sequences more replicas may each get a
    worse share of it.
    """
    return NO_TREND if capped and axis.name == "devices" else axis.kind.trend[side]


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


def _check_twins(model: Model, top_k_factors: Grid, q: Grid) -> None:
    """Refuse a q that leaves a twin no feed-forward layers.

    Raises:
        InputError: for the first such point.
    """
    for factor in np.unique(top_k_factors):
        dense_twin(
            model if factor == 1.0 else with_top_k_factor(model, scalar(factor)),
            q[top_k_factors == factor].min(),
        )


def _layouts(
    model: Model, service: Service, points: MapPoint, q: float
) -> tuple[Deployment, Deployment]:
    """Legal layouts of both sides on the largest cluster; smaller ones have no replica of the
    larger layouts. Where domains differ, points have room for different layouts, so none is left
    out for want of room.
    """
    largest, rules = scalar(np.max(points.cluster.devices)), service.rules
    domains = points.cluster.accelerator.scale_up_devices
    if np.ptp(domains) > 0:
        rules = replace(rules, whole_domains=False)
    cluster = eqx.tree_at(lambda c: c.devices, service.cluster, largest)
    return legal_layouts(model, cluster, rules), legal_layouts(dense_twin(model, q), cluster, rules)
