"""Both sides of a comparison on whole requests, each with every way, layout and chunk that it may
be served in.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np

from qsopt.arrays import Scalar, number
from qsopt.comparison.compare import verdict
from qsopt.comparison.dense import MatchKind
from qsopt.comparison.twin import aligned
from qsopt.record import Record
from qsopt.serving.answer import closest
from qsopt.serving.candidates import Candidates, Groups
from qsopt.serving.history import History
from qsopt.serving.ranking import Option, foremost
from qsopt.serving.replica import Served
from qsopt.serving.speculation import Draft, next_token_layer
from qsopt.serving.ways import layouts_of, lists
from qsopt.spec.counterfactual import ACTUAL, Counterfactual
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model
from qsopt.spec.service import Service


class RequestSide(Record):
    """One side in its best way of serving."""

    model: Model = eqx.field(repr=False)
    best: Option | None = eqx.field(repr=False)
    """Where limits on time are broken, the plan that comes closest; None where memory holds none.
    """
    throughput: Scalar = number()
    """Output tokens of the cluster, 0 where nothing keeps the limits [tokens/s]."""


class Contender(NamedTuple):
    """A model that serves requests, with all of its candidates."""

    model: Model
    aligned: Model
    """The same numbers in the MoE's structure: both sides share a compilation."""
    layouts: Deployment
    every: Candidates
    groups: Groups
    history: History
    """What it has answered."""

    def served(
        self, service: Service, model: Model | None = None, world: Counterfactual = ACTUAL
    ) -> Served:
        """The model, or another one that takes its place, on a service."""
        draft = draft_of(self.model, service)
        served = Served(self.aligned if model is None else model, service, draft, world)
        return jax.tree.map(np.asarray, served)

    def throughput(
        self, service: Service, model: Model | None = None, world: Counterfactual = ACTUAL
    ) -> float:
        """Of the best way, 0 where nothing keeps the limits [tokens/s]."""
        return float(self.history.peak(self.served(service, model, world)).throughput)

    def best(self, service: Service) -> Option | None:
        """The best way, None where nothing keeps the limits."""
        served = self.served(service)
        return foremost(served, self.every, self.groups, self.history.peak(served))

    def side(self, service: Service) -> RequestSide:
        """The best way, or what comes closest."""
        best = self.best(service)
        if best is not None:
            return RequestSide(self.model, best, best.reached.throughput)
        near = closest(self.served(service), self.every, self.groups)
        return RequestSide(self.model, near, np.float64(0.0))


def contender(model: Model, like: Model, layouts: Deployment) -> Contender:
    """A model with all of its candidates.

    Args:
        model: that is served.
        like: in whose structure its numbers are put.
        layouts: that the service allows it.
    """
    every, groups = lists(layouts)
    return Contender(model, aligned(model, like), layouts, every, groups, History(every, groups))


class RequestDuel(NamedTuple):
    """Both contenders."""

    moe: Contender
    dense: Contender
    kind: MatchKind

    def verdict(self, service: Service) -> str:
        """Who wins on another service."""
        return verdict(self.moe.throughput(service), self.dense.throughput(service))


def rival(duel: RequestDuel, match: Model, service: Service, kind: MatchKind) -> RequestDuel:
    """The same MoE against another dense match."""
    dense = contender(match, duel.moe.model, layouts_of(match, service))
    return RequestDuel(duel.moe, dense, kind)


def request_duel(
    model: Model,
    match: Model,
    service: Service,
    kind: MatchKind,
    layouts: list[Deployment] | None = None,
) -> RequestDuel:
    """Both sides with all of their candidates.

    Args:
        model: the MoE.
        match: the dense model.
        service: what both are served on and for.
        kind: of the match.
        layouts: that the service allows each of them, where they are known.
    """
    each = allowed(model, match, service) if layouts is None else layouts
    moe, dense = (
        contender(side, model, own) for side, own in zip((model, match), each, strict=True)
    )
    return RequestDuel(moe, dense, kind)


def allowed(model: Model, match: Model, service: Service) -> list[Deployment]:
    """The layouts that a service allows both sides."""
    return [layouts_of(side, service) for side in (model, match)]


def draft_of(model: Model, service: Service) -> Draft | None:
    """What drafts for a side where a step verifies more than one token."""
    return next_token_layer(model) if float(service.workload.tokens_per_step) > 1.0 else None
