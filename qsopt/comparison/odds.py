"""How sure a comparison is: both sides optimised anew for many draws of q and of the model's own
error.

q is drawn from the predictive distribution of its law, and every kind of operator gets an
independent log-normal factor on its time, the same for both sides as both run on the same kernels.
What is counted is the share of draws in which dense wins.
"""

from collections.abc import Mapping

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from qsopt.arrays import Scalar
from qsopt.comparison.compare import CASES, TIE, Duel
from qsopt.comparison.twin import bracket, relaxed_twins
from qsopt.deployments.optimum import best_of_each, repeated, same_length, throughputs_of_each
from qsopt.quality import QDistribution
from qsopt.record import Record
from qsopt.spec.deployment import Deployment
from qsopt.spec.efficiency import (
    LINK_TIERS,
    OPERATOR_KINDS,
    Efficiency,
    LinkEfficiency,
    OperatorEfficiency,
)
from qsopt.spec.model import Model
from qsopt.spec.service import Service

OPERATOR_SPREAD = 0.15
"""Standard deviation of the log of an operator's time about the model's where nothing is known: an
allowance, not a fit.
"""

DRAWS = 256
"""Draws; the standard error of a probability is at most 3 %."""

CONTENDER = 0.5
"""Layouts below this share of the best are not looked at again in the draws."""

FEW = 512
"""Lists of layouts up to this length are not shortened, as another length would have to be
compiled.
"""

_KINDS = (*OPERATOR_KINDS, *LINK_TIERS)


class Odds(Record):
    """Outcome of the draws."""

    dense_wins: Scalar
    """Share of draws in which the dense twin has the larger throughput; NaN if neither side ever
    fits.
    """
    ratio: Float[np.ndarray, " draws"]
    """Throughput of dense over MoE in each draw; infinite where only dense fits, NaN where neither
    does.
    """


def odds(
    model: Model,
    service: Service,
    found: Duel,
    q: QDistribution | float,
    seed: int = 0,
    draws: int = DRAWS,
    spreads: Mapping[str, float] | None = None,
) -> Odds:
    """Probability that the dense twin wins at this cluster and context.

    Args:
        model: the MoE.
        service: cluster, workload and efficiencies.
        found: the comparison at the central q.
        q: its distribution, or the value where it is taken as certain.
        seed: of the draws.
        draws: how many, a multiple of `compare.CASES`.
        spreads: standard deviation of the log of a time by kind of operator and tier of links,
            names as in `Efficiency`; `OPERATOR_SPREAD` where it says nothing.
    """
    low, high = (float(bound) for bound in bracket(model, service.cluster, service.workload))
    qs = np.clip(
        q.sample(seed, draws) if isinstance(q, QDistribution) else np.full(draws, q), low, high
    )
    spread = np.array([(spreads or {}).get(kind, OPERATOR_SPREAD) for kind in _KINDS])
    factors = np.exp(spread * np.random.default_rng([seed, 1]).normal(size=(draws, len(_KINDS))))
    fixed = repeated(found.sides[0], CASES)
    twins = relaxed_twins(model, np.quantile(qs, np.linspace(0.0, 1.0, CASES)))
    near = (
        _contenders(fixed, service, found.layouts[0]),
        _contenders(twins, service, found.layouts[1]),
    )
    layouts = same_length(*near, at_least=min(found.layouts[0].tensor.shape[0], FEW))
    moe, dense = [], []
    for part in range(0, draws, CASES):
        chosen = slice(part, part + CASES)
        efficiencies = _perturbed(service.efficiency, factors[chosen])
        moe.append(best_of_each(fixed, service, layouts[0], None, efficiencies).throughput)
        twins = relaxed_twins(model, qs[chosen])
        dense.append(best_of_each(twins, service, layouts[1], None, efficiencies).throughput)
    return _outcome(np.concatenate(moe), np.concatenate(dense))


def _outcome(moe: Float[np.ndarray, " draws"], dense: Float[np.ndarray, " draws"]) -> Odds:
    either = (moe > 0) | (dense > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = dense / moe
        return Odds(np.sum(dense > moe * (1.0 + TIE)) / np.sum(either), ratio)


@jax.jit
def _perturbed(efficiency: Efficiency, factors: Float[Array, "cases kinds"]) -> Efficiency:
    """A batch of efficiency sets in which each kind of operator takes a factor longer."""

    def slower(one: Float[Array, " kinds"]) -> Efficiency:
        parts = [
            _slower(getattr(efficiency, kind), factor)
            for kind, factor in zip(_KINDS, one, strict=True)
        ]
        return eqx.tree_at(lambda e: [getattr(e, kind) for kind in _KINDS], efficiency, parts)

    return jax.vmap(slower)(factors)


def _slower(
    part: OperatorEfficiency | LinkEfficiency, factor: Scalar
) -> OperatorEfficiency | LinkEfficiency:
    if isinstance(part, LinkEfficiency):
        return LinkEfficiency(
            part.bandwidth / factor, part.collective * factor, part.step * factor, part.ramp
        )
    times = (part.launch * factor, part.bandwidth / factor, part.compute / factor)
    return eqx.tree_at(lambda p: (p.launch, p.bandwidth, p.compute), part, times)


def _contenders(models: Model, service: Service, layouts: Deployment) -> Deployment:
    """The layouts that come near the best for one of the models, or all where none is feasible."""
    reached = np.asarray(throughputs_of_each(models, service, layouts))
    near = (reached >= CONTENDER * reached.max(axis=1, keepdims=True)).any(axis=0)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[near], layouts)
