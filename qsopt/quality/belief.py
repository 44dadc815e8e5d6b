"""What is believed of the q of one MoE: the median and the spread of the distribution that a law
and its error on observed matches imply.
"""

import equinox as eqx
import numpy as np

from qsopt.arrays import Scalar
from qsopt.errors import InputError, exactly
from qsopt.programs import evaluated
from qsopt.quality.architecture import MoeArchitecture
from qsopt.quality.calibration import Calibrated, calibrate
from qsopt.quality.of_model import architecture, checked_q
from qsopt.quality.quality_law import QualityLaw
from qsopt.quality.student import QDistribution
from qsopt.record import Record
from qsopt.spec.model import Model

LEVEL = 0.8
"""Probability that the interval of q is meant to hold."""

DEFAULT = "power"
"""The law that is used where none is asked for: the one that predicts held-out matches best, of
those that the catalog's models can be asked. Typically wrong by a factor of 1.28, where the
calibrated geometric rule is by 1.31 and every other law by more (docs/quality-loo.md; the first two
differ by less than either is known).
"""


class Belief(Record):
    """What is believed of q: a centre, the law's own value, and the distribution that its error on
    observed matches implies.
    """

    q: float
    """The centre that answers are computed at: the calibrated median, or the bare law's value."""
    raw: float
    """The bare law's value; the same where q was given."""
    distribution: QDistribution | None
    """None where q was given, not predicted."""
    interval: tuple[float, float] | None
    """Central interval of q at `LEVEL`."""
    below_one: float | None
    """Probability that q s < 1."""


def belief(model: Model, law: QualityLaw, tokens: float | None, raw: bool = False) -> Belief:
    """q of an MoE by one law, and how sure it is.

    Published laws are off on the observed matches (the geometric rule gives four fifths of them),
    so the centre is the median of the law's predictive distribution, kept between 1 and 1/s, where
    a dense match is neither smaller than the active parameters nor larger than the whole MoE.

    Args:
        model: the MoE.
        law: that gives q.
        tokens: training tokens, None if unknown.
        raw: take the bare law's value as the centre; the distribution stays as it is.

    Raises:
        InputError: if the law lacks the training tokens, or it is unphysical for this model.
    """
    seen = architecture(model, tokens)
    bare = checked_q(law, seen, tokens is not None)
    distribution, below = _predicted(calibrate(law), seen)
    low, high = distribution.interval(LEVEL)
    median = float(np.clip(distribution.median, 1.0, seen.critical_q))
    return Belief(
        bare if raw else median, bare, distribution, (float(low), float(high)), float(below)
    )


@evaluated
def _predicted(calibrated: Calibrated, seen: MoeArchitecture) -> tuple[QDistribution, Scalar]:
    distribution = calibrated.predict(seen)
    return distribution, distribution.probability_below(seen.critical_q)


def given(q: float) -> Belief:
    """A q that the user states, taken as certain.

    Raises:
        InputError: if it is no positive number.
    """
    if not 0 < q < np.inf:
        raise InputError(f"q = {exactly(q)}: give a positive size factor, such as 4.2")
    return Belief(q, q, None, None, None)


def around_published(believed: Belief) -> Belief:
    """The same with the law as it was published in the middle of the distribution: off by as much
    as on the observed matches, but not to one side.
    """
    if believed.distribution is None:
        return believed
    around = eqx.tree_at(lambda d: d.log_mean, believed.distribution, np.log(believed.raw))
    return eqx.tree_at(lambda b: b.distribution, believed, around)
