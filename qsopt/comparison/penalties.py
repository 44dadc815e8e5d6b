"""The ratio of dense over MoE throughput separated into causes, whose factors multiply to it.

Each cause has one switch. Four make a world of the MoE: reuse fragmentation (off: every token picks
the same experts), residency (only k experts take memory), communication (messages are free, on both
sides), imbalance (expert ranks are even, and experts run like dense products, without a router).
Two make a dense model: arithmetic (off: it has the size of the MoE's active parameters, q = 1) and
attention (off: it has the MoE's layers, hidden size and attention). With all off both are one
model, so that `other` stays near 1.

Every world has its own best deployment on both sides. A cause's factor is the average of its effect
on the log ratio over all orders of switching off (its Shapley value). The log ratio is a difference
of two games, log dense and log MoE, and Shapley values add: each game is solved by itself, over the
causes that it knows, and communication is the difference of both.
"""

import itertools
import math
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qsopt.arrays import Scalar, number
from qsopt.record import Record
from qsopt.spec.counterfactual import Counterfactual

MOE_CAUSES = ("reuse", "residency", "communication", "imbalance")
"""Causes that the MoE's throughput knows, in the order of its worlds."""

DENSE_CAUSES = ("arithmetic", "attention", "communication")
"""Causes that the dense model's throughput knows."""


def switches(causes: tuple[str, ...]) -> list[tuple[float, ...]]:
    """All settings of the causes' switches: things as they are first, everything off last."""
    return list(itertools.product((1.0, 0.0), repeat=len(causes)))


def _worlds() -> Counterfactual:
    columns = dict(zip(MOE_CAUSES, np.array(switches(MOE_CAUSES)).T, strict=True))
    return Counterfactual(**columns)


WORLDS = _worlds()
"""The MoE's worlds."""

DENSE_WORLDS = Counterfactual(np.ones(2), np.ones(2), np.array([1.0, 0.0]), np.ones(2))
"""The worlds of one dense model: communication as it is, and free."""


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
    imbalance: Scalar = number()
    """The busiest expert rank, the router, and kernels of experts against those of dense layers."""
    arithmetic: Scalar = number()
    """The dense model is q times as large as what a token of the MoE activates."""
    attention: Scalar = number()
    """Layers, hidden size and attention of the dense model against those of the MoE."""
    other: Scalar = number()
    """What is left with everything off."""


def shapley(moe: Float[Array, " worlds"], dense: Float[Array, " dense_worlds"]) -> Penalties:
    """Factors from throughputs [tokens/s].

    Args:
        moe: of the MoE in `WORLDS`.
        dense: of the dense model for all `switches(DENSE_CAUSES)`.
    """
    possible = (moe > 0).all() & (dense > 0).all()
    of_moe, of_dense = (
        _game(jnp.log(jnp.where(possible, throughputs, 1.0)), causes)
        for throughputs, causes in ((moe, MOE_CAUSES), (dense, DENSE_CAUSES))
    )
    logs = {cause: -_value(of_moe, MOE_CAUSES, cause) for cause in MOE_CAUSES}
    for cause in DENSE_CAUSES:
        logs[cause] = logs.get(cause, 0.0) + _value(of_dense, DENSE_CAUSES, cause)
    logs["other"] = of_dense[frozenset(DENSE_CAUSES)] - of_moe[frozenset(MOE_CAUSES)]
    return Penalties(
        **{cause: jnp.where(possible, jnp.exp(log), jnp.nan) for cause, log in logs.items()}
    )


Game = Mapping[frozenset[str], Scalar]
"""Log throughput by the set of causes that are off."""


def _game(logs: Float[Array, " worlds"], causes: tuple[str, ...]) -> Game:
    return {
        frozenset(cause for cause, on in zip(causes, setting, strict=True) if not on): logs[place]
        for place, setting in enumerate(switches(causes))
    }


def _value(logs: Game, causes: tuple[str, ...], cause: str) -> Scalar:
    """Average fall of the log throughput when `cause` goes, over all orders in which causes go."""
    others, total = [other for other in causes if other != cause], len(causes)
    value = jnp.zeros(())
    for size in range(total):
        # of all orders, this share has exactly these `size` causes gone before
        weight = math.factorial(size) * math.factorial(total - size - 1) / math.factorial(total)
        for gone in itertools.combinations(others, size):
            value += weight * (logs[frozenset(gone)] - logs[frozenset((*gone, cause))])
    return value
