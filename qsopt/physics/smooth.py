"""Maximum, minimum, ceiling, floor and step, exact or smooth by one traced number.

`softness` is `EXACT`, or 0, for the exact function. Above 0, the maximum is the p-norm with p =
1/softness, `max(a, b) <= (a**p + b**p)**(1/p) <= 2**softness * max(a, b)`, and ceilings and floors
become the identity. The norm is scaled by its larger argument, so that it neither overflows nor
depends on the unit. Arguments are non-negative.

Exact ceilings and floors have zero derivative almost everywhere; here they carry the derivative of
the identity, so a gradient taken at an exact design is that of the relaxed model beside it (a
straight-through estimate).
"""

from jaxtyping import Array, Bool

from qsopt import xp
from qsopt.arrays import EXACT, Scalar, Softness


def is_relaxed(softness: Softness) -> Bool[Array, ""]:
    """Whether a softness is above 0."""
    return xp.asarray(softness is not None and softness > xp.zeros(()))


def maximum(a: Scalar, b: Scalar, softness: Softness = EXACT) -> Scalar:
    """The larger of two non-negative numbers; above softness 0, at most 2**softness too large."""
    larger = xp.maximum(a, b)
    return larger if softness is EXACT else larger * _excess(xp.minimum(a, b), larger, softness)


def minimum(a: Scalar, b: Scalar, softness: Softness = EXACT) -> Scalar:
    """The smaller of two positive numbers; above softness 0, at most 2**softness too small."""
    smaller = xp.minimum(a, b)
    return smaller if softness is EXACT else smaller / _excess(smaller, xp.maximum(a, b), softness)


def _excess(smaller: Scalar, larger: Scalar, softness: Scalar | float) -> Scalar:
    """(1 + (smaller/larger)**(1/softness))**softness, which is 1 at softness 0."""
    soft = is_relaxed(softness)
    exponent = 1.0 / xp.where(soft, softness, 1.0)
    ratio = smaller / xp.where(larger > 0, larger, 1.0)
    positive = ratio > 0
    powered = xp.where(positive, xp.exp(exponent * xp.log(xp.where(positive, ratio, 1.0))), 0.0)
    return xp.where(soft, xp.exp(xp.log1p(powered) / exponent), 1.0)


def ceil(x: Scalar, softness: Softness = EXACT) -> Scalar:
    """The next integer up, or `x` itself when relaxed; derivative 1 either way."""
    return rounded(x, xp.ceil(x), softness)


def floor(x: Scalar, softness: Softness = EXACT) -> Scalar:
    """The next integer down, or `x` itself when relaxed; derivative 1 either way."""
    return rounded(x, xp.floor(x), softness)


def step(x: Scalar, softness: Softness = EXACT) -> Scalar:
    """1 where x > 0, else 0; relaxed, the ramp of x between 0 and 1 (derivative of the ramp either
    way).
    """
    ramp = xp.clip(x, 0.0, 1.0)
    return rounded(ramp, xp.where(x > 0, 1.0, 0.0), softness)


def rounded(x: Scalar, target: Scalar, softness: Softness) -> Scalar:
    """The exact value `target` of what is `x` when relaxed; the derivative is that of `x`."""
    off = target - x
    off = off if softness is EXACT else xp.where(is_relaxed(softness), 0.0, off)
    return x + xp.stop_gradient(off)
