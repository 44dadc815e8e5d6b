"""The comparison on whole requests: an MoE against a dense match, each in its own best way of
serving, layouts, batch and chunk, under the same limits.

    ratio = output tokens/s of dense over those of the MoE
"""

from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np

from qsopt.arrays import Scalar, number
from qsopt.comparison.compare import COMPARED, verdict
from qsopt.comparison.dense import SAME_BODY, MatchKind, dense_match
from qsopt.comparison.twin import QsNumbers, aligned, qs_numbers
from qsopt.record import Record, Result
from qsopt.serving.answer import closest
from qsopt.serving.candidates import Candidates, Groups
from qsopt.serving.ranking import Option, ranked
from qsopt.serving.replica import Served
from qsopt.serving.speculation import Draft, next_token_layer
from qsopt.serving.ways import asked, layouts_of, lists_of_each, searched
from qsopt.spec.deployment import Deployment
from qsopt.spec.model import Model, routed_layers
from qsopt.spec.service import Service


class RequestSide(Record):
    """One side in its best way of serving."""

    model: Model = eqx.field(repr=False)
    best: Option | None = eqx.field(repr=False)
    """Where limits on time are broken, the plan that comes closest; None where memory holds none.
    """
    throughput: Scalar = number()
    """Output tokens of the cluster, 0 where nothing keeps the limits [tokens/s]."""


class RequestComparison(Result, Record):
    """Both sides, and what separates them."""

    _first = ("verdict",)

    moe: RequestSide
    dense: RequestSide
    numbers: QsNumbers
    """s, q and qs."""
    ratio: Scalar = number()
    """Throughput of dense over MoE; NaN where a side is infeasible."""

    @property
    def verdict(self) -> str:
        """Who wins."""
        return verdict(float(self.moe.throughput), float(self.dense.throughput))


class Contender(NamedTuple):
    """A model that serves requests, with all of its candidates."""

    model: Model
    aligned: Model
    """The same numbers in the MoE's structure: both sides share a compilation."""
    layouts: Deployment
    every: Candidates
    groups: Groups

    def served(self, service: Service, model: Model | None = None) -> Served:
        """The model, or another one that takes its place, on a service."""
        draft = _draft(self.model, service)
        served = Served(self.aligned if model is None else model, service, draft)
        return jax.tree.map(np.asarray, served)

    def throughput(self, service: Service, model: Model | None = None) -> float:
        """Of the best way, 0 where nothing keeps the limits [tokens/s]."""
        found = searched(self.served(service, model), self.every, self.groups, 1.0)
        return float(found.ways.throughput)

    def side(self, service: Service) -> RequestSide:
        """The best way."""
        served = self.served(service)
        best = ranked(served, self.every, self.groups, 1)
        if best:
            return RequestSide(self.model, best[0], best[0].reached.throughput)
        return RequestSide(self.model, closest(served, self.every, self.groups), np.float64(0.0))


class RequestDuel(NamedTuple):
    """Both contenders."""

    moe: Contender
    dense: Contender
    kind: MatchKind

    def verdict(self, service: Service) -> str:
        """Who wins on another service."""
        return verdict(self.moe.throughput(service), self.dense.throughput(service))


def settle_requests(
    model: Model,
    service: Service,
    q: Scalar,
    kind: MatchKind = SAME_BODY,
    named: Model | None = None,
) -> tuple[RequestComparison, RequestDuel]:
    """The comparison of an MoE with one dense match on requests, and the duel behind it.

    The search over ways, layouts, batches and chunks is exact for both (see `serving`). With
    `tokens_per_step` above 1 each side drafts by one more layer of its own.

    Args:
        model: the MoE, concrete.
        service: what both sides are served on and for, with a workload of requests.
        q: size factor of the dense match.
        kind: which match.
        named: the match itself where it is a model that exists.

    Raises:
        InputError: if the model has no routed experts, the workload is no workload of requests, or
            q leaves the match no feed-forward layers.
    """
    routed_layers(model, COMPARED)
    asked(model, service)
    match = dense_match(model, q, kind) if named is None else named
    duel = RequestDuel(*_contenders(model, match, service), kind)
    moe = duel.moe.side(service)
    return against(moe, duel, service, q), duel


def against(moe: RequestSide, duel: RequestDuel, service: Service, q: Scalar) -> RequestComparison:
    """The comparison of an MoE whose best way is known."""
    dense = duel.dense.side(service)
    both = float(moe.throughput) > 0.0 and float(dense.throughput) > 0.0
    ratio = float(dense.throughput) / float(moe.throughput) if both else np.nan
    return RequestComparison(moe, dense, qs_numbers(moe.model, q), np.float64(ratio))


def rival(duel: RequestDuel, match: Model, service: Service, kind: MatchKind) -> RequestDuel:
    """The same MoE against another dense match."""
    layouts = layouts_of(match, service)
    _, (every, groups) = lists_of_each([duel.moe.layouts, layouts])
    dense = Contender(match, aligned(match, duel.moe.model), layouts, every, groups)
    return RequestDuel(duel.moe, dense, kind)


def _contenders(model: Model, match: Model, service: Service) -> tuple[Contender, Contender]:
    """Both sides, their candidates filled up to one length."""
    each = [layouts_of(side, service) for side in (model, match)]
    moe, dense = (
        Contender(side, aligned(side, model), layouts, *lists)
        for side, layouts, lists in zip((model, match), each, lists_of_each(each), strict=True)
    )
    return moe, dense


def _draft(model: Model, service: Service) -> Draft | None:
    return next_token_layer(model) if float(service.workload.tokens_per_step) > 1.0 else None
