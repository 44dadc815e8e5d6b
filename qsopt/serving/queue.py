"""Waiting for a server that reads prompts: M/D/1, requests that arrive at random and take equally
long.

At load u a request waits u / (2 (1 - u)) service times on average (Pollaczek and Khinchine). A load
of 0 leaves waiting out: the server is then taken as busy as it can be, and no request as waiting.
"""

from qsopt import xp
from qsopt.arrays import Scalar


def waiting(load: Scalar, service: Scalar) -> Scalar:
    """Mean wait before a prompt is read.

    Args:
        load: u, share of the time that the server is busy.
        service: what one request takes of it [s].
    """
    return load / (2.0 * (1.0 - load)) * service


def busiest(load: Scalar) -> Scalar:
    """Share of the time that the server may be busy: the load, or all of it where queueing is left
    out.
    """
    return xp.where(load > 0, load, 1.0)
