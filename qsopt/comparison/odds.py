"""How sure a comparison is: both sides optimised anew for many draws of q and of the model's own
error.

q is drawn from the predictive distribution of its law, a server's memory from what start-up logs
leave, and the ratio of both speeds is off as measured servers of an MoE and a dense model were.
Where no server was measured, every kind of operator gets an independent log-normal factor on its
time, the same for both sides as both run on the same kernels, and the ratio a residual. What is
counted is the share of draws in which dense wins.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from qsopt.arrays import Scalar
from qsopt.comparison.compare import TIE
from qsopt.comparison.dense import NAMED, SAME_BODY, MatchKind, bracket, relaxed_matches
from qsopt.comparison.duel import Duel
from qsopt.deployments.batches import CHUNK, in_batches, length, repeat, same_length, take
from qsopt.deployments.optimum import CASES, best_of_each, searched
from qsopt.fitted.spread import Quantiles, at_normal
from qsopt.programs import compiled
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

RATIO_SPREAD = 0.37
"""Standard deviation of the log ratio of dense over MoE between prediction and measurement, beyond
what operators explain, where no server was measured: the root mean square over measured pairs of
operators alone. What the two sides share cancels in a ratio; this is what does not.
"""

RESERVE_SPREAD = 0.7
"""Standard deviation of the log of a server's reserve where a set does not say how sure it is of
its memory: start-up logs of vLLM and SGLang leave 0.5 to 11 GiB, median 5.
"""

UTILIZATION_SPREAD = 0.02
"""Standard deviation of the share of memory that is used: servers are run at 0.85 to 0.95."""

DRAWS = 256
"""Draws; the standard error of a probability is at most 3 %."""

CONTENDER = 0.5
"""Layouts below this share of the best are not looked at again in the draws."""

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


class _Draws(NamedTuple):
    """Of the model's own error."""

    factors: Float[np.ndarray, "draws kinds"]
    """On the times of every kind of operator and tier of links."""
    reserves: Float[np.ndarray, " draws"]
    """Memory that is not to be had [byte]."""
    residual: Float[np.ndarray, " draws"]
    """Of the log ratio of dense over MoE."""


def odds(
    model: Model,
    service: Service,
    duel: Duel,
    q: QDistribution | float,
    seed: int = 0,
    draws: int = DRAWS,
    spreads: Mapping[str, float] | None = None,
    ratio_errors: Quantiles | None = None,
) -> Odds:
    """Probability that the dense twin wins at this cluster and context.

    Args:
        model: the MoE.
        service: cluster, workload and efficiencies.
        duel: the comparison at the central q.
        q: its distribution, or the value where it is taken as certain.
        seed: of the draws.
        draws: how many.
        spreads: standard deviation of the log of a time by kind of operator and tier of links,
            names as in `Efficiency`; `OPERATOR_SPREAD` where it says nothing.
        ratio_errors: how far the ratio of whole servers is off, operators included; None where no
            server was measured.
    """
    return odds_of_each(model, service, duel, [q], seed, draws, spreads, ratio_errors)[0]


def odds_of_each(
    model: Model,
    service: Service,
    duel: Duel,
    qs: Sequence[QDistribution | float],
    seed: int = 0,
    draws: int = DRAWS,
    spreads: Mapping[str, float] | None = None,
    ratio_errors: Quantiles | None = None,
) -> list[Odds]:
    """The same for several beliefs about q, with the same draws of everything else."""
    drawn = _drawn(service, seed, draws, spreads, ratio_errors)
    moe = repeat(duel.moe.model, CASES)
    near = _shortened(duel.moe.layouts, np.asarray(duel.moe.throughputs)[None])
    reached = _throughputs(service, near, drawn, lambda _: moe, np.zeros(draws))
    low, high = (float(bound) for bound in bracket(model, service, _made(duel)))
    outcomes = []
    for q in qs:
        sample = q.sample(seed, draws) if isinstance(q, QDistribution) else np.full(draws, q)
        sizes = np.clip(sample, low, high)
        few = _matches(model, duel, _spread_over(sizes))
        tried = searched(few, service, duel.dense.layouts, near=CONTENDER).throughputs
        contenders = _shortened(duel.dense.layouts, np.asarray(tried))
        dense = _throughputs(
            service, contenders, drawn, lambda part: _matches(model, duel, part), sizes
        )
        outcomes.append(_outcome(reached, dense * np.exp(drawn.residual)))
    return outcomes


def _drawn(
    service: Service,
    seed: int,
    draws: int,
    spreads: Mapping[str, float] | None,
    ratio_errors: Quantiles | None,
) -> _Draws:
    spread = np.array([(spreads or {}).get(kind, OPERATOR_SPREAD) for kind in _KINDS])
    normal = np.random.default_rng([seed, 1]).normal(size=(draws, len(_KINDS) + 2))
    residual = np.random.default_rng([seed, 2]).normal(size=draws)
    reserves = _reserves(service, normal[:, -2], normal[:, -1])
    if ratio_errors is not None:
        same = np.ones((draws, len(_KINDS)))
        return _Draws(same, reserves, at_normal(ratio_errors, residual))
    return _Draws(np.exp(spread * normal[:, :-2]), reserves, RATIO_SPREAD * residual)


def _throughputs(
    service: Service,
    layouts: Deployment,
    drawn: _Draws,
    models: Callable[[Float[np.ndarray, " cases"]], Model],
    qs: Float[np.ndarray, " draws"],
) -> Float[np.ndarray, " draws"]:
    """Of a side in its best layout, in every draw; `models` are those of `CASES` values of q."""

    def reached(part: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Array:
        factors, reserves, sizes = part
        efficiencies = _perturbed(service.efficiency, factors, reserves)  # pyright: ignore[reportArgumentType]
        return best_of_each(models(sizes), service, layouts, None, efficiencies).throughput

    return np.asarray(in_batches(reached, (drawn.factors, drawn.reserves, qs), CASES))


def _spread_over(qs: Float[np.ndarray, " draws"]) -> Float[np.ndarray, " cases"]:
    return np.quantile(qs, np.linspace(0.0, 1.0, CASES))


def _made(duel: Duel) -> MatchKind:
    """The kind whose q is drawn; of a named match none is."""
    return SAME_BODY if duel.kind == NAMED else duel.kind


def _matches(model: Model, duel: Duel, qs: Float[np.ndarray, " cases"]) -> Model:
    if duel.kind == NAMED:
        return repeat(duel.dense.model, CASES)
    return relaxed_matches(model, qs, duel.kind)


def _reserves(
    service: Service, size: Float[np.ndarray, " draws"], share: Float[np.ndarray, " draws"]
) -> Float[np.ndarray, " draws"]:
    """Memory that is not to be had in each draw: the set's reserve by the spread of its memory, and
    what a utilization somewhat higher or lower leaves [byte].
    """
    memory = float(service.cluster.accelerator.memory_bytes)
    reserve, spread = (
        float(each) for each in (service.efficiency.reserve_bytes, service.efficiency.memory.spread)
    )
    reserve = reserve + spread * size if spread > 0 else reserve * np.exp(RESERVE_SPREAD * size)
    return reserve + UTILIZATION_SPREAD * share * memory


def _outcome(moe: Float[np.ndarray, " draws"], dense: Float[np.ndarray, " draws"]) -> Odds:
    either = (moe > 0) | (dense > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = dense / moe
        return Odds(np.sum(dense > moe * (1.0 + TIE)) / np.sum(either), ratio)


@compiled
def _perturbed(
    efficiency: Efficiency,
    factors: Float[Array, "cases kinds"],
    reserves: Float[Array, " cases"],
) -> Efficiency:
    """A batch of efficiency sets in which each kind of operator takes a factor longer, and so much
    memory is not to be had.
    """

    def slower(one: Float[Array, " kinds"], reserve: Scalar) -> Efficiency:
        parts = [
            _slower(getattr(efficiency, kind), factor)
            for kind, factor in zip(_KINDS, one, strict=True)
        ]
        return eqx.tree_at(
            lambda e: [*(getattr(e, kind) for kind in _KINDS), e.reserve_bytes],
            efficiency,
            [*parts, reserve],
        )

    return jax.vmap(slower)(factors, reserves)


def _slower(
    part: OperatorEfficiency | LinkEfficiency, factor: Scalar
) -> OperatorEfficiency | LinkEfficiency:
    if isinstance(part, LinkEfficiency):
        return LinkEfficiency(
            part.bandwidth / factor, part.collective * factor, part.step * factor, part.ramp
        )
    times = (part.launch * factor, part.bandwidth / factor, part.compute / factor)
    return eqx.tree_at(lambda p: (p.launch, p.bandwidth, p.compute), part, times)


def _shortened(layouts: Deployment, reached: Float[np.ndarray, "models layouts"]) -> Deployment:
    """The layouts that come near the best for one of the models, or all where none is feasible or
    they are few, so that no other length has to be compiled.
    """
    if length(layouts) <= CHUNK:
        return layouts
    near = (reached >= CONTENDER * reached.max(axis=1, keepdims=True)).any(axis=0)
    (filled,) = same_length(take(layouts, near), at_least=CHUNK)
    return filled
