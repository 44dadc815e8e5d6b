"""What fits to servers make least: the loss of a row, and the weight of what is drawn to nothing.

Errors of the log of a result are taken to have a Cauchy distribution, as some results are far from
their neighbours (9 s to a first token at 8 requests, 2 s at 32): a loss of squares follows those.
Factors for the bits of weights rest on few models, so their logs are drawn to 0.
"""

import jax.numpy as jnp

from qsopt.arrays import Scalar

WIDTH = 0.2
"""Error of a log above which a row counts less."""

RIDGE = 0.05
"""Weight of the square of the log of a factor beside the mean loss of a row: of 0.1 to 0.02 it
holds out best.
"""


def loss(error: Scalar) -> Scalar:
    """Of an error of the log of a result; its square where it is small."""
    return WIDTH**2 * jnp.log1p((error / WIDTH) ** 2)
