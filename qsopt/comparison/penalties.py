"""The double penalty separated: factors whose product is the ratio of dense over MoE throughput.

Three causes can be switched off: reuse fragmentation (every token picks the same experts),
residency (only k experts take memory) and communication (messages are free, on both sides). Each
side is optimised anew in every world. A cause's factor is its average effect on the log ratio over
all orders of switching off (its Shapley value); `other` is the ratio that is left when all three
are off, mostly the dense model's larger share of work per token, about 1/q.
"""

import itertools
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qsopt.arrays import Scalar, number
from qsopt.record import Record
from qsopt.spec.counterfactual import Counterfactual

CAUSES = ("reuse", "residency", "communication")

_SWITCHES = list(itertools.product((1.0, 0.0), repeat=len(CAUSES)))

WORLDS = Counterfactual(*(np.array(column) for column in zip(*_SWITCHES, strict=True)))
"""All worlds, things as they are first, everything off last."""

DENSE_WORLDS = Counterfactual(np.ones(2), np.ones(2), np.array([1.0, 0.0]))
"""What a dense model notices of them: communication as it is, and free."""


class Penalties(Record):
    """Factors of the ratio of dense over MoE throughput; above 1 the cause favours dense. NaN where
    a side is infeasible.
    """

    reuse: Scalar = number()
    """A batch hits more experts than a token uses, so each weight read serves fewer tokens."""
    residency: Scalar = number()
    """Experts that are resident crowd the KV cache."""
    communication: Scalar = number()
    """Messages of the MoE against those of the dense model."""
    other: Scalar = number()
    """Everything else."""


def shapley(moe: Float[Array, " worlds"], dense: Float[Array, " dense_worlds"]) -> Penalties:
    """Factors from the throughput of the MoE in `WORLDS` and of the dense model in `DENSE_WORLDS`
    [tokens/s].
    """
    possible = (moe > 0).all() & (dense > 0).all()
    logs = {
        frozenset(cause for cause, on in zip(CAUSES, switches, strict=True) if not on): _log(
            dense[1 if switches[-1] == 0.0 else 0], possible
        )
        - _log(moe[world], possible)
        for world, switches in enumerate(_SWITCHES)
    }
    factors = [jnp.exp(_value(logs, cause)) for cause in CAUSES]
    everything_else = jnp.exp(logs[frozenset(CAUSES)])
    return Penalties(
        *(jnp.where(possible, factor, jnp.nan) for factor in (*factors, everything_else))
    )


def _value(logs: dict[frozenset[str], Scalar], cause: str) -> Scalar:
    """Average fall of the log ratio when `cause` goes, over all orders in which causes go."""
    others, total = [other for other in CAUSES if other != cause], len(CAUSES)
    value = 0.0
    for size in range(total):
        weight = math.factorial(size) * math.factorial(total - size - 1) / math.factorial(total)
        for gone in itertools.combinations(others, size):
            value += weight * (logs[frozenset(gone)] - logs[frozenset((*gone, cause))])
    return value  # pyright: ignore[reportReturnType]


def _log(throughput: Scalar, possible: Array) -> Scalar:
    return jnp.log(jnp.where(possible, throughput, 1.0))
