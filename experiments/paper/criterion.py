"""Criteria that say who wins without a search: qs < 1 as it is, its physical corrections, and a
fitted probability.

The corrections merge the cluster into one device of its whole memory, bandwidth and arithmetic,
without communication. There a side holds B = min(cap, (memory - all weights) / cache of a sequence)
sequences and reads for each token

    (weights that B tokens hit) / B + cache of a sequence

`bytes` compares that, `roofline` the time of all operators at the efficiency set of the case. With
every expert hit, as many sequences on both sides and no cache the ratio of bytes is 1/(q s): the
criterion of the paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from scipy.stats import rankdata

from experiments.paper import claims
from qsopt.arrays import Scalar, number
from qsopt.deployments.capped import ServedModel, within_cap
from qsopt.physics.evaluate import metrics
from qsopt.physics.step import OPERATORS
from qsopt.spec.deployment import Deployment
from qsopt.spec.hardware import Cluster
from qsopt.spec.model import moe_layers
from qsopt.spec.service import Service

RIDGE = 1e-3
"""Weight of the squared coefficients beside the mean log loss, for standardised terms."""

FLOOR = 1e-4
"""Shares are held above this before their logarithm is taken, and ratios within its inverse."""


class Merged(eqx.Module):
    """A side on the merged device."""

    throughput: Scalar = number()
    """0 where its weights do not fit [tokens/s]."""
    bytes_per_token: Scalar = number()
    """Memory traffic of a step over its tokens [byte]."""
    hit: Scalar = number()
    """Share of the routed experts that a step hits; 1 for a dense model."""
    cache: Scalar = number()
    """Share of the traffic that attention makes, cache and its activations."""
    held: Scalar = number()
    """Share of the usable memory that the weights take."""
    compute: Scalar = number()
    """Time of arithmetic over time of memory traffic."""


def merged(cluster: Cluster) -> Cluster:
    """The cluster as one device of its whole memory, bandwidth and arithmetic."""
    one, count = cluster.accelerator, cluster.devices
    whole = (one.peak_flops * count, one.memory_bytes * count, one.bandwidth * count)
    return Cluster(
        eqx.tree_at(lambda a: (a.peak_flops, a.memory_bytes, a.bandwidth), one, whole),
        jnp.ones_like(count),
    )


@jax.jit
@jax.vmap
def on_merged(case: ServedModel) -> Merged:
    """Each of a batch of cases on its merged device, with kernels as efficient as they are."""
    service = Service(merged(case.service.cluster), case.service.workload, case.service.efficiency)
    alone = jax.tree.map(jnp.asarray, Deployment())
    best = within_cap(ServedModel(case.model, service, case.cap), alone)
    found = metrics(case.model, service, best.deployment)
    spent, routed = found.breakdown, moe_layers(case.model)
    read, tokens = jnp.sum(spent.bytes), best.deployment.batch * service.workload.tokens_per_step
    experts = 1.0 if routed is None else routed.experts
    return Merged(
        throughput=best.throughput,
        bytes_per_token=read / tokens,
        hit=jnp.where(found.experts_hit > 0, found.experts_hit / experts, 1.0),
        cache=spent.bytes[OPERATORS.index("attention core")] / read,
        held=found.memory.weights / found.memory.capacity,
        compute=jnp.sum(spent.compute) / jnp.sum(spent.memory),
    )


def merged_sides(cases: Sequence[ServedModel]) -> list[Merged]:
    """Each case on its merged device; all cases are of one structure."""
    found = []
    for start in range(0, len(cases), claims.BATCH):
        part = list(cases[start : start + claims.BATCH])
        batch = claims.stacked(part + part[-1:] * (claims.BATCH - len(part)))
        solved = jax.tree.map(np.asarray, on_merged(batch))
        found += [jax.tree.map(itemgetter(row), solved) for row in range(len(part))]
    return found


# ---- a fitted probability ------------------------------------------------------------------------


@dataclass(frozen=True)
class Logistic:
    """The probability that dense wins, from terms; fitted by penalised maximum likelihood."""

    centre: Float[np.ndarray, " terms"]
    scale: Float[np.ndarray, " terms"]
    weights: Float[np.ndarray, " terms_and_one"]

    def probability(self, terms: Float[np.ndarray, "points terms"]) -> Float[np.ndarray, " points"]:
        """That dense wins at each point."""
        return 1.0 / (1.0 + np.exp(-(_with_one((terms - self.centre) / self.scale) @ self.weights)))


def fit(
    terms: Float[np.ndarray, "points terms"], dense_wins: Bool[np.ndarray, " points"]
) -> Logistic:
    """The logistic criterion of some points."""
    centre, scale = terms.mean(axis=0), terms.std(axis=0) + 1e-12
    columns, sign = _with_one((terms - centre) / scale), np.where(dense_wins, 1.0, -1.0)

    def loss(
        weights: Float[np.ndarray, " terms_and_one"],
    ) -> tuple[float, Float[np.ndarray, " terms_and_one"]]:
        margin = sign * (columns @ weights)
        slope = -sign / (1.0 + np.exp(np.clip(margin, -500.0, 500.0)))
        kept = np.append(weights[:-1], 0.0)
        value = np.mean(np.logaddexp(0.0, -margin)) + RIDGE * kept @ kept
        return float(value), columns.T @ slope / len(sign) + 2.0 * RIDGE * kept

    return Logistic(
        centre, scale, minimize(loss, np.zeros(columns.shape[1]), jac=True, method="L-BFGS-B").x
    )


def _with_one(
    terms: Float[np.ndarray, "points terms"],
) -> Float[np.ndarray, "points terms_and_one"]:
    return np.hstack([terms, np.ones((len(terms), 1))])


# ---- how good a criterion is ---------------------------------------------------------------------


def accuracy(
    says_dense: Bool[np.ndarray, " points"], dense_wins: Bool[np.ndarray, " points"]
) -> float:
    """Share of the points called right."""
    return float(np.mean(says_dense == dense_wins))


def balanced_accuracy(
    says_dense: Bool[np.ndarray, " points"], dense_wins: Bool[np.ndarray, " points"]
) -> float:
    """Mean of the shares called right among the points that dense wins and those that the MoE wins;
    0.5 tells nothing.
    """
    sides = [
        np.mean(says_dense[dense_wins == side] == side)
        for side in (True, False)
        if np.any(dense_wins == side)
    ]
    return float(np.mean(sides))


def area(score: Float[np.ndarray, " points"], dense_wins: Bool[np.ndarray, " points"]) -> float:
    """Area under the ROC curve: the probability that a point dense wins scores above one it loses;
    NaN with one class.
    """
    wins, losses = int(np.sum(dense_wins)), int(np.sum(~dense_wins))
    if not wins or not losses:
        return float("nan")
    return float((rankdata(score)[dense_wins].sum() - wins * (wins + 1) / 2.0) / (wins * losses))


def best_threshold(
    score: Float[np.ndarray, " points"], dense_wins: Bool[np.ndarray, " points"]
) -> tuple[float, float]:
    """The score above which saying dense is right most often, and how often that is, on the same
    points.
    """
    values = np.quantile(score, np.linspace(0.0, 1.0, 201))
    rates = [accuracy(score > value, dense_wins) for value in values]
    place = int(np.argmax(rates))
    return float(values[place]), rates[place]


def reliability(
    probability: Float[np.ndarray, " points"],
    dense_wins: Bool[np.ndarray, " points"],
    bins: int = 10,
) -> list[tuple[float, float, int]]:
    """Mean probability, share that dense won and number of the points in each bin of probability
    that has any.
    """
    place = np.minimum((probability * bins).astype(int), bins - 1)
    groups = [place == each for each in range(bins)]
    return [
        (float(probability[g].mean()), float(dense_wins[g].mean()), int(g.sum()))
        for g in groups
        if g.any()
    ]
