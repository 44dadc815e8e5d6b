"""What is believed of the q of one MoE: a law's value, and the distribution that its error on
observed matches implies.
"""

import equinox as eqx
import numpy as np

from qsopt.arrays import Scalar
from qsopt.errors import InputError
from qsopt.quality.architecture import MoeArchitecture
from qsopt.quality.calibration import Calibrated, calibrate
from qsopt.quality.law import QualityLaw
from qsopt.quality.of_model import architecture, checked_q
from qsopt.quality.registry import law
from qsopt.quality.student import QDistribution
from qsopt.record import Record
from qsopt.spec.model import Model

LEVEL = 0.8
"""Probability that the interval of q is meant to hold."""

DEFAULT = "geometric"
"""The law that is used where none is asked for."""


class Belief(Record):
    """What is believed of q: the law's own value, and the distribution that its error on observed
    matches implies.
    """

    q: float
    distribution: QDistribution | None
    """None where q was given, not predicted."""
    interval: tuple[float, float] | None
    """Central interval of q at `LEVEL`."""
    below_one: float | None
    """Probability that q s < 1."""


def belief(model: Model, name: str | QualityLaw, tokens: float | None) -> Belief:
    """q of an MoE by one law, and how sure it is.

    Raises:
        InputError: if there is no such law, it lacks the training tokens, or it is unphysical for
            this model.
    """
    seen, chosen = architecture(model, tokens), law(name)
    q = checked_q(chosen, seen, tokens is not None)
    distribution, below = _predicted(calibrate(chosen), seen)
    low, high = distribution.interval(LEVEL)
    return Belief(q, distribution, (float(low), float(high)), float(below))


@eqx.filter_jit
def _predicted(calibrated: Calibrated, seen: MoeArchitecture) -> tuple[QDistribution, Scalar]:
    distribution = calibrated.predict(seen)
    return distribution, distribution.probability_below(seen.critical_q)


def given(q: float) -> Belief:
    """A q that the user states, taken as certain.

    Raises:
        InputError: if it is no positive number.
    """
    if not 0 < q < np.inf:
        raise InputError(f"q = {q:g}: give a positive size factor, such as 4.2")
    return Belief(q, None, None, None)
