"""What all laws say of some designs: each at the width that has the quality asked for by that law,
and how often a design beats the reference over the law's error and that of the predicted speeds.

A law's error is that of MoE against dense, log q off by scale t (see `quality.calibration`): a
dense model has none, and an MoE more the larger its own log q, in proportion. So in a draw an MoE
needs a dense-equivalent size changed by the difference of the two errors, and its throughput there
follows from its own curve over size. Errors of predicted speeds are those of measured servers, as
they were found to go together (see `fitted.spread`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from qsopt.comparison.odds import RATIO_SPREAD
from qsopt.deployments.batches import length
from qsopt.errors import InputError
from qsopt.fitted.spread import (
    POOL,
    Pairs,
    Quantiles,
    at_normal,
    ratio_quantiles,
    regimes,
    shipped_spreads,
)
from qsopt.proposals.fields import tried
from qsopt.proposals.goals import Goal, Quality, Wanted
from qsopt.proposals.points import Point, State
from qsopt.proposals.priors import MOE
from qsopt.proposals.sizing import judged, sized
from qsopt.quality import FITTED, laws
from qsopt.quality.calibration import calibrate

DRAWS = 1024
"""Draws behind a probability: its standard error is at most 1.6 %."""

CURVE = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8)
"""Factors on the size that stands for quality at which a design's throughput is known."""


@dataclass(frozen=True)
class DesignOpinion:
    """What one law says of one design."""

    law: str
    margin: float
    """log of the size of its dense match over the one asked for: below 0 it is worse."""
    width: float
    """At which it has the quality asked for; NaN where none does."""
    throughput: float
    """At that width, 0 where nothing is feasible [tokens/s]."""


def goals_by_law(wanted: Wanted) -> dict[str, Goal]:
    """The goal by every law that applies: laws that know what they need, whose answer for the
    reference can be real.
    """
    found = {}
    for name, law in laws().items():
        try:
            found[name] = wanted.by(law)
        except InputError:
            continue
    return found


def opinions(
    state: State, designs: Sequence[Point], goals: Mapping[str, Goal]
) -> list[list[DesignOpinion]]:
    """Every law's opinion of every design."""
    columns = [_by_law(state, designs, name, goal) for name, goal in goals.items()]
    return [list(row) for row in zip(*columns, strict=True)] if columns else [[] for _ in designs]


def _by_law(state: State, designs: Sequence[Point], name: str, goal: Goal) -> list[DesignOpinion]:
    rows = np.stack([each.row for each in designs])
    step = state.task.boxes[designs[0].family].width_step
    as_is = judged(rows, goal, state.task.body)
    found = sized(rows, goal, state.task.body, step)
    physical = (np.asarray(found.quality.physical) > 0) & (np.asarray(as_is.physical) > 0)
    reached = np.abs(np.asarray(found.quality.margin)) < _REACHED
    possible = physical & reached
    throughput = throughputs(state, designs, found.rows)
    return [
        DesignOpinion(
            name,
            float(as_is.margin[place]) if physical[place] else np.nan,
            float(found.rows[place, -1]) if possible[place] else np.nan,
            float(throughput[place]) if possible[place] else np.nan,
        )
        for place in range(len(designs))
    ]


_REACHED = 0.5
"""A width whose match is farther off in log size was not found."""


def throughputs(
    state: State, designs: Sequence[Point], rows: np.ndarray
) -> Float[np.ndarray, " designs"]:
    """Throughput of changed rows of designs in all deployments known for their family."""
    lists = [state.choices[each.family].every for each in designs]
    limits = np.array([each.limit for each in designs])
    found = tried(state.task, rows, lists, limits)
    state.evaluations += sum(map(length, lists))
    return found.best.throughput


def curves(
    state: State, designs: Sequence[Point], goal: Goal
) -> Float[np.ndarray, "designs factors"]:
    """Log throughput of designs at widths of more and less quality; -inf where nothing is
    feasible.
    """
    count = len(CURVE)
    repeated = [each for each in designs for _ in CURVE]
    rows = np.stack([each.row for each in repeated])
    factors = np.tile(CURVE, len(designs)) * np.array([each.factor for each in repeated])
    step = state.task.boxes[designs[0].family].width_step
    found = sized(rows, goal, state.task.body, step, factors)
    reached = throughputs(state, repeated, found.rows)
    margin = np.log(np.asarray(found.quality.dense_size) / np.asarray(found.quality.needed))
    with np.errstate(divide="ignore"):
        logs = np.log(np.where(np.abs(margin) < _REACHED, reached, 0.0))
    return logs.reshape(len(designs), count)


# ---- draws ---------------------------------------------------------------------------------------


def log_q(quality: Quality) -> float:
    """Of a design."""
    return float(np.log(float(quality.dense_size) / float(quality.active)))


def law_errors(goal: Goal, seed: int) -> Float[np.ndarray, " draws"]:
    """Errors of log q of a law, for a model whose log q is that of the observed matches."""
    fit = calibrate(goal.law)
    draws = np.random.default_rng([seed, 5]).standard_t(float(fit.dof), DRAWS)
    return float(fit.scale) * draws / _MEAN_LOG_Q


_MEAN_LOG_Q = float(np.mean([np.log(match.q) for match in FITTED if match.is_exact]))
"""Of the observed matches: a law's error is in proportion to log q over it."""


def speeds(
    curve: Float[np.ndarray, " factors"], shift: Float[np.ndarray, " draws"]
) -> Float[np.ndarray, " draws"]:
    """Log throughput of a design whose size must change by a log; beyond the curve that of its
    end.
    """
    known = np.isfinite(curve)
    if not known.any():
        return np.full(len(shift), -np.inf)
    return np.interp(shift, np.log(CURVE)[known], curve[known])


def probability(
    design: tuple[np.ndarray, float],
    rival: tuple[float, float],
    errors: Float[np.ndarray, " draws"],
    noise: Float[np.ndarray, " draws"],
) -> float:
    """Share of draws in which a design beats a rival of the same quality.

    Args:
        design: its curve, and its log q.
        rival: its log throughput, -inf where infeasible, and its log q.
        errors: of the law (see `law_errors`).
        noise: errors of the log ratio of the two speeds.
    """
    curve, own = design
    shift = errors * (rival[1] - own)
    ratio = speeds(curve, shift) + noise - rival[0]
    return float(np.mean(ratio > 0.0))


def noise(
    design: tuple[str, float, float],
    rival: tuple[str, float, float],
    accelerator: str | None,
    seed: int,
) -> Float[np.ndarray, " draws"]:
    """Errors of the log ratio of two predicted speeds.

    Args:
        design: family, batch of a replica, and its devices.
        rival: the same.
        accelerator: name in the catalog.
        seed: of the draws.
    """
    normal = np.random.default_rng([seed, 6]).normal(size=DRAWS)
    spreads = shipped_spreads()
    pairs = None if spreads is None else spreads.ratio.get(POOL)
    sides = [_speed(each, accelerator) for each in (design, rival)]
    if pairs is None or sides[0] is None or sides[1] is None:
        return RATIO_SPREAD * normal
    lean = pairs.lean * ((rival[0] == MOE) - 1.0 * (design[0] == MOE))
    own = Pairs(pairs.correlation, lean, pairs.pairs, pairs.models)
    return at_normal(ratio_quantiles(sides[0], sides[1], own), normal)


def _speed(side: tuple[str, float, float], accelerator: str | None) -> Quantiles | None:
    spreads = shipped_spreads()
    assert spreads is not None
    keys = regimes(POOL, side[1], side[2])
    cell = spreads.cell("throughput", spreads.seen(None, accelerator), keys)
    return None if cell is None else cell[1].quantiles
