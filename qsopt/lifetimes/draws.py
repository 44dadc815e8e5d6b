"""Costs in draws of what is uncertain: q, the share of tokens that a student needs, and how far
servers are from what is predicted.

The dense match is searched for at a few quantiles of q; between them its throughput and its
training are interpolated. Errors of speed are drawn from the quantiles of measured ones: that of
the MoE, and that of the ratio of both sides, taken as independent of it.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from qsopt.fitted.spread import LEVELS, NORMAL, Quantiles
from qsopt.lifetimes.break_even import Line
from qsopt.lifetimes.plans import Training
from qsopt.lifetimes.running import Running
from qsopt.lifetimes.training import STUDENT_SHARE, Trainer
from qsopt.quality import QDistribution

DRAWS = 4096
"""Draws; the standard error of a share is at most 0.8 %."""

NODES = (0.03, 0.2, 0.5, 0.8, 0.97)
"""Quantiles of q at which the match is searched for; q is drawn between the first and the last."""

_UNSERVED = 600.0
"""Log of the cost of a token that nothing can serve; its exponential is a number still."""

Drawn = Float[np.ndarray, " draws"]


class SpeedErrors(NamedTuple):
    """Quantiles of log(measured / predicted), at `fitted.spread.LEVELS`."""

    moe: Quantiles
    """Of the MoE's throughput."""
    ratio: Quantiles
    """Of the ratio of throughputs, dense over MoE."""


class Node(NamedTuple):
    """A dense match at one q."""

    q: float
    spent: Training
    running: Running


def drawn_errors(quantiles: Quantiles, rng: np.random.Generator) -> Drawn:
    """Draws of a log error with these quantiles: straight between them on a normal scale, and
    beyond.
    """
    normal = rng.normal(size=DRAWS)
    inside = np.interp(normal, NORMAL, quantiles)
    steps = np.diff(quantiles) / np.diff(NORMAL)
    below = quantiles[0] + (normal - NORMAL[0]) * steps[0]
    above = quantiles[-1] + (normal - NORMAL[-1]) * steps[-1]
    return np.where(normal < NORMAL[0], below, np.where(normal > NORMAL[-1], above, inside))


def drawn_q(q: QDistribution | float, rng: np.random.Generator) -> Drawn:
    """Draws of q; all the same where it is taken as certain."""
    if isinstance(q, QDistribution):
        return np.asarray(q.sample(int(rng.integers(2**31)), DRAWS), float)
    return np.full(DRAWS, q)


def drawn_shares(share: float | None, rng: np.random.Generator) -> Drawn:
    """Draws of a student's share of the training tokens; all the same where it is given."""
    if share is not None:
        return np.full(DRAWS, share)
    least, middle, most = np.log(STUDENT_SHARE)
    return np.exp(rng.triangular(least, middle, most, size=DRAWS))


def lines(
    trainer: Trainer,
    moe: Running,
    nodes: list[Node],
    share: float | None,
    q: QDistribution | float,
    errors: SpeedErrors | None,
    seed: int,
) -> dict[str, Line]:
    """Costs of the three ways over served tokens, in draws [US dollar].

    Args:
        trainer: what training costs.
        moe: serving the MoE.
        nodes: dense matches, by increasing q, with training on all tokens and distillation on as
            many.
        share: tokens of distillation over those of training; None where they are not known.
        q: its distribution, or the value where it is taken as certain.
        errors: of speeds; None where nothing is known of them.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    sizes, shares = drawn_q(q, rng), drawn_shares(share, rng)
    known = errors or SpeedErrors(np.zeros(len(LEVELS)), np.zeros(len(LEVELS)))
    faster, other = (drawn_errors(quantiles, rng) for quantiles in known)
    moe_slope = moe.dollars * np.exp(-faster)
    logs = [min(math.log(node.running.dollars), _UNSERVED) for node in nodes]
    dense_slope = np.exp(_between(sizes, nodes, logs) - faster - other)
    dollars = float(trainer.dollars(1.0))
    train_moe = np.full(DRAWS, nodes[0].spent.moe) * dollars
    dense, student = (
        _between(sizes, nodes, [getattr(node.spent, name) for node in nodes]) * dollars
        for name in ("dense", "distillation")
    )
    return {
        "moe": Line(train_moe, moe_slope),
        "dense": Line(dense, dense_slope),
        "distilled": Line(train_moe + student * shares, dense_slope),
    }


def _between(sizes: Drawn, nodes: list[Node], values: list[float]) -> Drawn:
    """A quantity of matches between the nodes, straight in log q; beyond them, as at the last."""
    return np.interp(np.log(sizes), np.log([node.q for node in nodes]), values)
