"""Who wins at every point of two axes, by how much, and how sure that is.

Both sides are at their exact optimum at every point. How sure: the twin is also deployed at both
ends of the interval of q that its law's error implies; where both ends have the same winner, the
verdict is called sure. Where q is an axis, what is uncertain is not the verdict but where on the
map the model stands.
"""

from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float

from qsopt.arrays import scalar
from qsopt.comparison.compare import verdict
from qsopt.comparison.twin import dense_twin
from qsopt.deployments.layouts import legal_layouts
from qsopt.errors import InputError
from qsopt.maps.axes import NO_TREND, Axis
from qsopt.maps.bounds import Optima, Side, optima
from qsopt.maps.condition import Condition, Sparsity, condition_of, twin_widths, with_chosen
from qsopt.quality.belief import Belief
from qsopt.record import Result
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service

Believe = Callable[[Model], Belief]
"""q of a model, and how sure it is."""

Grid = Float[np.ndarray, "x y"]


@dataclass(frozen=True, repr=False)
class PhaseMap(Result):
    """Both sides at every point; arrays are [x, y]."""

    x: Axis
    y: Axis
    s: Grid
    """Active over total parameters of the MoE."""
    q: Grid
    """Size of the twin over the active parameters of the MoE."""
    q_low: Grid | None
    """Lower end of the law's interval of q; None where q was given."""
    q_high: Grid | None
    moe: Optima
    dense: Optima
    dense_low: Optima | None
    """The twin of `q_low`; None where q was given or is an axis."""
    dense_high: Optima | None
    layouts: tuple[Deployment, Deployment]
    """Of the MoE and of its twin, that `layout` of their optima counts."""

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
    share = Sparsity.of(model)
    numbers = _numbers(model, service, share, (x, y), batch)
    chosen = numbers.chosen
    q, low, high = _q_of(model, chosen, (x, y), believe)
    _check_twins(model, chosen, q)
    layouts = _layouts(model, service, numbers, float(q.flat[0]))
    capped = batch is not None or "batch" in (x.name, y.name)
    moe_trends, dense_trends = (
        (_trend(x, side, capped), _trend(y, side, capped)) for side in (0, 1)
    )

    def dense_at(qs: Grid) -> Optima:
        widths = np.asarray(twin_widths(model, chosen.ravel(), qs.ravel())).reshape(qs.shape)
        side = Side(model, service, layouts[1], dense=True, capped=capped)
        return optima(side, eqx.tree_at(lambda c: c.width, numbers, widths), dense_trends)

    moe = optima(Side(model, service, layouts[0], dense=False, capped=capped), numbers, moe_trends)
    ends: tuple[Optima | None, Optima | None] = (None, None)
    if interval and low is not None and high is not None and "q" not in (x.name, y.name):
        ends = dense_at(low), dense_at(high)
    s = share.own + share.slope * (chosen - 1.0)
    return PhaseMap(x, y, s, q, low, high, moe, dense_at(q), *ends, layouts)


def _trend(axis: Axis, side: int, capped: bool) -> int | None:
    """Of a side along an axis; under a cap on the cluster's sequences more replicas may each get a
    worse share of it.
    """
    return NO_TREND if capped and axis.name == "devices" else axis.kind.trend[side]


def _numbers(
    model: Model, service: Service, share: Sparsity, axes: tuple[Axis, Axis], batch: float | None
) -> Condition:
    """Conditions of all points, [x, y] each; the width of the twin is still open."""
    shape = (len(axes[0].values), len(axes[1].values))
    values = dict(
        zip(
            (axis.name for axis in axes),
            np.meshgrid(*(axis.values for axis in axes), indexing="ij"),
            strict=True,
        )
    )
    base = condition_of(service, batch)
    if "sparsity" in values:
        values["chosen"] = share.factors(values.pop("sparsity"))
    values.pop("q", None)
    full = {
        name: values.get(name, np.full(shape, float(getattr(base, name))))
        for name in Condition.__dataclass_fields__
    }
    return Condition(**full)


def _q_of(
    model: Model, chosen: Grid, axes: tuple[Axis, Axis], believe: Believe
) -> tuple[Grid, Grid | None, Grid | None]:
    """q and the ends of its interval at every point."""
    factors, where = np.unique(chosen, return_inverse=True)
    where = where.reshape(chosen.shape)
    held = [
        believe(model if factor == 1.0 else with_chosen(model, scalar(factor)))
        for factor in factors
    ]
    q = np.array([each.q for each in held])[where]
    for place, axis in enumerate(axes):
        if axis.name == "q":
            q = np.broadcast_to(axis.values[:, None] if place == 0 else axis.values, chosen.shape)
    ends = [each.interval for each in held if each.interval is not None]
    if len(ends) < len(held):
        return q, None, None
    low, high = (np.array(end)[where] for end in zip(*ends, strict=True))
    return q, low, high


def _check_twins(model: Model, chosen: Grid, q: Grid) -> None:
    """Refuse a q that leaves a twin no feed-forward layers.

    Raises:
        InputError: for the first such point.
    """
    for factor in np.unique(chosen):
        dense_twin(
            model if factor == 1.0 else with_chosen(model, scalar(factor)),
            q[chosen == factor].min(),
        )


def _layouts(
    model: Model, service: Service, numbers: Condition, q: float
) -> tuple[Deployment, Deployment]:
    """Legal layouts of both sides on the largest cluster; smaller ones have no replica of the
    larger layouts.
    """
    cluster = eqx.tree_at(lambda c: c.devices, service.cluster, scalar(numbers.devices.max()))
    rules = service.rules
    return legal_layouts(model, cluster, rules), legal_layouts(dense_twin(model, q), cluster, rules)
