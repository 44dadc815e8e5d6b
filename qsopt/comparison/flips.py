"""What would flip the verdict on requests: input by input, the nearest value on either side at
which another side wins.

Each input is moved from its own value through a coarse grid until the verdict is another, and the
step in which it flips is halved in the log. A flip between two points of the grid that flips back
is not seen.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np

from qsopt.arrays import Scalar
from qsopt.comparison.compare import verdict
from qsopt.comparison.contenders import RequestDuel
from qsopt.comparison.dense import NAMED, bracket, relaxed_matches
from qsopt.deployments.batches import take
from qsopt.spec.model import Model
from qsopt.spec.service import Service

HALVINGS = 5
"""Of the step in which a verdict flips: to 1/32 of it in the log."""

GRIDS = {
    "answer": (16.0, 128.0, 1024.0, 8192.0, 65536.0),
    "uncached": (0.01, 0.1, 0.5, 1.0),
    "tpot_limit": (0.01, 0.03, 0.1, 0.3, 1.0),
}
"""Values that are tried [token, share of the prompt, s]."""

SLOWEST = 10.0
"""Limits above it bind nobody [s]."""

POWERS = range(-4, 5)
"""Powers of two times q that are tried."""

Q_HALVINGS = 10
"""The same for q: to 0.07 %."""

NEITHER = "both infeasible"
"""Where a walk ends, as nobody wins there."""


class Flip(NamedTuple):
    """A value of one input at which the verdict is another."""

    input: str
    value: float
    to: str
    """The verdict at that value."""


def flips(now: str, duel: RequestDuel, service: Service) -> Iterator[Flip]:
    """The nearest flips of answer length, cached share and limit on time per token.

    Args:
        now: verdict of the question.
        duel: behind it.
        service: of the question.
    """
    workload = service.workload
    own = {
        "answer": workload.answer,
        "uncached": 1.0 - workload.cached,
        "tpot_limit": min(float(workload.tpot_limit), SLOWEST),
    }
    for name, grid in GRIDS.items():

        def at(value: float, name: str = name) -> str:
            return duel.verdict(_with(service, name, value))

        start = max(float(own[name]), 1e-3)
        for value, to in nearest(at, start, now, grid):
            yield _named(name, value, to)


def nearest(
    at: Callable[[float], str],
    own: float,
    now: str,
    grid: Sequence[float],
    halvings: int = HALVINGS,
) -> Iterator[tuple[float, str]]:
    """The nearest value below and above at which a verdict is another, and that verdict.

    Args:
        at: verdict at a value.
        own: value of the question.
        now: verdict there.
        grid: values that are tried.
        halvings: of the step in which the verdict flips.
    """
    below = sorted((value for value in grid if value < own), reverse=True)
    above = sorted(value for value in grid if value > own)
    for walk in (below, above):
        last = own
        for value in walk:
            to = at(value)
            if to != now:
                flip = _halved(at, now, last, (value, to), halvings)
                if flip[1] != NEITHER:
                    yield flip
                break
            last = value


def _halved(
    at: Callable[[float], str], now: str, near: float, far: tuple[float, str], halvings: int
) -> tuple[float, str]:
    """The step between a value with the verdict and one with another, halved in the log."""
    for _ in range(halvings):
        middle = math.sqrt(near * far[0])
        to = at(middle)
        near, far = (middle, far) if to == now else (near, (middle, to))
    return far


def flips_of_q(moe: float, q: float, duel: RequestDuel, service: Service) -> Iterator[Flip]:
    """The nearest flips by q, for a match of real sizes; none for a model that exists.

    Args:
        moe: throughput of the MoE [tokens/s].
        q: of the question.
        duel: behind it.
        service: of the question.
    """
    if duel.kind == NAMED:
        return
    model = duel.moe.model
    low, high = (float(end) for end in bracket(model, service, duel.kind))

    def at(value: float) -> str:
        return verdict(moe, duel.dense.throughput(service, _match(duel, model, value)))

    inside = [value for value in (q * 2.0**power for power in POWERS) if low < value < high]
    for value, to in nearest(at, q, at(q), inside, Q_HALVINGS):
        yield Flip("q", value, to)


def _match(duel: RequestDuel, model: Model, q: Scalar | float) -> Model:
    """The match of real sizes at another q, aligned."""
    return jax.tree.map(np.asarray, take(relaxed_matches(model, np.asarray([q]), duel.kind), 0))


def _named(name: str, value: float, to: str) -> Flip:
    """A flip under the names of the answer."""
    if name == "uncached":
        return Flip("cached", 1.0 - value, to)
    return Flip("tpot_limit_s" if name == "tpot_limit" else name, value, to)


def _with(service: Service, name: str, value: float) -> Service:
    """The service with another number in its workload."""
    field, number = ("cached", 1.0 - value) if name == "uncached" else (name, value)
    return eqx.tree_at(lambda s: getattr(s.workload, field), service, np.asarray(number))
