"""What tokens cost: rental of all devices, idle ones too, over the tokens that they serve.

A price of prompts beside one of answers needs a rule, as one pool serves both: each phase pays for
its share of the devices' busy time.
"""

from qsopt.arrays import Scalar, number
from qsopt.record import Record
from qsopt.units import SECONDS_PER_HOUR

MILLION = 1e6


class TokenCosts(Record):
    """US dollars per million tokens; NaN where the rental of a device is not known."""

    input: Scalar = number()
    """Of a prompt, cached ones included [US dollar]."""
    output: Scalar = number()
    """Of an answer [US dollar]."""


def cost_per_million(price_per_hour: Scalar, devices: Scalar, tokens_per_s: Scalar) -> Scalar:
    """Rental of a cluster per million tokens [US dollar].

    Args:
        price_per_hour: rental of a device [US dollar/hour].
        devices: of the cluster.
        tokens_per_s: of the cluster, positive [tokens/s].
    """
    return price_per_hour * devices / SECONDS_PER_HOUR / tokens_per_s * MILLION


def request_costs(
    price_per_hour: Scalar,
    devices: Scalar,
    requests_per_s: Scalar,
    prompt: Scalar,
    answer: Scalar,
    prefill_share: Scalar,
) -> TokenCosts:
    """Cost of prompts and of answers; over a request, both add up to the whole rental.

    Args:
        price_per_hour: rental of a device [US dollar/hour].
        devices: of the cluster.
        requests_per_s: of the cluster, positive [1/s].
        prompt: tokens of a prompt, positive [tokens].
        answer: tokens of an answer, positive [tokens].
        prefill_share: share of the devices' busy time that reads prompts.
    """
    request = cost_per_million(price_per_hour, devices, requests_per_s)
    return TokenCosts(request * prefill_share / prompt, request * (1.0 - prefill_share) / answer)
