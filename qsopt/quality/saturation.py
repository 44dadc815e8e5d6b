"""The saturating count of Clark et al. (arXiv 2202.01169, Eq. 4): start at `start`, grow with x,
level off at `cap`.
"""

from qsopt.arrays import Scalar


def saturated(x: Scalar, start: Scalar, cap: Scalar) -> Scalar:
    """1 / (1/(x + 1/(1/start - 1/cap)) + 1/cap), which is `start` at x = 0 and tends to `cap`.

    Clark and Ludziejewski put x = experts - 1; Tian puts x = activation ratio.
    """
    offset = 1.0 / (1.0 / start - 1.0 / cap)
    return 1.0 / (1.0 / (x + offset) + 1.0 / cap)
