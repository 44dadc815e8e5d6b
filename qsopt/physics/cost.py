"""What tokens cost: rental of all devices, idle ones too, over the tokens that they serve."""

from qsopt.arrays import Scalar
from qsopt.units import SECONDS_PER_HOUR

MILLION = 1e6


def cost_per_million(price_per_hour: Scalar, devices: Scalar, tokens_per_s: Scalar) -> Scalar:
    """Rental of a cluster per million tokens [US dollar].

    Args:
        price_per_hour: rental of a device [US dollar/hour].
        devices: of the cluster.
        tokens_per_s: of the cluster, positive [tokens/s].
    """
    return price_per_hour * devices / SECONDS_PER_HOUR / tokens_per_s * MILLION
