"""The comparison on whole requests: an MoE against a dense match, each in its own best way of
serving, layouts, batch and chunk, under the same limits.

    ratio = output tokens/s of dense over those of the MoE

What would flip the verdict is searched input by input: between the value asked about and the ends
of a range, where the verdicts differ, by bisection in the log.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np

from qsopt.arrays import Scalar, number
from qsopt.comparison.compare import verdict
from qsopt.comparison.dense import (
    NAMED,
    SAME_BODY,
    MatchKind,
    bracket,
    dense_match,
    relaxed_matches,
)
from qsopt.comparison.twin import QsNumbers, aligned, qs_numbers
from qsopt.deployments.batches import take
from qsopt.record import Record, Result
from qsopt.serving.answer import closest
from qsopt.serving.candidates import Candidates, Groups
from qsopt.serving.ranking import Option, ranked
from qsopt.serving.replica import Served
from qsopt.serving.ways import SEARCHED, asked, layouts_of, lists_of_each, searched
from qsopt.spec.model import Model
from qsopt.spec.service import Service

BISECTIONS = 6
"""Halvings of the interval in which a verdict flips: to 1/64 of it in the log."""

RANGES = {
    "answer": (1.0, 1e5),
    "cached": (0.0, 0.99),
    "tpot_limit": (1e-3, 1.0),
}
"""Ends between which each input is moved [token, share, s]."""


class RequestSide(Record):
    """One side in its best way of serving."""

    model: Model
    best: Option | None
    """None where memory holds no plan; where limits on time are broken, the closest."""
    throughput: Scalar = number()
    """Output tokens of the cluster, 0 where nothing keeps the limits [tokens/s]."""


class Flip(NamedTuple):
    """A value of one input at which another verdict begins."""

    input: str
    value: float
    to: str
    """The verdict beyond it."""


class RequestComparison(Result, Record):
    """Both sides, and what separates them."""

    moe: RequestSide
    dense: RequestSide
    numbers: QsNumbers
    flips: tuple[Flip, ...] = eqx.field(static=True)
    ratio: Scalar = number()
    """Throughput of dense over MoE; NaN where a side is infeasible."""
    break_even_q: Scalar = number()
    """q at which the verdict flips, for a match of real sizes; NaN where none does."""

    @property
    def verdict(self) -> str:
        """Who wins."""
        return verdict(float(self.moe.throughput), float(self.dense.throughput))


class Sides(NamedTuple):
    """Both models aligned to one structure, with their candidates filled up to one length."""

    models: tuple[Model, Model]
    lists: list[tuple[Candidates, Groups]]

    def throughput(self, place: int, service: Service, model: Model | None = None) -> float:
        """Of the MoE (0) or the dense side (1), or of another model with its candidates
        [tokens/s].
        """
        served = _numbers(self.models[place] if model is None else model, service)
        return float(searched(served, *self.lists[place]).ways.throughput)

    def verdict(self, service: Service) -> str:
        """Who wins on another service."""
        return verdict(self.throughput(0, service), self.throughput(1, service))


def compare_requests(
    model: Model,
    service: Service,
    q: Scalar,
    kind: MatchKind = SAME_BODY,
    named: Model | None = None,
    flips: bool = True,
) -> RequestComparison:
    """The comparison of an MoE with one dense match on requests.

    Args:
        model: the MoE.
        service: what both sides are served on and for, with a workload of requests.
        q: size factor of the dense match.
        kind: which match.
        named: the match itself where it is a model that exists.
        flips: whether to look for what would flip the verdict.

    Raises:
        InputError: if the workload is no workload of requests, or q leaves the match no
            feed-forward layers.
    """
    asked(model, service)
    match = dense_match(model, q, kind) if named is None else named
    each = lists_of_each([layouts_of(side, service) for side in (model, match)], SEARCHED)
    both = Sides((aligned(model, model), aligned(match, model)), each)
    moe, dense = (
        _side(side, both.models[place], service, both.lists[place])
        for place, side in enumerate((model, match))
    )
    throughputs = float(moe.throughput), float(dense.throughput)
    feasible = min(throughputs) > 0.0
    flip = _break_even(model, service, both, kind, throughputs) if flips else math.nan
    return RequestComparison(
        moe,
        dense,
        qs_numbers(model, q),
        _flips(service, both, float(q), flip, verdict(*throughputs)) if flips else (),
        ratio=throughputs[1] / throughputs[0] if feasible else math.nan,
        break_even_q=flip,
    )


def _numbers(model: Model, service: Service) -> Served:
    return jax.tree.map(np.asarray, Served(model, service))


def _side(
    model: Model, side: Model, service: Service, lists: tuple[Candidates, Groups]
) -> RequestSide:
    served = _numbers(side, service)
    plans = ranked(served, *lists, 1)
    if plans:
        return RequestSide(model, plans[0], plans[0].reached.throughput)
    return RequestSide(model, closest(served, *lists), 0.0)


def _break_even(
    model: Model,
    service: Service,
    both: Sides,
    kind: MatchKind,
    throughputs: tuple[float, float],
) -> float:
    """q at which the match serves as much as the MoE, by bisection in the log."""
    if kind == NAMED or not throughputs[0] > 0.0:
        return math.nan

    def ahead(q: float) -> bool:
        match = take(relaxed_matches(model, np.asarray([q]), kind), 0)
        return both.throughput(1, service, match) > throughputs[0]

    low, high = (float(end) for end in bracket(model, service, kind))
    low *= 1.0 + 1e-6
    if not ahead(low) or ahead(high):
        return math.nan
    return _bisected(ahead, low, high, BISECTIONS + 3)


def _bisected(holds: Callable[[float], bool], low: float, high: float, steps: int) -> float:
    """Where something stops to hold that holds at `low`, by halving in the log."""
    for _ in range(steps):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return math.sqrt(low * high)


def _flips(
    service: Service, both: Sides, q: float, break_even: float, now: str
) -> tuple[Flip, ...]:
    """The nearest value of each input on either side at which the verdict is another."""
    flips = []
    if math.isfinite(break_even):
        flips.append(Flip("q", break_even, "moe wins" if break_even > q else "dense wins"))
    for name, ends in RANGES.items():
        for end in ends:
            beyond = both.verdict(_with(service, name, end))
            if beyond != now:
                flips.append(Flip(name, _crossing(service, both, name, end, now), beyond))
    return tuple(flips)


def _crossing(service: Service, both: Sides, name: str, end: float, now: str) -> float:
    """Where between its own value and the end an input changes the verdict; a cached share is
    searched by what is not cached.
    """
    low, high = RANGES[name]
    start = min(max(float(getattr(service.workload, name)), low), high)
    if name == "cached":

        def holds_uncached(share: float) -> bool:
            return both.verdict(_with(service, name, 1.0 - share)) == now

        return 1.0 - _bisected(holds_uncached, 1.0 - start, 1.0 - end, BISECTIONS)
    return _bisected(
        lambda value: both.verdict(_with(service, name, value)) == now, start, end, BISECTIONS
    )


def _with(service: Service, name: str, value: float) -> Service:
    """The service with another number in its workload."""
    return eqx.tree_at(lambda s: getattr(s.workload, name), service, np.asarray(value, dtype=float))
