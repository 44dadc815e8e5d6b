"""The ratio on requests separated into the causes of `penalties`, and each cause into what it does
to decoding and what it does to reading prompts.

Every world has its own best way, layouts, batch and chunk. What a cause does to decoding is its
factor where all of every prompt is cached, so that nothing but decoding is left of a request; what
it does to the reading of prompts is the rest:

    factor = factor with cached prompts * factor of prefill
"""

from collections.abc import Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qsopt.arrays import Scalar
from qsopt.comparison.contenders import Contender, RequestDuel, rival
from qsopt.comparison.dense import NAMED, RELEASED_GQA8, SAME_BODY, MatchKind, dense_match
from qsopt.comparison.penalties import DENSE_WORLDS, WORLDS, Penalties, shapley
from qsopt.deployments.batches import take
from qsopt.record import Record
from qsopt.spec.counterfactual import Counterfactual
from qsopt.spec.service import Service


class RequestPenalties(Record):
    """Factors of the ratio on requests."""

    whole: Penalties
    """Their product is the ratio."""
    decode: Penalties
    """Of them, what is left where all prompts are cached."""

    @property
    def prefill(self) -> Penalties:
        """What the reading of prompts adds: whole over decode."""
        return jax.tree.map(lambda whole, decode: whole / decode, self.whole, self.decode)


def request_penalties(duel: RequestDuel, service: Service, q: Scalar) -> RequestPenalties:
    """The causes that separate both sides of a duel.

    Args:
        duel: both sides.
        service: of the question.
        q: size factor of the dense side.
    """
    cached = eqx.tree_at(lambda s: s.workload.cached, service, np.asarray(1.0))
    dense = list(_dense_models(duel, service, q))
    whole, decode = (
        shapley(
            jnp.asarray(_in_worlds(duel.moe, asked, WORLDS)),
            jnp.asarray([x for side in dense for x in _in_worlds(side, asked, DENSE_WORLDS)]),
        )
        for asked in (service, cached)
    )
    return RequestPenalties(whole, decode)


def _in_worlds(side: Contender, service: Service, worlds: Counterfactual) -> list[float]:
    """Throughput in each world, the easiest first: what is known there bounds the others."""
    penalties = sum(np.asarray(each) for each in jax.tree.leaves(worlds))
    reached = {
        place: side.throughput(service, world=take(worlds, place))
        for place in np.argsort(penalties, kind="stable").tolist()
    }
    return [reached[place] for place in range(len(reached))]


def _dense_models(duel: RequestDuel, service: Service, q: Scalar) -> Iterator[Contender]:
    """In the order of `switches(DENSE_CAUSES)`: of size q and of size 1, each in its own shape and
    in the MoE's body. A match that exists has no size of its own at q = 1: there stands the
    released shape with eight KV heads.
    """
    own: MatchKind = RELEASED_GQA8 if duel.kind == NAMED else duel.kind
    for size in (q, np.float64(1.0)):
        for kind in (own, SAME_BODY):
            if size is q and (kind == duel.kind or kind != SAME_BODY):
                yield duel.dense
            else:
                match = dense_match(duel.moe.model, size, kind)
                yield rival(duel, match, service, kind).dense
