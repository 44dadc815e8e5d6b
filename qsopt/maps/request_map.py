"""Who serves requests best at every point of two axes, and by how much: both sides in their exact
best way of serving everywhere.
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Bool

from qsopt.comparison.contenders import draft_of
from qsopt.comparison.twin import aligned, qs_numbers
from qsopt.errors import InputError
from qsopt.maps.axes import REQUEST_KINDS, Axis
from qsopt.maps.pair import MatchedPair
from qsopt.maps.request_bounds import request_optima
from qsopt.maps.request_optima import RequestOptima
from qsopt.maps.winners import Grid, Winners
from qsopt.record import Result
from qsopt.serving.replica import Served
from qsopt.serving.trials import Asked, asked_once
from qsopt.serving.ways import asked, layouts_of
from qsopt.spec.model import Model, routed_layers

AXES = (*REQUEST_KINDS, "tpot", "bandwidth", "capacity", "scale_up", "scale_out")
"""What may be an axis of a map over requests."""


@dataclass(frozen=True, repr=False)
class RequestMap(Winners, Result):
    """Both sides at every point; arrays are [x, y]."""

    x: Axis
    """To the right."""
    y: Axis
    """Upwards."""
    s: Grid
    """Active over total parameters of the MoE."""
    q: Grid
    """Size of the dense match over the active parameters of the MoE."""
    moe: RequestOptima
    """The MoE at every point."""
    dense: RequestOptima
    """Its dense match."""
    match: Model
    """The dense match."""

    @property
    def sure(self) -> Bool[np.ndarray, "x y"] | None:
        """None: the match is deployed at one q alone."""
        return None

    @property
    def believed(self) -> Bool[np.ndarray, "x y"] | None:
        """None: q is no axis."""
        return None


def request_map(pair: MatchedPair, x: Axis, y: Axis) -> RequestMap:
    """Both sides in their exact best way of serving at every point of two axes.

    Args:
        pair: both sides, with a workload of requests.
        x: one axis.
        y: another.

    Raises:
        InputError: if the axes are the same, are none of requests, or move a number that does not
            count, or the model is dense.
    """
    routed_layers(pair.model, "a map compares a Mixture-of-Experts model with its dense twin")
    asked(pair.model, pair.service)
    _check(pair, x, y)
    shape, questions = (len(x.values), len(y.values)), _questions(pair, x, y)
    trends = (x.kind.trend[0], y.kind.trend[0])
    shared = bool({"answer", "acceptance"} & {x.name, y.name})
    moe, dense = (
        request_optima(
            _served(pair, side), layouts_of(side, pair.service), questions, shape, trends, shared
        )
        for side in (pair.model, pair.dense)
    )
    numbers = qs_numbers(pair.model, pair.q)
    s, q = (np.full(shape, float(number)) for number in (numbers.s, numbers.q))
    return RequestMap(x, y, s, q, moe, dense, pair.dense)


def _check(pair: MatchedPair, x: Axis, y: Axis) -> None:
    for name in (x.name, y.name):
        if name not in AXES:
            raise InputError(
                f"{name} is no axis of a map over requests: take two of {', '.join(AXES)}, or give "
                f"a context instead of prompt and answer"
            )
    if x.name == y.name:
        raise InputError(f"x and y are both {x.name}: take two different axes")
    drafted = float(pair.service.workload.tokens_per_step) > 1.0
    if "acceptance" in (x.name, y.name) and not drafted:
        raise InputError("acceptance is an axis, but nothing is drafted: give more tokens_per_step")


def _served(pair: MatchedPair, side: Model) -> Served:
    """A side in the structure of the MoE, so that both share a compilation."""
    served = Served(aligned(side, pair.model), pair.service, draft_of(side, pair.service))
    return jax.tree.map(np.asarray, served)


def _questions(pair: MatchedPair, x: Axis, y: Axis) -> Asked:
    """All points in one row, the second axis first."""
    shape = (len(x.values), len(y.values))
    one = asked_once(Served(pair.model, pair.service))
    many = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf), shape[0] * shape[1], axis=0), one)
    grids = np.meshgrid(x.values, y.values, indexing="ij")
    for axis, values in zip((x, y), grids, strict=True):
        assert axis.kind.number is not None
        many = eqx.tree_at(axis.kind.number, many, values.ravel())
    return many
