"""The comparison on whole requests: an MoE against a dense match, each in its own best way of
serving, layouts, batch and chunk, under the same limits.

    ratio = output tokens/s of dense over those of the MoE
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from qsopt.arrays import Scalar, number
from qsopt.comparison.compare import COMPARED, verdict
from qsopt.comparison.contenders import RequestDuel, RequestSide, allowed, request_duel
from qsopt.comparison.dense import SAME_BODY, MatchKind, dense_match
from qsopt.comparison.flips import Flip, flips, flips_of_q
from qsopt.comparison.penalties import Penalties
from qsopt.comparison.request_penalties import RequestPenalties, request_penalties
from qsopt.comparison.twin import QsNumbers, qs_numbers
from qsopt.record import Record, Result
from qsopt.serving.ways import asked
from qsopt.spec.model import Model, routed_layers
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload


class RequestComparison(Result, Record):
    """Both sides, what separates them, and what would turn the verdict."""

    _first = ("verdict",)

    moe: RequestSide
    dense: RequestSide
    numbers: QsNumbers
    """s, q and qs."""
    causes: RequestPenalties = eqx.field(repr=False)
    """Factors of the ratio, by phase; NaN where a side is infeasible."""
    flips: tuple[Flip, ...] = eqx.field(repr=False)
    """Nearest values of single inputs at which the verdict is another."""
    ratio: Scalar = number()
    """Throughput of dense over MoE; NaN where a side is infeasible."""

    @property
    def verdict(self) -> str:
        """Who wins."""
        return verdict(float(self.moe.throughput), float(self.dense.throughput))

    @property
    def penalties(self) -> Penalties:
        """Factors of the ratio."""
        return self.causes.whole

    @property
    def break_even_q(self) -> float:
        """The nearest q at which the verdict flips, for a match of real sizes; NaN where none
        does.
        """
        return next((flip.value for flip in self.flips if flip.input == "q"), float("nan"))


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
    duel = request_duel(model, match, service, kind)
    sides = duel.moe.side(service), duel.dense.side(service)
    now = outcome(*sides)
    by_q = flips_of_q(float(sides[0].throughput), float(q), duel, service)
    result = RequestComparison(
        *sides,
        qs_numbers(model, q),
        request_penalties(duel, service, q),
        (*by_q, *flips(now.verdict, duel, service)),
        np.float64(now.ratio),
    )
    return result, duel


ANSWER = 1024.0
"""Tokens of the answers that stand beside a question about a context [tokens]."""

MOST_LAYOUTS = 4096
"""Of a side, up to which the requests beside a context are searched: about 48 devices."""


def requests_of_context(service: Service) -> Service:
    """The requests with answers of `ANSWER` tokens whose mean context is that of a question about
    decode alone, under its limits.
    """
    decoded = service.workload
    workload = Workload(
        prompt=jnp.maximum(decoded.context - ANSWER / 2.0, 1.0),
        answer=ANSWER,
        tokens_per_step=decoded.tokens_per_step,
        tpot_limit=decoded.tpot_limit,
        utilization=decoded.utilization,
        encoder_context=decoded.encoder_context,
    )
    return Service(service.cluster, workload, service.efficiency, service.rules)


def who_wins(model: Model, match: Model, service: Service, kind: MatchKind) -> "Outcome | None":
    """Who wins on requests, without the reasons; None on clusters with so many layouts that this
    would take longer than the question that it stands beside.

    Args:
        model: the MoE.
        match: the dense model.
        service: what both sides are served on and for, with a workload of requests.
        kind: of the match.
    """
    layouts = allowed(model, match, service)
    if max(each.tensor.shape[0] for each in layouts) > MOST_LAYOUTS:
        return None
    duel = request_duel(model, match, service, kind, layouts)
    return _outcome(duel.moe.throughput(service), duel.dense.throughput(service))


class Outcome(NamedTuple):
    """Of two sides."""

    ratio: float
    """Throughput of dense over MoE; NaN where a side is infeasible."""
    verdict: str


def outcome(moe: RequestSide, dense: RequestSide) -> Outcome:
    """Who wins, and by how much."""
    return _outcome(float(moe.throughput), float(dense.throughput))


def _outcome(moe: float, dense: float) -> Outcome:
    return Outcome(dense / moe if moe and dense else np.nan, verdict(moe, dense))
