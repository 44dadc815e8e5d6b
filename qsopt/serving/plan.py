"""A way of serving made concrete: layouts of prompts and of answers, batch, and chunk."""

from qsopt.arrays import Scalar, number
from qsopt.record import Record
from qsopt.spec.deployment import Deployment

WAYS = ("decode", "mixed", "alternating", "disaggregated")
"""Ways of serving: decode alone (prompts come from elsewhere), prompts and answers in one step,
prompts between steps, and in pools of their own.
"""


class Plan(Record):
    """How one pool, or two, serve."""

    decode: Deployment
    """Layout that writes answers, and its batch."""
    prefill: Deployment
    """Layout that reads prompts; that of decode where both are one pool."""
    tokens: Scalar = number()
    """Prompt tokens of a forward that carries any, over all attention ranks [tokens]."""
    sharing: Scalar = number(1.0)
    """Attention ranks that read one prompt together; in a pool of their own only."""


def in_one_pool(deployment: Deployment, tokens: object) -> Plan:
    """The plan of a pool that does both."""
    return Plan(deployment, deployment, tokens)
